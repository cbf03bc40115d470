"""What sessions of peers that work on the whole volume share: clicks, the windowed image, the mask so far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.baselines.appearance import Clicks, sampled
from benchmarks.baselines.grid import gray, window_at
from benchmarks.core.protocol import Voxel
from limnet.volume import Volume

_SAMPLE = 2.5  # smallest voxel sides: values this near to a click tell how the object looks


class VolumeSession(ABC):
    """One object; every click segments anew from all clicks. Without a positive click the mask is empty.

    Args:
        volume: the image.
        axis: slice axis; it only chooses where the display window is looked up.
    """

    def __init__(self, volume: Volume, axis: int) -> None:
        self.volume, self.axis = volume, axis
        self.clicks = Clicks()
        self.mask = np.zeros(volume.shape, bool)

    def click(self, zyx: Voxel, positive: bool) -> NDArray[np.bool_]:
        """One round; bool (D, H, W)."""
        self.clicks = self.clicks.with_click(zyx, positive)
        if self.clicks.positive:
            self.mask = self.segment()
        return self.mask

    @abstractmethod
    def segment(self) -> NDArray[np.bool_]:
        """Mask (D, H, W) from `clicks`, at least one of them positive; `mask` is still that of the round before."""

    @cached_property
    def image(self) -> NDArray[np.float32]:
        """(D, H, W) gray values in [0, 1], in the window of the first positive click."""
        return gray(self.volume, window_at(self.volume, self.axis, self.clicks.positive[0]))

    def samples(self) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Gray values around each positive and around each negative click."""
        radius = _SAMPLE * min(self.volume.spacing)
        inside = sampled(self.image, self.clicks.positive, self.volume.spacing, radius)
        return inside, sampled(self.image, self.clicks.negative, self.volume.spacing, radius)


def connected(mask: NDArray[np.bool_], clicks: Clicks) -> NDArray[np.bool_]:
    """The 6-connected components of a (D, H, W) mask that hold a positive click."""
    labels, _ = ndimage.label(mask)
    wanted = {int(labels[v]) for v in clicks.positive} - {0}
    return np.isin(labels, sorted(wanted)) if wanted else np.zeros_like(mask)
