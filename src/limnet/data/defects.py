"""Defect sets: slices with the mask before a round, the mask after it, and how good both are.

Layout, as `recipes/quality.py collect` writes it: a .npz with image uint8 (N, S, S), previous and current bool or uint8
(N, S, S), dice float (N, 2), and references uint8 (N, 7, S, S) where prompted slices were recorded. Several files make
one set.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limnet.data.loading import ShuffledDataset
from limnet.errors import FileFormatError, InputError, MissingFileError
from limnet.quality.networks.tiny import reference_channels

_KEYS = ("image", "previous", "current", "dice")
_REFERENCES = "references"


class DefectDataset(ShuffledDataset):
    """Pairs of masks of files of one crop size, held in memory as bytes; each epoch in its own order, by `seed`.

    Raises MissingFileError, and FileFormatError for no defect set, or crops of another size than in the first file.
    """

    def __init__(self, paths: Path | str | Sequence[Path | str], seed: int = 0) -> None:
        files = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]
        if not files:
            raise InputError("no defect set was named; give at least one .npz file")
        parts = [_read(path) for path in files]
        for path, part in zip(files, parts, strict=True):
            if part.keys() != parts[0].keys():
                raise FileFormatError(f"only one of {path} and {files[0]} has {_REFERENCES}; collect both again")
            if part["image"].shape[1:] != parts[0]["image"].shape[1:]:
                raise FileFormatError(
                    f"{path} has crops of {part['image'].shape[1:]}, {files[0]} of {parts[0]['image'].shape[1:]}; "
                    "collect them with the same quality crops"
                )
        self.arrays = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        self.seed = seed

    def __len__(self) -> int:
        return len(self.arrays["dice"])

    def read(self, index: int) -> tuple[Tensor, ...]:
        """Image, previous and current uint8 (S, S), dice float32 (2,) of both masks, references (7, S, S) if any."""
        return tuple(torch.from_numpy(np.array(array[index])) for array in self.arrays.values())


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; collect a defect set with: python recipes/quality.py collect")
    try:
        with np.load(path, allow_pickle=False) as data:
            part = {key: data[key] for key in (*_KEYS, *({_REFERENCES} & set(data.files)))}
    except (KeyError, OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{path} is no defect set with {', '.join(_KEYS)} ({error}); collect it again") from error
    shape = part["image"].shape
    fits = len(shape) == 3 and shape[0] > 0 and part["image"].dtype == np.uint8 and part["dice"].shape == (shape[0], 2)
    if not fits or any(part[key].shape != shape for key in ("previous", "current")):
        found = ", ".join(f"{key} {value.dtype} {value.shape}" for key, value in part.items())
        raise FileFormatError(f"{path} holds {found}; expected image uint8 (N, S, S), masks alike and dice (N, 2)")
    references, channels = part.get(_REFERENCES), reference_channels(1)
    if references is not None and (references.dtype, references.shape) != (np.uint8, (shape[0], channels, *shape[1:])):
        raise FileFormatError(
            f"{path} holds references {references.dtype} {references.shape}; expected uint8 (N, {channels}, S, S)"
        )
    part["previous"], part["current"] = (part[key].astype(np.uint8) for key in ("previous", "current"))
    part["dice"] = part["dice"].astype(np.float32)
    return part
