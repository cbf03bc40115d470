"""Surfaces of masks: closed, facing outwards, of the right volume and place."""

from __future__ import annotations

import numpy as np
import pytest

from limnet.server.surface import surface


def ball(shape: tuple[int, int, int], centre: tuple[float, float, float], radius: float) -> np.ndarray:
    grid = np.indices(shape).transpose(1, 2, 3, 0)
    return ((grid - centre) ** 2).sum(axis=-1) <= radius**2


def enclosed(vertices: np.ndarray, triangles: np.ndarray) -> float:
    """Signed volume by the divergence theorem; positive where triangles face outwards."""
    a, b, c = (vertices[triangles[:, i]].astype(np.float64) for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("hollow", [False, True])
def test_volume_place_and_closedness(hollow):
    mask = ball((40, 44, 48), (20, 20, 25), 14)
    if hollow:
        mask &= ~ball(mask.shape, (20, 20, 25), 6)
    vertices, triangles, steps = surface(mask)
    assert steps == (1, 1, 1)
    assert enclosed(vertices, triangles) == pytest.approx(mask.sum(), rel=0.03)
    np.testing.assert_allclose((vertices.min(0) + vertices.max(0)) / 2, (20, 20, 25), atol=0.05)
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] % 2 == 0).all()


def test_masks_at_the_border_are_closed_too():
    vertices, triangles, _ = surface(np.ones((5, 6, 7), bool))
    assert enclosed(vertices, triangles) == pytest.approx(5 * 6 * 7, rel=0.2)


def test_large_masks_get_fewer_triangles():
    mask = ball((60, 60, 60), (30, 30, 30), 25)
    vertices, triangles, steps = surface(mask, limit=4000)
    assert steps[0] > 1
    assert 500 < len(triangles) <= 4000
    assert enclosed(vertices, triangles) == pytest.approx(mask.sum(), rel=0.1)


def test_an_empty_mask_has_no_surface():
    vertices, triangles, _ = surface(np.zeros((3, 4, 5), bool))
    assert len(vertices) == len(triangles) == 0
