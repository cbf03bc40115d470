"""Defect sets: slices with the mask before a round, the mask after it, and how good both are.

Layout, as `recipes/quality.py collect` writes it: a .npz with image uint8 (N, S, S), previous and current bool or uint8
(N, S, S), dice float (N, 2), and references uint8 (N, 7, S, S) where prompted slices were recorded. Several files make
one set.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limnet.data.loading import ShuffledDataset
from limnet.errors import FileFormatError, InputError, MissingFileError
from limnet.image.io.atomic import atomic_write
from limnet.image.slice_view import SliceView
from limnet.quality.assessor import SIZE, Prompted, quality_crops, reference_crops
from limnet.quality.networks.tiny import reference_channels
from limnet.simulation.corruptions import corrupt

Mask = NDArray[np.bool_]

_KEYS = ("image", "previous", "current", "dice")
_REFERENCES = "references"


class DefectDataset(ShuffledDataset):
    """Pairs of masks, held in memory as bytes; found by (epoch, number), each epoch in its own order.

    Args:
        paths: files of one crop size.
        seed: of the orders.

    Raises:
        MissingFileError: no such file.
        FileFormatError: no defect set, or crops of another size than in the first file.
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


class DefectRows:
    """Rows of a defect set, in the order they were added.

    Args:
        size: side of the crops.

    Attributes:
        rows: image uint8 (S, S), previous bool (S, S), current bool (S, S), dice float32 (2,) and references uint8
            (7, S, S), 255 times what `reference_crops` gives, of every pair.
    """

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self.rows: dict[str, list[NDArray[Any]]] = {
            name: [] for name in ("image", "previous", "current", "dice", "references")
        }

    def __len__(self) -> int:
        return len(self.rows["dice"])

    def add(
        self,
        view: SliceView,
        index: int,
        previous: Mask,
        current: Mask,
        truth: Mask,
        prompted: Prompted | None = None,
    ) -> None:
        """Add a slice with its two masks and the truth, all bool (H, W); equal masks teach nothing and are left out.

        Args:
            view: volume along the case's axis.
            index: slice.
            previous: mask before the round.
            current: mask after it.
            truth: true mask.
            prompted: what the user said by then; None for nothing.
        """
        if not (previous != current).any():
            return
        pair = [mask.astype(np.float32) for mask in (previous, current)]
        image, old, new = quality_crops(view, index, pair, size=self.size)
        self.rows["image"].append((image[0, 0].numpy() * 255).astype(np.uint8))
        self.rows["previous"].append(old[0, 0].numpy() > 0.5)
        self.rows["current"].append(new[0, 0].numpy() > 0.5)
        references = reference_crops(view, index, pair, prompted, size=self.size)
        self.rows["references"].append((references[0].numpy() * 255).round().astype(np.uint8))
        self.rows["dice"].append(np.array([_dice(mask, truth) for mask in (previous, current)], np.float32))

    def add_truth(
        self,
        view: SliceView,
        index: int,
        mask: Mask,
        truth: Mask,
        rng: np.random.Generator,
        prompted: Prompted | None = None,
    ) -> None:
        """Add a slice with a round's mask and the true one, which of them is the earlier one by the toss of a coin."""
        pair = (mask, truth) if rng.random() < 0.5 else (truth, mask)
        self.add(view, index, *pair, truth, prompted)

    def add_corrupted(
        self, view: SliceView, index: int, truth: Mask, rng: np.random.Generator, literal: bool = False
    ) -> None:
        """Add a slice with two masks that are the truth damaged in two of the paper's ways; one in five stays whole.

        `literal` takes the paper's pixels as printed, see `limnet.simulation.corruptions.draw_corruption`.
        """
        if not truth.any() or truth.all():
            return
        pair = [
            truth if rng.random() < 0.1 else corrupt(truth, int(rng.integers(2**62)), literal=literal)[0]
            for _ in range(2)
        ]
        self.add(view, index, pair[0], pair[1], truth)

    def save(self, path: Path) -> float:
        """Write a compressed .npz; returns the share of pairs whose previous mask is the better one.

        Raises:
            InputError: there are no rows.
        """
        if not len(self):
            raise InputError("no round has changed a slice; collect more cases, or of larger objects")
        arrays: dict[str, Any] = {name: np.stack(values) for name, values in self.rows.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, lambda place: np.savez_compressed(place, **arrays))
        return float((arrays["dice"][:, 0] > arrays["dice"][:, 1]).mean())


def _dice(mask: Mask, truth: Mask) -> float:
    return float((2 * (mask & truth).sum() + 1) / (mask.sum() + truth.sum() + 1))
