from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.baselines.appearance import Clicks, likelihood, sampled
from benchmarks.baselines.borders import border_strength
from benchmarks.baselines.boxes import box_around, closer_box, faces, trial_boxes
from benchmarks.baselines.grid import Grid, gray
from benchmarks.baselines.volume_session import connected
from limnet.agreement import agreement
from limnet.volume import Volume

sizes = st.tuples(*[st.integers(1, 40)] * 3)
steps = st.tuples(*[st.sampled_from([0.3, 1.0, 2.5, 6.0])] * 3)


@given(sizes, steps, st.integers(8, 4000), st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_a_grid_covers_its_box(size, spacing, nodes, start):
    box = [(start, start + n) for n in size]
    grid = Grid.on(box, spacing, nodes)
    assert int(np.prod(grid.shape)) <= max(nodes, 8) or max(grid.shape) == 1
    for edges, (low, high), step, apart in zip(grid.edges, box, spacing, grid.spacing, strict=True):
        assert (edges[0], edges[-1]) == (low, high)
        assert (np.diff(edges) >= 1).all()
        assert apart >= step * (1 - 1e-9)
        assert apart * (len(edges) - 1) == pytest.approx(step * (high - low))
    values = np.random.default_rng(0).random(tuple(n + start for n in size)).astype(np.float32)
    found = grid.means(values)
    for node in [(0, 0, 0), tuple(n - 1 for n in grid.shape)]:
        block = tuple(slice(e[i], e[i + 1]) for e, i in zip(grid.edges, node, strict=True))
        assert found[node] == pytest.approx(values[block].mean(), rel=1e-4)
        assert grid.node_of([b.start for b in block]) == node
        assert grid.node_of([b.stop - 1 for b in block]) == node
    assert grid.to_voxels(found).shape == size
    assert np.allclose(grid.to_voxels(np.full(grid.shape, 0.7, np.float32)), 0.7)


def test_a_grid_is_even_in_millimetres_and_interpolates_linearly():
    grid = Grid.on([(0, 10), (0, 100), (0, 100)], (5.0, 0.5, 0.5), 1000)
    assert grid.spacing == pytest.approx((5.0, 5.0, 5.0))
    ramp = np.broadcast_to(np.arange(100, dtype=np.float32), (10, 100, 100))
    back = grid.to_voxels(grid.means(ramp))
    assert np.allclose(back[:, :, 5:95], ramp[:, :, 5:95], atol=1e-3)
    assert grid.node_of((0, 0, 100)) is None
    assert grid.ball((5, 50, 50), 7.0).sum() == 7
    assert grid.ball((5, 50, 50), 7.2).sum() == 19
    assert not grid.ball((50, 0, 0), 100.0).any()


def test_gray_values():
    array = np.array([[[-1000.0, 0.0, 50.0, np.nan, np.inf, 1e9]]])
    assert gray(Volume.from_array(array), (0.0, 100.0))[0, 0].tolist() == [0, 0, 0.5, 0, 1, 1]
    colour = np.zeros((1, 1, 2, 3), np.uint8)
    colour[0, 0, 1] = 255
    assert gray(Volume.from_array(colour), (0.0, 255.0))[0, 0] == pytest.approx([0, 1])


def test_boxes_hold_the_clicks_and_shrink():
    found = list(trial_boxes([(5, 40, 40), (5, 60, 40)], (10, 100, 100), (2.0, 1.0, 1.0)))
    assert found[0] == (1.0, ((0, 10), (0, 100), (0, 91)))
    volumes = [np.prod([end - start for start, end in box]) for _, box in found]
    assert volumes == sorted(volumes, reverse=True)
    assert len(set(volumes)) == len(volumes) > 3
    for _, box in found:
        assert all(start <= v < end for v, (start, end) in zip((5, 60, 40), box, strict=True))
    assert box_around([(5, 50, 50)], 4.0, (10, 100, 100), (2.0, 1.0, 0.5)) == ((3, 8), (46, 55), (42, 59))
    assert [s for s, _ in trial_boxes([(0, 0, 0)], (1, 2, 2), (1.0, 1.0, 1.0))] == [1.0]


def test_closer_boxes():
    grid = Grid.on([(0, 100)] * 3, (1.0, 1.0, 1.0), 1000)
    mask = np.zeros((100, 100, 100), bool)
    assert closer_box(mask, grid, (1.0, 1.0, 1.0), 1000) is None
    mask[40:50, 40:50, 40:50] = True
    assert closer_box(mask, grid, (1.0, 1.0, 1.0), 1000) == ((20, 70),) * 3
    mask[:] = True
    assert closer_box(mask, grid, (1.0, 1.0, 1.0), 1000) is None
    assert closer_box(mask, grid, (1.0, 1.0, 1.0), 10**6) == ((0, 100),) * 3


def test_only_faces_inside_the_volume_are_background():
    found = faces(Grid.on([(0, 4), (1, 6), (2, 8)], (1.0, 1.0, 1.0), 10**6), (4, 8, 8))
    assert not found[1, 1:4, 1:].any()
    assert found[1, 0].all()
    assert found[1, -1].all()
    assert found[1, :, 0].all()
    assert not found[0, 2, 3]


def test_strength_of_a_border():
    values = np.zeros((10, 10, 10), np.float32)
    values[2:8, 2:8, 2:8] = 1
    nothing = np.zeros(values.shape, bool)
    right = values > 0
    assert border_strength(right, values, (1.0, 1.0, 1.0), nothing) == pytest.approx(1.0)
    half = right.copy()
    half[5:] = False
    assert border_strength(half, values, (1.0, 1.0, 1.0), nothing) == pytest.approx(1 - 36 / (36 * 2 + 18 * 4))
    # The wrong face lies across z: with thick slices it is a smaller share of the border.
    thick = border_strength(half, values, (3.0, 1.0, 1.0), nothing)
    assert thick == pytest.approx(1 - 36 / (36 * 2 + 18 * 4 * 3))
    closed = nothing.copy()
    closed[:2] = True
    assert border_strength(right, values, (1.0, 1.0, 1.0), closed) == pytest.approx(5 / 6)
    assert border_strength(nothing, values, (1.0, 1.0, 1.0), nothing) == 0


def test_likelihood_follows_the_clicks():
    image = np.repeat(np.linspace(0, 1, 50), 20).astype(np.float32)
    inside = [np.full(30, 0.7, np.float32)]
    found = likelihood(image, inside, [], 0.05)
    assert found[np.abs(image - 0.7) < 0.02].min() > 0.8
    assert found[np.abs(image - 0.7) > 0.25].max() < 0.1
    with_negative = likelihood(image, inside, [np.full(30, 0.75, np.float32)], 0.05)
    near = np.abs(image - 0.75) < 0.02
    assert with_negative[near].max() < found[near].min()
    two = likelihood(image, [*inside, np.full(30, 0.2, np.float32)], [], 0.05)
    assert two[np.abs(image - 0.2) < 0.02].min() > 0.7


def test_samples_are_taken_in_millimetres():
    image = np.zeros((9, 9, 9), np.float32)
    image[4] = 1
    (near,) = sampled(image, [(4, 4, 4)], (3.0, 1.0, 1.0), 2.5)
    assert len(near) == 21
    assert near.min() == 1
    (corner,) = sampled(image, [(0, 0, 0)], (1.0, 1.0, 1.0), 1.0)
    assert len(corner) == 4


def test_components_and_agreement():
    mask = np.zeros((3, 5, 9), bool)
    mask[:, :, :3] = mask[:, :, 5:] = True
    clicks = Clicks().with_click((1, 1, 1), True).with_click((1, 1, 7), False)
    assert connected(mask, clicks)[:, :, :3].all()
    assert not connected(mask, clicks)[:, :, 3:].any()
    assert not connected(mask, Clicks(((1, 1, 4),))).any()
    assert agreement(mask, mask) == 1
    assert agreement(mask, ~mask) == agreement(mask & ~mask, mask & ~mask) == 0
