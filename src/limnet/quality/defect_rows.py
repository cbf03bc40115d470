"""Gathers a defect set: slices with two masks each and how good both are, to train the quality network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError
from limnet.quality.crops import SIZE, quality_crops, reference_crops
from limnet.quality.prompted import Prompted
from limnet.slice_view import SliceView
from limnet.volume_io.atomic import atomic_write

Mask = NDArray[np.bool_]


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

        `literal` takes the paper's pixels as printed, see `limnet.simulation.corruption.draw_corruption`.
        """
        from limnet.simulation.corruption import corrupt

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
