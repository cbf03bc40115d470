"""A coarser grid on a box of a volume, for methods whose cost grows with the number of nodes; all in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limnet.slice_view import SliceView
from limnet.volume import Volume

_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)

Range = tuple[int, int]


def window_at(volume: Volume, axis: int, zyx: Sequence[int]) -> tuple[float, float]:
    """Display window (lo, hi) in raw units that limnet chooses for an object at a voxel."""
    view = SliceView(volume, axis)
    index, row, column = view.points_to_view(np.array(zyx))
    return view.auto_window(int(index), (float(row), float(column)))


def gray(volume: Volume, window: tuple[float, float]) -> NDArray[np.float32]:
    """(D, H, W) float32 in [0, 1] through a window; colours by luminance, NaN as 0."""
    array = np.asarray(volume.array, dtype=np.float32)
    if array.ndim == 4:
        array = array @ _LUMINANCE
    low, high = window
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.clip((array - low) / (high - low), 0.0, 1.0)
    return np.nan_to_num(scaled, nan=0.0).astype(np.float32)


@dataclass(frozen=True)
class Grid:
    """Nodes that each cover a block of voxels.

    Attributes:
        edges: per axis the first voxel of every node, and the end; strictly ascending.
        spacing: mm between nodes along z, y, x.
    """

    edges: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]
    spacing: tuple[float, float, float]

    @classmethod
    def on(cls, box: Sequence[Range], spacing: Sequence[float], nodes: int) -> Grid:
        """A grid of about `nodes` nodes at most on a box of voxels, as even in mm as voxels allow, none below a voxel.

        Args:
            box: (start, end) of the voxels per axis.
            spacing: mm between voxels.
            nodes: number of nodes aimed at.
        """
        sizes = np.array([end - start for start, end in box])
        steps = np.asarray(spacing, dtype=float)
        low, high = float(steps.min()), float((sizes * steps).max())

        def counts(step: float) -> NDArray[np.intp]:
            return np.clip(np.round(sizes * steps / step), 1, sizes).astype(np.intp)

        if int(np.prod(sizes)) <= nodes:
            number = sizes
        else:
            for _ in range(40):
                middle = (low * high) ** 0.5
                low, high = (low, middle) if np.prod(counts(middle)) <= nodes else (middle, high)
            number = counts(high)
        edges = [
            np.round(np.linspace(start, end, n + 1)).astype(np.intp)
            for (start, end), n in zip(box, number, strict=True)
        ]
        apart = [float(s * size / n) for s, size, n in zip(steps, sizes, number, strict=True)]
        return cls((edges[0], edges[1], edges[2]), (apart[0], apart[1], apart[2]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Nodes along z, y, x."""
        return len(self.edges[0]) - 1, len(self.edges[1]) - 1, len(self.edges[2]) - 1

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The voxels covered."""
        z, y, x = (slice(int(e[0]), int(e[-1])) for e in self.edges)
        return z, y, x

    def means(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean of a (D, H, W) array over the voxels of each node."""
        found = values[self.box].astype(np.float32)
        for axis, edges in enumerate(self.edges):
            widths = np.diff(edges)
            if (widths > 1).any():
                found = np.add.reduceat(found, edges[:-1] - edges[0], axis=axis)
                found /= widths.reshape([-1 if a == axis else 1 for a in range(3)]).astype(np.float32)
        return found

    def node_of(self, zyx: Sequence[int]) -> tuple[int, int, int] | None:
        """Node of a voxel; None outside the box."""
        found = [int(np.searchsorted(e, v, side="right")) - 1 for e, v in zip(self.edges, zyx, strict=True)]
        if any(not 0 <= n < size for n, size in zip(found, self.shape, strict=True)):
            return None
        return found[0], found[1], found[2]

    def ball(self, zyx: Sequence[int], radius: float) -> NDArray[np.bool_]:
        """Nodes whose centres lie within `radius` mm of the node of a voxel, itself included; empty outside the box."""
        node = self.node_of(zyx)
        if node is None:
            return np.zeros(self.shape, bool)
        axes = [(np.arange(n) - c) * s for n, c, s in zip(self.shape, node, self.spacing, strict=True)]
        squared = axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2
        return squared <= radius**2

    def to_voxels(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Linear interpolation of node values to the voxels of the box."""
        found = values
        for axis, edges in enumerate(self.edges):
            size = int(edges[-1] - edges[0])
            if size == len(edges) - 1:
                continue
            centres = (edges[:-1] + edges[1:] - 1) / 2 - edges[0]
            place = np.interp(np.arange(size), centres, np.arange(len(centres)))
            lower = np.minimum(place.astype(np.intp), len(centres) - 1)
            upper = np.minimum(lower + 1, len(centres) - 1)
            weight = (place - lower).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
            found = np.take(found, lower, axis) * (1 - weight) + np.take(found, upper, axis) * weight
        return found
