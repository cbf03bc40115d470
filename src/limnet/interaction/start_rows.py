"""Gathers slices as users find them: the mask that real rounds left, and the truth, to train the click network on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError
from limnet.interaction.features import window_pixels
from limnet.interaction.window import Window, join, mask_box, window_around
from limnet.view import SliceView
from limnet.volume_io.atomic import atomic_write

Mask = NDArray[np.bool_]


class StartRows:
    """Rows of a shard with start masks (`limnet.datasets.shards`), in the order they were added.

    Args:
        size: side of the windows in network pixels.

    Attributes:
        rows: image uint8 (2, S, S), mask bool (2, S, S) and start mask bool (2, S, S) of every row: the slice with its
            truth and what rounds left of it, and through the same window the prompted slice next to it with the mask it
            got, whose start mask is empty.
    """

    def __init__(self, size: int = 160) -> None:
        self.size = size
        self.rows: dict[str, list[NDArray]] = {"image": [], "mask": [], "start": []}

    def __len__(self) -> int:
        return len(self.rows["image"])

    def add(
        self, view: SliceView, index: int, truth: Mask, before: Mask, prompted: Mapping[int, Mask] | None = None
    ) -> None:
        """Add a slice in a window around both its masks; where they are equal there is nothing to learn.

        Args:
            view: volume along the case's axis.
            index: slice.
            truth: bool (H, W).
            before: bool (H, W), what rounds left.
            prompted: prompted slices with their masks; the nearest other one that holds the object goes into the row,
                zeros where there is none.
        """
        box = join(mask_box(truth), mask_box(before))
        if box is None or not (truth != before).any():
            return
        window = window_around(box, view.shape, view.spacing, self.size)
        held = [i for i, mask in (prompted or {}).items() if i != index and mask.any()]
        near = min(held, key=lambda i: abs(i - index), default=None)
        pixels = np.zeros((2, self.size, self.size), np.uint8)
        masks = {"mask": np.zeros(pixels.shape, bool), "start": np.zeros(pixels.shape, bool)}
        pixels[0], masks["mask"][0], masks["start"][0] = (
            _seen(view, window, index),
            _cut(window, truth),
            _cut(window, before),
        )
        if near is not None and prompted is not None:
            pixels[1], masks["mask"][1] = _seen(view, window, near), _cut(window, prompted[near])
        for name, array in (("image", pixels), *masks.items()):
            self.rows[name].append(array)

    def save(self, stem: Path) -> None:
        """Write STEM_image.npy, STEM_mask.npy and STEM_start.npy; the image comes last, without it there is no shard.

        Raises:
            InputError: there are no rows.
        """
        if not len(self):
            raise InputError("no round has left a wrong mask; collect more cases")
        stem.parent.mkdir(parents=True, exist_ok=True)
        for name in ("start", "mask", "image"):
            array = np.stack(self.rows[name])
            if name != "image":
                array = np.packbits(array.reshape(*array.shape[:2], -1), axis=-1)
            target = stem.with_name(f"{stem.name}_{name}.npy")
            atomic_write(target, lambda path, array=array: np.save(path, array))  # type: ignore[misc]


def _seen(view: SliceView, window: Window, index: int) -> NDArray[np.uint8]:
    return (window_pixels(view, index, window, 1)[0, 0].numpy() * 255 + 0.5).astype(np.uint8)


def _cut(window: Window, mask: Mask) -> Mask:
    return np.asarray(window.crop(mask.astype(np.float32), edge=False)[0, 0].numpy() > 0.5)
