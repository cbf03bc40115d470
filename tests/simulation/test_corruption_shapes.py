from __future__ import annotations

import numpy as np
import pytest

from limnet.simulation.corruption_shapes import KINDS, Shape, draw_shape


def covered(shape: Shape, size: tuple[int, int]) -> np.ndarray:
    """Slow reference: winding number of the outline around every pixel centre."""
    corners = np.array(shape.vertices)
    out = np.zeros(size, bool)
    for pixel in np.ndindex(*size):
        rays = corners - pixel
        angles = np.arctan2(rays[:, 0], rays[:, 1])
        turns = (np.diff(np.append(angles, angles[0])) + np.pi) % (2 * np.pi) - np.pi
        out[pixel] = abs(turns.sum()) > np.pi
    out[shape.centre] = True
    return out


@pytest.mark.parametrize("seed", range(12))
def test_painting_equals_the_winding_number(seed: int):
    rng = np.random.default_rng(seed)
    shape = draw_shape(rng, (int(rng.integers(24)), int(rng.integers(28))), float(rng.uniform(1, 200)))
    canvas = np.zeros((24, 28), bool)
    shape.paint(canvas)
    np.testing.assert_array_equal(canvas, covered(shape, canvas.shape))
    full = np.ones((24, 28), bool)
    shape.paint(full, False)
    np.testing.assert_array_equal(full, ~canvas)


def test_shapes_have_the_area_asked_for_and_every_kind_appears():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(90):
        area = float(rng.uniform(200, 3000))
        shape = draw_shape(rng, (150, 150), area)
        canvas = np.zeros((300, 300), bool)
        shape.paint(canvas)
        assert canvas.sum() == pytest.approx(area, rel=0.12)
        assert canvas[150, 150]
        seen.add((shape.kind, len(shape.vertices)))
    assert {kind for kind, _ in seen} == set(KINDS)
    assert {n for kind, n in seen if kind == "rectangle"} == {4}
    assert {n for kind, n in seen if kind == "triangle"} == {3}
    assert {n for kind, n in seen if kind == "polygon"} == {5, 6, 7, 8, 9}


def test_a_shape_smaller_than_a_pixel_paints_its_centre():
    canvas = np.zeros((5, 5), bool)
    Shape("triangle", (2, 3), ((2.1, 3.1), (2.2, 3.2), (2.1, 3.2))).paint(canvas)
    assert np.argwhere(canvas).tolist() == [[2, 3]]
    outside = Shape("triangle", (9, 9), ((8.0, 8.0), (9.0, 9.5), (9.5, 8.0)))
    outside.paint(canvas)
    assert canvas.sum() == 1
