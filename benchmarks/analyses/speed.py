"""How fast limnet is beside its references and peers, and how its memory grows.

    limnet bench speed --out benchmarks/results              # standard: 480 x 480, 6 minutes on two cores
    limnet bench speed --out benchmarks/results --full       # 480 and 512, memory of base too, 12 minutes
    limnet bench speed --out out/speed --quick               # small images, to see that it works, 1 minute

Wants a machine that does nothing else. Methods take turns, lap by lap, in one process per size; memory is looked at in
a fresh process per depth. After `--minutes` no lap begins any more, but there are two at least. What is finished is
kept: the same command goes on where it was stopped, also to more laps. SAM 2 needs transformers, nnInteractive's
network dynamic-network-architectures; without them they are left out, and the result says so; with them a lap
takes about four minutes. All weights but those of `--model` are random.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.core.studies.options import command_of
from benchmarks.core.studies.record import Record
from benchmarks.timing.methods import METHODS, entry_of
from benchmarks.timing.plan import FULL, QUICK, STANDARD, Plan, carry_out
from benchmarks.timing.report import write_speed_report
from benchmarks.timing.scene import SEED
from limnet.environment import cpu_model
from limnet.segmenter import InteractiveSegmenter


def build_parser() -> argparse.ArgumentParser:
    """Options of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for JSON, tables and plot")
    much = parser.add_mutually_exclusive_group()
    much.add_argument("--quick", action="store_true", help="small images, one thread, fp32")
    much.add_argument("--full", action="store_true", help="two sizes, more depths, memory of base")
    parser.add_argument("--model", default="limnet-tiny", help="zoo name, model folder or Hub id behind 'tiny'")
    parser.add_argument("--methods", type=_words, help=f"comma between, of {', '.join(METHODS)} (default: all)")
    parser.add_argument("--sizes", type=_numbers, help="sides of a slice in pixels, comma between")
    parser.add_argument("--slices", type=int, help="slices of the timed volume; heavy methods get fewer")
    parser.add_argument("--threads", type=_numbers, help="numbers of threads, comma between")
    parser.add_argument("--precisions", type=_words, help="of fp32 and bf16, comma between")
    parser.add_argument("--repeats", type=int, help="laps at most")
    parser.add_argument("--minutes", type=float, help="time for all; 0 sets no limit (default: 6, full 12, quick 1)")
    parser.add_argument("--device", default="cpu", help="where to compute (default: cpu)")
    return parser


def plan_of(args: argparse.Namespace) -> Plan:
    """The plan the options ask for."""
    plan = QUICK if args.quick else FULL if args.full else STANDARD
    names = ("methods", "sizes", "slices", "threads", "precisions", "repeats", "minutes")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    for name in given.get("methods", ()):
        entry_of(name)
    return replace(plan, model=args.model, device=args.device, **given)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then write tables and plot."""
    parser = build_parser()
    args = parser.parse_args(argv)
    plan = plan_of(args)
    fixed = {
        "model": InteractiveSegmenter.from_pretrained(args.model).identity,
        "cpu": cpu_model(),
        "device": args.device,
        "seed": SEED,
    }
    record = Record(args.out, "speed", command_of("speed", parser, args), fixed)
    carry_out(plan, record)
    print(write_speed_report(record).read_text(encoding="utf-8"))


def _numbers(text: str) -> tuple[int, ...]:
    found = tuple(int(part) for part in text.split(","))
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} came; give numbers of at least 1, comma between")
    return found


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


if __name__ == "__main__":
    main()
