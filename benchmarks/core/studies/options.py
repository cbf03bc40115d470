"""Options that all analysis scripts share."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.core.registry import SUITES, build_suite
from benchmarks.core.studies.objects import StudyObject, study_objects
from benchmarks.core.suite import SuiteOptions
from limnet.training.option_types import whole

_LEFT_OUT = ("out", "data")


def study_parser(about: str, rounds: int = 6) -> argparse.ArgumentParser:
    """A parser with the options all analysis scripts share.

    Args:
        about: text of --help, the module's docstring.
        rounds: default of --rounds.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data of the suite")
    parser.add_argument("--suite", choices=sorted(SUITES), default="open", help="default: open, the open volumes")
    parser.add_argument("--out", type=Path, required=True, help="folder for JSON, table and plot")
    parser.add_argument("--model", default="limnet-tiny", help="zoo name, model folder or Hub id")
    parser.add_argument("--split", default="val", help="default: val")
    parser.add_argument("--rounds", type=whole(1), default=rounds, help=f"rounds of one click (default: {rounds})")
    parser.add_argument("--per-file", type=whole(1), help="objects per case, spread evenly; all by default")
    parser.add_argument("--per-group", type=whole(1), help="cases per group; all by default")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is random (default: 0)")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0 leaves them as they are")
    return parser


def objects_of(args: argparse.Namespace) -> Iterator[StudyObject]:
    """The objects the options ask for."""
    options = SuiteOptions(split=args.split, per_case=args.per_file, per_group=args.per_group, axis=0)
    return study_objects(build_suite(args.suite, args.data, options), args.only)


def set_threads(args: argparse.Namespace) -> None:
    """Give torch the number of threads asked for."""
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)


def command_of(script: str, parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """The command that repeats this run, without paths of this machine and without defaults."""
    parts = [f"limnet bench {script}", *(["--data ROOT"] if hasattr(args, "data") else [])]
    for name, value in vars(args).items():
        if name in _LEFT_OUT or value == parser.get_default(name) or value is None:
            continue
        value = Path(value) if name == "model" else value
        flag = "--" + name.replace("_", "-")
        parts.append(flag if value is True else f"{flag} {_shown(value)}")
    return " ".join(parts)


def fixed_of(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options by these names that all rows of a record share, and always suite, split and seed."""
    return {name: getattr(args, name) for name in ("suite", "split", "seed", *names)}


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)) and type(value).__str__ is object.__str__:
        return ",".join(map(_shown, value))
    return value.name if isinstance(value, Path) else str(value)
