"""Peer: region growing from the clicks within a confidence interval of their gray values (SimpleITK)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.baselines.borders import border_strength
from benchmarks.baselines.boxes import faces, trial_boxes
from benchmarks.baselines.grid import Grid, Range
from benchmarks.baselines.volume_session import VolumeSession, connected
from limnet.agreement import agreement
from limnet.volume import Volume

MULTIPLIERS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Half widths of the interval tried, in standard deviations."""

_LEAST = 20  # nodes: smaller regions are single voxels that stand out of the noise


@dataclass(frozen=True)
class ConfidenceConnectedPeer:
    """ConfidenceConnected region growing; the defaults were chosen on training volumes.

    Width of the interval and box are those at which the border of the region follows edges best. Of a region that holds
    a negative click everything nearer to it than to a positive click is taken away.

    Attributes:
        iterations: how often the interval is measured anew in the region found.
        radius: neighbourhood of a click in which the interval is measured first, in nodes.
        smooth: standard deviation of the smoothing before, in nodes.
        closing: holes of this many nodes are closed.
        small: bonus in border strength for every halving of the box.
        keep: bonus for agreement (Dice) with the mask of the round before.
        coarse: nodes of the grid of a trial.
        nodes: greatest number of nodes of the last grid.
    """

    iterations: int = 2
    radius: int = 1
    smooth: float = 0.7
    closing: int = 1
    small: float = 0.06
    keep: float = 0.3
    coarse: int = 20_000
    nodes: int = 300_000

    @property
    def name(self) -> str:
        """Name in tables."""
        return "confidence connected"

    def start(self, volume: Volume, axis: int) -> ConfidenceConnectedSession:
        """Begin one object; see `benchmarks.core.protocol.Predictor`."""
        return ConfidenceConnectedSession(self, volume, axis)


class ConfidenceConnectedSession(VolumeSession):
    """One object in the hands of a `ConfidenceConnectedPeer`."""

    def __init__(self, peer: ConfidenceConnectedPeer, volume: Volume, axis: int) -> None:
        super().__init__(volume, axis)
        self.peer = peer

    def segment(self) -> NDArray[np.bool_]:
        """See `VolumeSession.segment`."""
        box, multiplier = self._choose()
        grid = Grid.on(box, self.volume.spacing, self.peer.nodes)
        found = self._grow(grid, self._smoothed(grid), multiplier)
        mask = np.zeros(self.volume.shape, bool)
        mask[grid.box] = grid.to_voxels(found.astype(np.float32)) >= 0.5
        for voxel in self.clicks.positive:
            mask[voxel] = True
        return connected(mask, self.clicks)

    def _choose(self) -> tuple[tuple[Range, ...], float]:
        best: tuple[float, tuple[Range, ...], float] | None = None
        before = self.mask.astype(np.float32) if self.mask.any() else None
        for scale, box in trial_boxes(self.clicks.positive, self.volume.shape, self.volume.spacing):
            grid = Grid.on(box, self.volume.spacing, self.peer.coarse)
            smoothed = self._smoothed(grid)
            sides = faces(grid, self.volume.shape)
            old = None if before is None else grid.means(before) > 0.5
            for multiplier in MULTIPLIERS:
                found = self._grow(grid, smoothed, multiplier) & ~sides
                if best is not None and np.count_nonzero(found) < _LEAST:
                    continue
                score = border_strength(found, smoothed, grid.spacing, sides) - self.peer.small * float(np.log2(scale))
                if old is not None:
                    score += self.peer.keep * agreement(found, old)
                if best is None or score > best[0]:
                    best = score, box, multiplier
        assert best is not None  # the whole volume is always tried
        return best[1], best[2]

    def _smoothed(self, grid: Grid) -> NDArray[np.float32]:
        values = grid.means(self.image)
        return ndimage.gaussian_filter(values, self.peer.smooth) if self.peer.smooth else values

    def _grow(self, grid: Grid, values: NDArray[np.float32], multiplier: float) -> NDArray[np.bool_]:
        """Region of the positive clicks on a grid, closed, without what belongs to negative ones."""
        import SimpleITK as sitk

        nodes = [node for voxel in self.clicks.positive if (node := grid.node_of(voxel)) is not None]
        region = sitk.ConfidenceConnected(
            sitk.GetImageFromArray(values),
            seedList=[tuple(reversed(node)) for node in nodes],
            numberOfIterations=self.peer.iterations,
            multiplier=multiplier,
            initialNeighborhoodRadius=self.peer.radius,
            replaceValue=1,
        )
        found = sitk.GetArrayFromImage(region) > 0
        if self.peer.closing:
            wide = self.peer.closing + 1
            closed = ndimage.binary_closing(np.pad(found, wide, mode="edge"), iterations=self.peer.closing)
            found |= closed[wide:-wide, wide:-wide, wide:-wide]
        return self._divided(grid, found)

    def _divided(self, grid: Grid, found: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A region without its nodes that are nearer to a negative click than to a positive one, in mm."""
        negative = [node for voxel in self.clicks.negative if (node := grid.node_of(voxel)) is not None]
        positive = [node for voxel in self.clicks.positive if (node := grid.node_of(voxel)) is not None]
        if not any(found[node] for node in negative):
            return found
        where = np.argwhere(found)
        away = [
            np.min([(((where - node) * grid.spacing) ** 2).sum(axis=1) for node in nodes], axis=0)
            for nodes in (positive, negative)
        ]
        kept = where[away[0] <= away[1]]
        result = np.zeros_like(found)
        result[tuple(kept.T)] = True
        for node in negative:
            result[node] = False
        return result
