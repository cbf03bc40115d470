"""Loggers of the recipes: a CSV file always, Weights & Biases on request."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from limnet.errors import InputError
from limnet.training.option_types import whole

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

METRICS = "metrics.csv"


def add_logger_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --wandb, --wandb-project and --images."""
    group = parser.add_argument_group("logging", "OUT/metrics.csv is always written, OUT/images at every validation")
    group.add_argument(
        "--wandb",
        nargs="?",
        const="online",
        choices=("online", "offline"),
        help="log to Weights & Biases too; `--wandb offline` writes to OUT/wandb and needs no network or account",
    )
    group.add_argument("--wandb-project", default="limnet", help="project there (default: limnet)")
    group.add_argument(
        "--images", type=whole(0), default=8, help="slices in the picture of a validation, 0 for none (default: 8)"
    )


def make_loggers(args: argparse.Namespace) -> list[Logger]:
    """Loggers for the Trainer; wandb is imported only if it was asked for.

    A training that is resumed keeps the metrics before: they move to OUT/metrics.1.csv, .2 and so on.

    Args:
        args: options of `add_logger_arguments`, and out and resume.

    Raises:
        InputError: --wandb without the wandb package.
    """
    from lightning.fabric.utilities.rank_zero import rank_zero_only
    from lightning.pytorch.loggers import CSVLogger, WandbLogger

    if args.resume:
        rank_zero_only(keep_metrics)(args.out)
    loggers: list[Logger] = [CSVLogger(args.out, name="", version="")]
    if args.wandb:
        args.out.mkdir(parents=True, exist_ok=True)
        try:
            import_module("wandb")
            loggers.append(
                WandbLogger(
                    project=args.wandb_project, name=args.out.name, save_dir=args.out, offline=args.wandb == "offline"
                )
            )
        except ModuleNotFoundError as error:
            raise InputError("--wandb needs the wandb package: pip install 'limnet[train]'") from error
    return loggers


def keep_metrics(folder: Path) -> Path | None:
    """Move metrics.csv out of the way, to metrics.1.csv or the next free number; None where there is none."""
    current = folder / METRICS
    if not current.is_file():
        return None
    number = 1
    while (kept := current.with_suffix(f".{number}.csv")).exists():
        number += 1
    return current.rename(kept)
