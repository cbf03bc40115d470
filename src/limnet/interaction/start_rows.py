"""Gathers slices as users find them: the mask that real rounds left, and the truth, to train the click network on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError
from limnet.interaction.features import window_pixels
from limnet.interaction.window import join, mask_box, window_around
from limnet.slice_view import SliceView
from limnet.volume_io.atomic import atomic_write

Mask = NDArray[np.bool_]


class StartRows:
    """Rows of a shard with start masks (`limnet.datasets.shards`), in the order they were added.

    Args:
        size: side of the windows in network pixels.

    Attributes:
        rows: image uint8 (S, S), truth bool (S, S) and start mask bool (S, S) of every slice.
    """

    def __init__(self, size: int = 160) -> None:
        self.size = size
        self.rows: dict[str, list[NDArray[Any]]] = {"image": [], "mask": [], "start": []}

    def __len__(self) -> int:
        return len(self.rows["image"])

    def add(self, view: SliceView, index: int, truth: Mask, before: Mask) -> None:
        """Add a slice in a window around both masks, bool (H, W); where they are equal there is nothing to learn."""
        box = join(mask_box(truth), mask_box(before))
        if box is None or not (truth != before).any():
            return
        window = window_around(box, view.shape, view.spacing, self.size)
        pixels = window_pixels(view, index, window, 1)[0, 0].numpy()
        self.rows["image"].append((pixels * 255 + 0.5).astype(np.uint8))
        for name, mask in (("mask", truth), ("start", before)):
            self.rows[name].append(window.crop(mask.astype(np.float32), edge=False)[0, 0].numpy() > 0.5)

    def save(self, stem: Path) -> None:
        """Write STEM_image.npy, STEM_mask.npy and STEM_start.npy; the image comes last, without it there is no shard.

        Raises:
            InputError: there are no rows.
        """
        if not len(self):
            raise InputError("no round has left a wrong mask; collect more cases")
        stem.parent.mkdir(parents=True, exist_ok=True)
        for name in ("start", "mask", "image"):
            array = np.stack(self.rows[name])[:, None]
            if name != "image":
                array = np.packbits(array.reshape(len(array), 1, -1), axis=-1)
            target = stem.with_name(f"{stem.name}_{name}.npy")
            atomic_write(target, lambda path, array=array: np.save(path, array))  # type: ignore[misc]
