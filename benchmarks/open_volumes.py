"""Dice after every round on the open volumes, one click a round by the robot user.

    python benchmarks/open_volumes.py --data ROOT --model limnet-tiny --split val --out benchmarks/results/open_val.json

The same as `limnet bench open`. Every object of at least 300 voxels is segmented in a case of its own. Ids of semantic
label maps are objects, except lesions and nodules, whose connected components are. `--per-file N` takes N objects per
file, spread evenly over the ids; `--per-group N` at most N files of one group. Finished objects are kept: an
interrupted run goes on from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from limnet.bench.limnet_predictor import LimnetPredictor
from limnet.bench.suite import SuiteOptions
from limnet.bench.suites.open import build
from limnet.commands.bench import run_all
from limnet.commands.guard import exit_code, show_error
from limnet.errors import LimnetError


def build_parser() -> argparse.ArgumentParser:
    """Options of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--model", default="limnet-tiny", help="zoo name, model folder or Hub id")
    parser.add_argument("--split", choices=("train", "val"), default="val")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--scope", choices=("volume", "interval"), help="propagation scope; the model's own by default")
    parser.add_argument("--tau", type=float, help="fusion threshold; 1 turns fusion off; the model's own by default")
    parser.add_argument("--per-file", type=int, help="at most so many objects of a file")
    parser.add_argument("--per-group", type=int, help="at most so many files of a group")
    parser.add_argument("--skip", default="2d/", help="leave out files whose name holds this (default: 2d/)")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--devices", default="1", help="processes")
    parser.add_argument("--out", type=Path, required=True)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run, write JSON and CSV, print the tables."""
    args = build_parser().parse_args(argv)
    try:
        options = SuiteOptions(args.split, args.rounds, args.per_file, args.per_group)
        suite = build(args.data, options, skip=(args.skip,))
        predictor = LimnetPredictor(args.model, args.scope, args.tau, threads=args.threads)
        run_all(suite, [predictor], args.out, devices=args.devices)
    except (LimnetError, OSError) as error:
        show_error(error)
        raise SystemExit(exit_code(error)) from error


if __name__ == "__main__":
    main()
