"""Choosing one volume of a file that holds several."""

from __future__ import annotations

import operator
from pathlib import Path

from limnet.errors import InputError, InputTypeError, OutsideError


def chosen(path: Path, count: int, index: int | None, what: str = "volumes") -> int:
    """The checked index among `count` volumes (which may be 1).

    Raises:
        InputError: several and no index, or an index where there is just one volume.
        OutsideError: index not in 0..count-1.
    """
    if index is None:
        if count == 1:
            return 0
        raise InputError(f"{path} holds {count} {what}. Choose one with index=0..{count - 1}")
    try:
        number = operator.index(index)
    except TypeError as error:
        raise InputTypeError(f"index {index!r} came: expected a whole number 0..{count - 1}") from error
    if not 0 <= number < count:
        raise OutsideError(f"index {number} came, but {path} holds {count} {what}: allowed are 0..{count - 1}")
    return number
