"""Reading of public .pth files, the same for every conversion: nothing in them is run, and every fault is named."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limnet.errors import MissingFileError, ModelFormatError


def read_pth(source: str | Path, example: str) -> Any:
    """What `torch.save` wrote, as long as it is tensors and plain values; on the CPU.

    Args:
        source: the file, in either serialisation of PyTorch.
        example: name of a public file, for the message when there is none.

    Raises:
        MissingFileError: no such file.
        ModelFormatError: the file is damaged or contains code.
    """
    path = Path(source)
    if not path.is_file():
        raise MissingFileError(f"{path} is not a file; give the path of a downloaded checkpoint such as {example}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelFormatError(
            f"{path} is damaged or holds more than tensors and plain values, and was not opened; give the published "
            "file as it was downloaded"
        ) from error
    except Exception as error:  # a damaged file can fail in any way inside the reader
        raise ModelFormatError(f"{path} cannot be read as a PyTorch file ({error}); download it again") from error


def read_tensors(source: str | Path, example: str) -> dict[str, Tensor]:
    """A file that is a flat dict of named tensors.

    Args:
        source: the file.
        example: see `read_pth`.

    Raises:
        MissingFileError: no such file.
        ModelFormatError: unreadable, or anything else.
    """
    path, loaded = Path(source), read_pth(source, example)
    if not isinstance(loaded, dict) or not loaded:
        raise ModelFormatError(
            f"{path} holds a {type(loaded).__name__}; a checkpoint such as {example} is a dict of tensors"
        )
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ModelFormatError(
                f"{path}: entry {key!r} is a {type(value).__name__}; a checkpoint such as {example} is a flat dict of "
                "tensors. A training checkpoint with optimizer state must be reduced to its weights first"
            )
    return loaded


def misfits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """What keeps tensors from being loaded into a network, in words; empty when they fit.

    Args:
        expected: state dict of the network, also one without values (device "meta").
        found: state dict of a file.
    """
    problems = [f"{key} is missing" for key in expected if key not in found]
    problems += [f"{key} is unknown" for key in found if key not in expected]
    for key in (k for k in expected if k in found):
        want, have = expected[key], found[key]
        if have.shape != want.shape:
            problems.append(f"{key} has shape {tuple(have.shape)} instead of {tuple(want.shape)}")
        elif have.is_floating_point() != want.is_floating_point():
            problems.append(f"{key} has dtype {have.dtype} instead of {want.dtype}")
        elif have.is_floating_point() and not bool(torch.isfinite(have).all()):
            problems.append(f"{key} holds NaN or infinite values")
    return problems


def some(items: Any) -> str:
    """The first few of some names or problems, and how many more there are."""
    names = [str(item) for item in items]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
