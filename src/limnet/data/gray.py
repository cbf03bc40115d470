"""Colour pictures as one channel, for networks that see one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import LabelledCase
from limnet.image.volume import Volume

GRAYS: dict[str, tuple[float, float, float]] = {
    "luminance": (0.299, 0.587, 0.114),
    "mean": (1 / 3, 1 / 3, 1 / 3),
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
}
"""Name -> shares of red, green and blue; luminance after ITU-R BT.601."""


def gray_case(case: LabelledCase, name: str) -> LabelledCase:
    """The case with its image in one channel, by a name in `GRAYS`.

    Luminance is left to decoding, which takes it anyhow; CT and MR have no colours.
    """
    if name == "luminance" or case.modality in ("ct", "mr"):
        return case
    return replace(case, read_image=partial(read_gray, case.read_image, GRAYS[name]))


def read_gray(read: Callable[[], Volume], weights: tuple[float, float, float]) -> Volume:
    """An image (D, H, W, 3) as (D, H, W), frame by frame, in the dtype it has; gray ones stay as they are."""
    volume = read()
    if not volume.is_color:
        return volume
    array = np.stack([mix_channels(frame, weights) for frame in volume.array])
    return Volume.from_array(array, affine=volume.affine, convention=volume.convention, source=volume.source)


def mix_channels(frame: NDArray[np.generic], weights: tuple[float, float, float]) -> NDArray[np.generic]:
    """A picture (H, W, 3) as (H, W) in its own dtype, within its own range."""
    mixed = np.tensordot(frame.astype(np.float32), np.array(weights, np.float32), axes=1)
    mixed = np.clip(mixed, float(frame.min()), float(frame.max()))  # type: ignore[type-var]
    return np.rint(mixed).astype(frame.dtype) if frame.dtype.kind in "iu" else mixed
