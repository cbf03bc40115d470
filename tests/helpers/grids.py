"""Affines in the orientations real files come in."""

from __future__ import annotations

import numpy as np

ORIENTATIONS = {
    "RAS": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "LAS": [[-1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "LPS": [[-1, 0, 0], [0, -1, 0], [0, 0, 1]],
    "PIR": [[0, 0, 1], [-1, 0, 0], [0, -1, 0]],
    "IPL": [[0, 0, -1], [0, -1, 0], [-1, 0, 0]],
}


def grid(name: str = "RAS", steps: tuple[float, float, float] = (0.7, 0.9, 5.0), tilt: float = 0.0) -> np.ndarray:
    """RAS affine of an orientation code with given steps along (x, y, z) index, turned by `tilt` radians."""
    axis = np.array([1.0, 2.0, 3.0]) / np.sqrt(14.0)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + np.sin(tilt) * cross + (1 - np.cos(tilt)) * cross @ cross
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array(ORIENTATIONS[name], float) * steps
    affine[:3, 3] = (-101.25, 33.5, -700.125)
    return affine
