"""Peer: random walker segmentation from click seeds.

L. Grady, "Random walks for image segmentation", PAMI 2006; with the intensity prior of Grady, "Multilabel random walker
image segmentation using prior models", CVPR 2005. The probability that a walker starting at a node reaches a positive
seed first solves a sparse linear system; it is solved on coarse grids of several extents, then on a finer one
around what was found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg

from benchmarks.baselines.appearance import Clicks, likelihood
from benchmarks.baselines.borders import border_strength
from benchmarks.baselines.boxes import closer_box, faces, trial_boxes
from benchmarks.baselines.grid import Grid
from benchmarks.baselines.volume_session import VolumeSession, connected
from limnet.agreement import agreement
from limnet.volume import Volume

_LEVELS = 2  # finer grids after the trials

Values = NDArray[np.float32]


@dataclass(frozen=True)
class RandomWalkerPeer:
    """Random walker from click seeds; the defaults were chosen on training volumes.

    Nobody says how large the object is. Boxes of several sizes around the positive clicks are tried, with background
    seeds on their sides (where those are not sides of the volume), and the one is taken whose result has the border
    that follows edges best.

    Attributes:
        beta: how much a squared step in gray value (0..1 in the window) hinders the walker.
        gamma: weight of the intensity prior against the mean conductance between neighbours; 0 for none.
        noise: least standard deviation of a tissue in the prior, in window units.
        small: bonus in border strength for every halving of the box.
        keep: bonus for agreement (Dice) with the mask of the round before.
        coarse: nodes of the grid of a trial.
        nodes: greatest number of nodes of the last grid.
    """

    beta: float = 1000.0
    gamma: float = 0.03
    noise: float = 0.05
    small: float = 0.06
    keep: float = 0.3
    coarse: int = 15_000
    nodes: int = 100_000

    @property
    def name(self) -> str:
        """Name in tables."""
        return "random walker"

    def start(self, volume: Volume, axis: int) -> RandomWalkerSession:
        """Begin one object; see `benchmarks.core.protocol.Predictor`."""
        return RandomWalkerSession(self, volume, axis)


class RandomWalkerSession(VolumeSession):
    """One object in the hands of a `RandomWalkerPeer`."""

    def __init__(self, peer: RandomWalkerPeer, volume: Volume, axis: int) -> None:
        super().__init__(volume, axis)
        self.peer = peer

    def segment(self) -> NDArray[np.bool_]:
        """See `VolumeSession.segment`."""
        samples = self.samples()
        grid, found = self._choose(samples)
        probability = np.zeros(self.volume.shape, np.float32)
        probability[grid.box] = grid.to_voxels(found)
        mask = connected(probability > 0.5, self.clicks)
        for _ in range(_LEVELS):
            box = closer_box(mask, grid, self.volume.spacing, self.peer.nodes)
            if box is None:
                break
            grid = Grid.on(box, self.volume.spacing, self.peer.nodes)
            found = self._walk(grid, samples, grid.means(probability))
            probability[grid.box] = grid.to_voxels(found)
            mask = connected(probability > 0.5, self.clicks)
        return mask

    def _choose(self, samples: tuple[list[Values], list[Values]]) -> tuple[Grid, Values]:
        """Grid and probability of the box whose result has the best border."""
        best: tuple[float, Grid, Values] | None = None
        before = self.mask.astype(np.float32) if self.mask.any() else None
        for scale, box in trial_boxes(self.clicks.positive, self.volume.shape, self.volume.spacing):
            grid = Grid.on(box, self.volume.spacing, self.peer.coarse)
            found = self._walk(grid, samples, None)
            sides = faces(grid, self.volume.shape)
            score = border_strength(found > 0.5, grid.means(self.image), grid.spacing, sides)
            score -= self.peer.small * float(np.log2(scale))
            if before is not None:
                score += self.peer.keep * agreement(found > 0.5, grid.means(before) > 0.5)
            if best is None or score > best[0]:
                best = score, grid, found
        assert best is not None  # the whole volume is always tried
        return best[1], best[2]

    def _walk(self, grid: Grid, samples: tuple[list[Values], list[Values]], around: Values | None) -> Values:
        """Solve on a grid; `around` holds what is known at its sides, by default background."""
        values = grid.means(self.image)
        prior = likelihood(values, samples[0], samples[1], self.peer.noise)
        fixed = seeds(grid, self.clicks)
        sides = np.isnan(fixed) & faces(grid, self.volume.shape)
        fixed[sides] = 0.0 if around is None else around[sides]
        start = prior if around is None else around
        return walk(values, grid.spacing, fixed, prior, start, self.peer.beta, self.peer.gamma)


def seeds(grid: Grid, clicks: Clicks) -> Values:
    """1 in small balls at positive clicks, 0 at negative ones, NaN elsewhere."""
    fixed = np.full(grid.shape, np.nan, np.float32)
    marked = [(v, 1.0) for v in clicks.positive] + [(v, 0.0) for v in clicks.negative]
    for voxel, value in marked:
        fixed[grid.ball(voxel, min(grid.spacing))] = value
    for voxel, value in marked:  # the clicked nodes themselves win over balls of their neighbours
        node = grid.node_of(voxel)
        if node is not None:
            fixed[node] = value
    return fixed


def walk(
    values: Values,
    spacing: tuple[float, float, float],
    fixed: Values,
    prior: Values,
    start: Values,
    beta: float,
    gamma: float,
) -> Values:
    """Probability of every node that its walker reaches the object first.

    Args:
        values: (d, h, w) gray values in [0, 1].
        spacing: mm between nodes; conductance falls with its square.
        fixed: known probabilities, NaN where unknown.
        prior: probability by appearance alone.
        start: first guess.
        beta: see `RandomWalkerPeer`.
        gamma: see `RandomWalkerPeer`.
    """
    number = values.size
    ids = np.arange(number).reshape(values.shape)
    rows, columns, weights = [], [], []
    scale = float(np.mean([s**-2 for s in spacing]))
    for axis, step in enumerate(spacing):
        first = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        second = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        weight = (np.exp(-beta * (values[first] - values[second]) ** 2) + 1e-4) * (step**-2 / scale)
        rows.append(ids[first].ravel())
        columns.append(ids[second].ravel())
        weights.append(weight.ravel().astype(np.float64))
    i, j, w = np.concatenate(rows), np.concatenate(columns), np.concatenate(weights)
    near = sparse.coo_array((np.r_[w, w], (np.r_[i, j], np.r_[j, i])), shape=(number, number)).tocsr()
    known = ~np.isnan(fixed.ravel())
    unknown = np.flatnonzero(~known)
    result = np.where(known, fixed.ravel(), 0.0)
    if unknown.size:
        pull = max(gamma, 1e-9)
        diagonal = near.sum(axis=1)[unknown] + pull
        matrix = sparse.diags_array(diagonal, format="csr") - near[unknown][:, unknown]
        right = near[unknown] @ result + pull * prior.ravel()[unknown]
        guess = start.ravel()[unknown].astype(np.float64)
        inverse = sparse.diags_array(1.0 / diagonal, format="csr")  # the prior makes the diagonal strong enough
        result[unknown], _ = linalg.cg(matrix, right, x0=guess, rtol=1e-4, maxiter=400, M=inverse)
    return result.reshape(values.shape).astype(np.float32)
