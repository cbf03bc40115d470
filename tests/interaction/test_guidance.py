from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limnet.errors import InputError
from limnet.image.slices import BitMask
from limnet.interaction.prompt_maps import (
    draw_polygon,
    draw_stroke,
    grow,
    guidance_maps,
    prompt_pixels,
)
from limnet.interaction.window import Window
from limnet.prompts import Prompt2D

ALL = ("previous", "positive", "negative", "bounds")
SHAPE = (40, 50)


def painted(*pixels: tuple[int, int]) -> BitMask:
    array = np.zeros(SHAPE, bool)
    array[tuple(np.transpose(pixels))] = True
    return BitMask.of(array)


@given(
    st.lists(st.tuples(st.integers(0, 39), st.integers(0, 49), st.booleans()), max_size=6),
    st.sampled_from([1.0, 2.5, 3.0, 5.0]),
)
def test_clicks_are_the_discs_of_the_networks(clicks: list[tuple[int, int, bool]], radius: float) -> None:
    prompts = [Prompt2D("click", positive, ((y, x),)) for y, x, positive in clicks]
    maps = guidance_maps(prompts, SHAPE, ("positive", "negative"), radius)
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    expected = np.zeros((2, *SHAPE), bool)
    for y, x, positive in clicks:
        expected[int(not positive)] |= (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    assert np.array_equal(maps, expected)


def test_channels_and_types() -> None:
    maps = guidance_maps([Prompt2D("click", False, ((3, 4),))], SHAPE, ALL, 2.0)
    assert maps.shape == (4, *SHAPE)
    assert maps.dtype == np.float32
    assert [bool(m.any()) for m in maps] == [False, False, True, False]
    with pytest.raises(InputError, match="previous"):
        guidance_maps([], SHAPE, ("positive", "other"), 2.0)
    assert guidance_maps([], SHAPE, ("positive",), 2.0).sum() == 0


def test_transform() -> None:
    transform = Window(10, 20, 8, 16, 32).points
    assert transform(np.array([(10, 20)])).tolist() == [[1.5, 0.5]]  # the middle of 4 x 2 pixels
    assert transform(np.array([(9.5, 19.5), (17.5, 35.5)])).tolist() == [[-0.5, -0.5], [31.5, 31.5]]
    maps = guidance_maps([Prompt2D("click", True, ((14, 28),))], (32, 32), ("positive",), 2.0, transform)
    rows, columns = np.nonzero(maps[0])
    assert (rows.mean(), columns.mean()) == (17.5, 16.5)


def test_window_need_not_lie_inside_nor_hold_the_click() -> None:
    transform = Window(-10, -10, 20, 20, 20).points
    assert guidance_maps([Prompt2D("click", True, ((0, 0),))], (20, 20), ("positive",), 1.0, transform)[0, 10, 10] == 1
    far = guidance_maps([Prompt2D("click", True, ((39, 49),))], (20, 20), ("positive",), 3.0, transform)
    assert not far.any()


def test_box_fills_whole_pixels() -> None:
    box = Prompt2D("box", True, ((5, 6), (9, 12)))
    maps = guidance_maps([box], SHAPE, ALL, 3.0)
    expected = np.zeros(SHAPE)
    expected[5:10, 6:13] = 1
    assert np.array_equal(maps[3], expected)
    assert not maps[:3].any()
    scaled = guidance_maps([box], (80, 80), ALL, 3.0, Window(0, 0, 40, 40, 80).points)
    assert np.array_equal(scaled[3], expected[:40, :40].repeat(2, 0).repeat(2, 1))


def test_box_without_bounds_channel_is_a_click() -> None:
    maps = guidance_maps([Prompt2D("box", True, ((5, 6), (9, 12)))], SHAPE, ("positive", "negative"), 1.0)
    rows, columns = np.nonzero(maps[0])
    assert rows.mean() == 7
    assert 8 <= columns.mean() <= 10
    assert not maps[1].any()


def test_lasso() -> None:
    ring = ((5, 5), (5, 15), (15, 15), (15, 5))
    maps = guidance_maps([Prompt2D("lasso", True, ring)], SHAPE, ALL, 3.0)
    assert maps[3, 5:16, 5:16].all()
    assert maps[3].sum() == 121
    maps = guidance_maps([Prompt2D("lasso", False, ring)], SHAPE, ALL, 3.0)
    assert maps[2].sum() == 121
    assert not maps[3].any()


def test_painted_scribble_is_a_union_of_discs() -> None:
    pixels = [(5, 5), (5, 6), (20, 30)]
    maps = guidance_maps([Prompt2D("scribble", True, mask=painted(*pixels))], SHAPE, ("positive",), 2.0)
    clicks = [Prompt2D("click", True, (p,)) for p in pixels]
    assert np.array_equal(maps, guidance_maps(clicks, SHAPE, ("positive",), 2.0))


def test_scribble_has_no_holes() -> None:
    maps = guidance_maps([Prompt2D("scribble", True, ((5, 5), (30, 40)))], SHAPE, ("positive",), 1.0)
    assert maps[0].any(axis=1)[4:32].all()


@given(st.lists(st.tuples(st.floats(-5, 45), st.floats(-5, 55)), min_size=3, max_size=7))
def test_polygon_holds_what_lies_inside(points: list[tuple[float, float]]) -> None:
    target = np.zeros(SHAPE, bool)
    draw_polygon(target, points)
    for y, x in [(0, 0), (10, 10), (20, 25), (39, 49), (15, 40)]:
        if winding_is_odd(points, y, x):
            assert target[y, x]


def winding_is_odd(points: list[tuple[float, float]], y: int, x: int) -> bool:
    inside = False
    for (y0, x0), (y1, x1) in zip(points, points[1:] + points[:1], strict=True):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) < x:
            inside = not inside
    return inside


def test_grow_both_ways_agree() -> None:
    rng = np.random.default_rng(0)
    many = rng.random(SHAPE) > 0.7
    slow = np.zeros(SHAPE, bool)
    for point in np.argwhere(many):
        draw_stroke(slow, point, 2.0)
    assert np.array_equal(grow(many, 2.0), slow)
    assert not grow(np.zeros(SHAPE, bool), 3.0).any()


def test_prompt_pixels_hold_the_marked_ones() -> None:
    assert prompt_pixels(Prompt2D("click", True, ((0, 49),)), SHAPE).sum() == 1
    stroke = prompt_pixels(Prompt2D("scribble", True, ((2, 3), (2, 9), (6, 9))), SHAPE)
    assert stroke[2, 3:10].all()
    assert stroke[2:7, 9].all()
    assert stroke.sum() == 11
    assert prompt_pixels(Prompt2D("scribble", True, mask=painted((1, 2))), SHAPE).sum() == 1
