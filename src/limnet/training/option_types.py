"""Types of command line options: numbers that argparse checks, so that a wrong one ends in one line."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

LARGEST_SEED = 2**32 - 1


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A type for whole numbers from `least` to `most` (None: without end)."""
    allowed = f"of at least {least}" if most is None else f"from {least} to {most}"

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"{text} came; give a whole number {allowed}")
        return value

    return number


def positive(text: str) -> float:
    """A type for numbers above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} came; give a number above 0")
    return value


seed = whole(0, LARGEST_SEED)
"""A type for seeds."""
