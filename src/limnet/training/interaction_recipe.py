"""What the recipes of the click network share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from limnet.errors import LimnetError
from limnet.training.recipe_options import add_data_arguments, add_loss_weights, add_recipe_arguments, parse_recipe


def add_interaction_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """Add the options of a training of the click network; `out` is the default of --out."""
    add_recipe_arguments(parser, "interaction", out)
    add_data_arguments(parser, "d2", "val2d")
    parser.add_argument("--freeze-encoder", action="store_true", default=None, help="train the prompt half only")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), help="default: adamw; muon needs fewer steps")
    parser.add_argument("--clicks", type=int, help="most clicks of a sample (default: 4)")
    parser.add_argument(
        "--carrier", help="propagation network whose carried masks are start masks: a model, its part or a zoo name"
    )
    parser.add_argument("--carried", type=float, default=0.2, help="share of the samples they are (default: .2)")
    parser.add_argument(
        "--started",
        "--defects",
        type=float,
        help="share of samples with a mask or box to begin with (default: .65; HRNetOCR: defective masks, .25)",
    )
    parser.add_argument(
        "--own", type=float, help="share of samples that begin with the network's own mask (default: .2)"
    )
    parser.add_argument("--corruption", type=float, help="share of the paper's defects of damaged masks (default: .5)")
    parser.add_argument(
        "--erase",
        type=float,
        help="share of samples whose start mask lies on a wrong object (default: .08, HRNetOCR .05; RITM has none)",
    )
    parser.add_argument(
        "--literal-pixels",
        action="store_true",
        default=None,
        help="defects of 10 to 30 pixels as the paper prints them, whatever the object's size",
    )
    add_loss_weights(parser)


def train_interaction(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> None:
    """Parse, train, validate, and write the averaged network to OUT/interaction.

    Args:
        parser: with `add_interaction_arguments`.
        argv: arguments; those of the process by default.

    Raises:
        SystemExit: with one line, for everything the user can mend.
    """
    args = parse_recipe(parser, "interaction", argv)
    from limnet.hub.folder import load_component
    from limnet.training.data import make_data
    from limnet.training.fit import fit, prepare
    from limnet.training.start import choose_network, find_part, make_module

    try:
        prepare(args)
        start = choose_network(args, "interaction", find_part(args.init, "interaction") if args.init else None)
        options = {
            "freeze_encoder": args.freeze_encoder,
            "optimizer": args.optimizer,
            "loss_weights": args.loss_weights,
            "clicks": args.clicks,
            "started": args.started,
            "own": args.own,
            "corruption": args.corruption,
            "erase": args.erase,
            "literal_pixels": args.literal_pixels,
            "carried": args.carried if args.carrier else None,
            "max_minutes": args.minutes,
        }
        module = make_module(args, "interaction", options, start)
        if args.carrier:
            module.start_from(load_component(find_part(args.carrier, "propagation"), "propagation"))
        fit(args, "interaction", module, lambda processes: make_data(args, "interaction", processes))
    except LimnetError as error:
        raise SystemExit(f"{parser.prog}: {error}") from error
