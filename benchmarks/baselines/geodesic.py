"""Peer: geodesic distances from the clicks; a voxel belongs to the nearer kind of click.

The length of a path counts millimetres, tissue that looks unlike the clicks, and edges crossed (A. Criminisi, T. Sharp,
A. Blake, "GeoS: geodesic image segmentation", ECCV 2008). Distances are Dijkstra's on the 26 neighbours of a node: an
edge lies between two nodes, which fast marching, with its speed at nodes, would smear over both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from benchmarks.baselines.appearance import likelihood
from benchmarks.baselines.borders import STEP, border_strength
from benchmarks.baselines.boxes import closer_box, faces, trial_boxes
from benchmarks.baselines.grid import Grid
from benchmarks.baselines.volume_session import VolumeSession, connected
from benchmarks.core.protocol import Voxel
from limnet.agreement import agreement
from limnet.volume import Volume

_FAR = 1e6
_NEIGHBOURS = [step for step in np.ndindex(3, 3, 3) if step > (1, 1, 1)]  # one of each opposite pair, moved by 1
_CUTS = 16  # distances tried as the object's end, evenly in the logarithm of its size; then as many around the best

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
        smooth: standard deviation in nodes of the smoothing before edges are counted, as noise adds up along a path.
        small: bonus in border strength for every halving of the box.
        keep: bonus for agreement (Dice) with the mask of the round before.
        coarse: nodes of the grid of a trial.
        nodes: greatest number of nodes of the last grid.
    """

    edge: float = 0.1
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
        """Begin one object; see `benchmarks.core.protocol.Predictor`."""
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
            values = grid.means(self.image)
            old = None if before is None else grid.means(before) > 0.5
            inside = near < far
            inside[sides] = False
            order = np.sort(near[inside])
            if not len(order):
                continue
            found: dict[int, float] = {}
            low, high = min(8, len(order)), len(order)
            for _ in range(2):
                for size in np.unique(np.geomspace(low, high, _CUTS).astype(int)).tolist():
                    if size not in found:
                        mask = inside & (near <= order[size - 1])
                        found[size] = border_strength(mask, values, grid.spacing, sides)
                        if old is not None:
                            found[size] += self.peer.keep * agreement(mask, old)
                sizes = sorted(found)
                top = sizes.index(max(sizes, key=lambda size: found[size]))
                low, high = sizes[max(top - 1, 0)], sizes[min(top + 1, len(sizes) - 1)]
            score = found[sizes[top]] - self.peer.small * float(np.log2(scale))
            if best is None or score > best[0]:
                best = score, grid, length, float(order[sizes[top] - 1])
        if best is None:  # negative clicks next to every positive one
            return Grid.on([(0, n) for n in shape], spacing, self.peer.coarse), longest / 2, 0.0
        return best[1:]

    def _distances(self, grid: Grid, length: float) -> tuple[Values, Values]:
        """Distance of every node to the positive and to the negative clicks, in units of `length`."""
        values = grid.means(self.image)
        inside, outside = self.samples()
        alike = likelihood(values, inside, outside, self.peer.noise)
        height = ndimage.gaussian_filter(values, self.peer.smooth) * (self.peer.edge / STEP)
        near = distances((1.0 + self.peer.tissue * (1.0 - alike) ** 2) / length, height, grid, self.clicks.positive)
        if not self.clicks.negative:
            return near, np.full_like(near, _FAR)
        return near, distances((1.0 + self.peer.tissue * alike**2) / length, height, grid, self.clicks.negative)

    def _paint(self, grid: Grid, near: Values, far: Values, cut: float) -> NDArray[np.bool_]:
        """Mask of the volume from node distances, interpolated so that its border is smooth."""
        mask = np.zeros(self.volume.shape, bool)
        inside = np.minimum(np.minimum(far, 2 * cut + 1) - near, cut - near)
        mask[grid.box] = grid.to_voxels(np.maximum(inside, -cut - 1).astype(np.float32)) >= 0
        for voxel in self.clicks.positive:
            mask[voxel] = True
        return connected(mask, self.clicks)


def distances(cost: NDArray[np.floating], height: NDArray[np.floating], grid: Grid, voxels: Sequence[Voxel]) -> Values:
    """Cost of the cheapest path from the nearest of some voxels to every node.

    Args:
        cost: cost per mm at each node, positive.
        height: what a step costs besides is the difference in height.
        grid: the nodes.
        voxels: start points; those outside the grid's box do not count.

    Returns:
        (d, h, w) float32, at most 1e6 (where nothing arrives).
    """
    starts = {int(np.ravel_multi_index(node, grid.shape)) for v in voxels if (node := grid.node_of(v)) is not None}
    if not starts:
        return np.full(grid.shape, _FAR, np.float32)
    ids = np.arange(cost.size).reshape(grid.shape)
    rows, columns, weights = [], [], []
    for step in _NEIGHBOURS:
        here = tuple(slice(max(1 - s, 0), n - max(s - 1, 0)) for s, n in zip(step, grid.shape, strict=True))
        there = tuple(slice(max(s - 1, 0), n - max(1 - s, 0)) for s, n in zip(step, grid.shape, strict=True))
        length = float(np.linalg.norm([(s - 1) * mm for s, mm in zip(step, grid.spacing, strict=True)]))
        rows.append(ids[here].ravel())
        columns.append(ids[there].ravel())
        weight = length * (cost[here] + cost[there]) / 2 + np.abs(height[here] - height[there])
        weights.append(weight.ravel())
    graph = sparse.csr_array(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=(cost.size, cost.size)
    )
    found = csgraph.dijkstra(graph, directed=False, indices=sorted(starts), min_only=True)
    return np.minimum(found, _FAR).reshape(grid.shape).astype(np.float32)
