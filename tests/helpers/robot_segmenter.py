"""A stand-in for the segmenter: each round repairs part of the truth it was given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage


class FakeObject:
    """Grows from an eroded truth to the truth itself, one step per click."""

    def __init__(self, truth: np.ndarray) -> None:
        self.truth = truth
        self.clicks: list[tuple[tuple[int, int, int], bool]] = []
        self.mask = np.zeros_like(truth)
        self.quality = np.linspace(0.6, 0.9, len(truth)).astype(np.float32)

    def click(self, zyx, positive=True, progress=None):
        self.clicks.append((tuple(zyx), positive))
        steps = max(0, 3 - len(self.clicks))
        self.mask = ndimage.binary_erosion(self.truth, iterations=steps) if steps else self.truth.copy()
        self.mask[:2] = False
        if len(self.clicks) == 2:
            self.mask[:, :, : self.truth.shape[2] // 4] |= self.truth[:, :, : self.truth.shape[2] // 4]
        if progress is not None:
            for done in range(1, 5):
                progress(done, 4)
        return self.mask


class FakeSegmenter:
    """`open(path)` gives a case whose objects are the named structures of a label array (D, H, W)."""

    identity = {"name": "fake", "classes": [], "sha256": "0" * 64}  # noqa: RUF012

    def __init__(self, labels: np.ndarray, structures: dict[str, int]) -> None:
        self.labels, self.structures = labels, structures
        self.opened: list[Path] = []
        self.objects: dict[str, FakeObject] = {}

    def open(self, path):
        self.opened.append(Path(path))
        return self

    def object(self, name):
        if name not in self.objects:
            self.objects[name] = FakeObject(self.labels == self.structures[name])
        return self.objects[name]

    def save_labels(self, path):
        self.saved = Path(path)
