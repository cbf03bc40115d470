"""Peer: geodesic distances from the clicks; a voxel belongs to the nearer kind of click.

The length of a path counts millimetres, tissue that looks unlike the clicks, and edges crossed (A. Criminisi, T. Sharp,
A. Blake, "GeoS: geodesic image segmentation", ECCV 2008). Distances by fast marching (SimpleITK).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from limnet.bench.peers.appearance import likelihood
from limnet.bench.peers.borders import STEP, border_strength
from limnet.bench.peers.boxes import closer_box, faces, trial_boxes
from limnet.bench.peers.grid import Grid
from limnet.bench.peers.volume_session import VolumeSession, agreement, connected
from limnet.bench.protocol import Voxel
from limnet.volume import Volume

_FAR = 1e6
_CUTS = 24  # distances tried as the object's end

Values = NDArray[np.float32]


@dataclass(frozen=True)
class GeodesicPeer:
    """Geodesic distance segmentation; the defaults were chosen on training volumes.

    The object ends where negative clicks are nearer, or at the distance (and in the box, of several sizes) at which its
    border follows edges best.

    Attributes:
        edge: cost of crossing an edge of one `STEP` in gray value, against crossing half of the box in open tissue.
        tissue: extra cost of tissue unlike the clicks, against open tissue.
        noise: least standard deviation of a tissue, in window units.
        smooth: standard deviation in nodes of the smoothing before borders are judged.
        small: bonus in border strength for every halving of the box.
        keep: bonus for agreement (Dice) with the mask of the round before.
        coarse: nodes of the grid of a trial.
        nodes: greatest number of nodes of the last grid.
    """

    edge: float = 1.0
    tissue: float = 10.0
    noise: float = 0.05
    smooth: float = 0.7
    small: float = 0.03
    keep: float = 0.6
    coarse: int = 20_000
    nodes: int = 100_000

    @property
    def name(self) -> str:
        """Name in tables."""
        return "geodesic distance"

    def start(self, volume: Volume, axis: int) -> GeodesicSession:
        """Begin one object; see `limnet.bench.protocol.Predictor`."""
        return GeodesicSession(self, volume, axis)


class GeodesicSession(VolumeSession):
    """One object in the hands of a `GeodesicPeer`."""

    def __init__(self, peer: GeodesicPeer, volume: Volume, axis: int) -> None:
        super().__init__(volume, axis)
        self.peer = peer

    def segment(self) -> NDArray[np.bool_]:
        """See `VolumeSession.segment`."""
        grid, length, cut = self._choose()
        mask = self._paint(grid, *self._distances(grid, length), cut)
        box = closer_box(mask, grid, self.volume.spacing, self.peer.nodes)
        if box is not None:
            grid = Grid.on(box, self.volume.spacing, self.peer.nodes)
            mask = self._paint(grid, *self._distances(grid, length), cut)
        return mask

    def _choose(self) -> tuple[Grid, float, float]:
        """Grid, length scale in mm and cut of the trial with the best border."""
        spacing, shape = self.volume.spacing, self.volume.shape
        longest = max(n * s for n, s in zip(shape, spacing, strict=True))
        before = self.mask.astype(np.float32) if self.mask.any() else None
        best: tuple[float, Grid, float, float] | None = None
        for scale, box in trial_boxes(self.clicks.positive, shape, spacing):
            grid, length = Grid.on(box, spacing, self.peer.coarse), scale * longest / 2
            near, far = self._distances(grid, length)
            sides = faces(grid, shape)
            values = ndimage.gaussian_filter(grid.means(self.image), self.peer.smooth)
            old = None if before is None else grid.means(before) > 0.5
            inside = near < far
            inside[sides] = False
            order = np.sort(near[inside])
            if not len(order):
                continue
            picks = np.unique(np.geomspace(min(8, len(order)), len(order), _CUTS).astype(int)) - 1
            for cut in order[picks]:
                mask = inside & (near <= cut)
                score = border_strength(mask, values, grid.spacing, sides) - self.peer.small * float(np.log2(scale))
                if old is not None:
                    score += self.peer.keep * agreement(mask, old)
                if best is None or score > best[0]:
                    best = score, grid, length, float(cut)
        if best is None:  # negative clicks next to every positive one
            return Grid.on([(0, n) for n in shape], spacing, self.peer.coarse), longest / 2, 0.0
        return best[1:]

    def _distances(self, grid: Grid, length: float) -> tuple[Values, Values]:
        """Distance of every node to the positive and to the negative clicks, in units of `length`."""
        values = grid.means(self.image)
        inside, outside = self.samples()
        alike = likelihood(values, inside, outside, self.peer.noise)
        steps = [np.gradient(values, s, axis=a) for a, s in enumerate(grid.spacing) if values.shape[a] > 1]
        slope = np.sqrt(np.sum([s**2 for s in steps], axis=0)) if steps else np.zeros_like(values)
        edges = self.peer.edge * slope / STEP
        open_cost = (1.0 + self.peer.tissue * (1.0 - alike) ** 2) / length + edges
        near = march(open_cost, grid, self.clicks.positive)
        if not self.clicks.negative:
            return near, np.full_like(near, _FAR)
        return near, march((1.0 + self.peer.tissue * alike**2) / length + edges, grid, self.clicks.negative)

    def _paint(self, grid: Grid, near: Values, far: Values, cut: float) -> NDArray[np.bool_]:
        """Mask of the volume from node distances, interpolated so that its border is smooth."""
        mask = np.zeros(self.volume.shape, bool)
        inside = np.minimum(np.minimum(far, 2 * cut + 1) - near, cut - near)
        mask[grid.box] = grid.to_voxels(np.maximum(inside, -cut - 1).astype(np.float32)) >= 0
        for voxel in self.clicks.positive:
            mask[voxel] = True
        return connected(mask, self.clicks)


def march(cost: NDArray[np.floating], grid: Grid, voxels: Sequence[Voxel]) -> Values:
    """Cost of the cheapest path from the nearest of some voxels to every node.

    Args:
        cost: cost per mm at each node, positive.
        grid: the nodes.
        voxels: start points; those outside the grid's box do not count.

    Returns:
        (d, h, w) float32, 1e6 where nothing arrives.
    """
    import SimpleITK as sitk

    nodes = [node for voxel in voxels if (node := grid.node_of(voxel)) is not None]
    if not nodes:
        return np.full(grid.shape, _FAR, np.float32)
    speed = sitk.GetImageFromArray((1.0 / np.asarray(cost, dtype=np.float64)).astype(np.float32))
    speed.SetSpacing(grid.spacing[::-1])
    filled = sitk.FastMarching(speed, trialPoints=[tuple(reversed(node)) for node in nodes])
    return np.minimum(sitk.GetArrayFromImage(filled), _FAR).astype(np.float32)
