"""Train the propagation network.

On clips drawn ahead (recipes/make_shards.py), or on data sets as their owners ship them:

    python recipes/propagation.py --shards shards --init runs/stage1/interaction --out runs/propagation
    python recipes/propagation.py --preset paper --mix paper-propagation --root kits19=PATH --init xmem/propagation

`--init` takes a propagation network, or, for the small one, an interaction network, from whose halves it starts
(`limnet.tasks.warm_start`); with its image half frozen, the two share their cached features. Stop it at any time:
`--resume` goes on from OUT/last.ckpt. OUT/propagation/ holds the averaged network as a model folder part.
docs/training.md explains.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limnet.training.options import add_data_arguments, add_loss_weights, add_recipe_arguments, parse_recipe

if TYPE_CHECKING:
    from torch import nn


def build_parser() -> argparse.ArgumentParser:
    """Options of this recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_recipe_arguments(parser, "propagation", "runs/propagation")
    add_data_arguments(parser, "clip", "valclip")
    add_loss_weights(parser)
    parser.add_argument("--optimizer", choices=("adamw", "muon"), help="default: adamw; muon needs fewer steps")
    parser.add_argument(
        "--prompter", help="click network whose answers are prompt masks: a model, its part or a zoo name"
    )
    parser.add_argument("--prompted", type=float, default=0.5, help="share of the clips they are (default: .5)")
    parser.add_argument(
        "--forcing-steps", type=int, help="steps until true masks are no longer handed on (default: an eighth)"
    )
    parser.add_argument("--train-encoder", action="store_true", help="do not freeze the image half (TinyPropagation)")
    return parser


def find_start(init: str | None) -> tuple[Path | None, nn.Module | None]:
    """What --init names: a propagation network's folder, or an interaction network."""
    from limnet.hub.folder import CONFIG, load_component
    from limnet.training.train import find_part, role_of

    if init is None:
        return None, None
    folder = find_part(init, "propagation")
    if not (folder / CONFIG).is_file():  # OUT of stage1 holds an interaction network alone
        folder = folder.with_name("interaction")
    if role_of(folder) == "propagation":
        return folder, None
    return None, load_component(folder, "interaction")


def main(argv: Sequence[str] | None = None) -> None:
    """Train, validate, and write the averaged network."""
    parser = build_parser()
    args = parse_recipe(parser, "propagation", argv)
    from limnet.errors import LimnetError
    from limnet.hub.folder import load_component
    from limnet.tasks.warm_start import warm_start
    from limnet.training.train import choose_network, find_part, fit, make_data, make_module, prepare

    try:
        prepare(args)
        folder, interaction = find_start(args.init)
        start = choose_network(args, "propagation", folder)
        options: dict[str, Any] = {"loss_weights": args.loss_weights, "optimizer": args.optimizer}
        options |= {"prompted": args.prompted if args.prompter else None, "max_minutes": args.minutes}
        if args.network == "TinyPropagation":
            forcing = args.steps // 8 if args.forcing_steps is None else args.forcing_steps
            options |= {"freeze_encoder": not args.train_encoder, "forcing_steps": forcing}
        module = make_module(args, "propagation", options, start)
        if args.prompter:
            module.prompt_by(load_component(find_part(args.prompter, "interaction"), "interaction"))
        if interaction is not None:
            for network in (module.network, module.average):
                warm_start(network, interaction)
        fit(args, "propagation", module, lambda processes: make_data(args, "propagation", processes))
    except LimnetError as error:
        raise SystemExit(f"{parser.prog}: {error}") from error


if __name__ == "__main__":
    main()
