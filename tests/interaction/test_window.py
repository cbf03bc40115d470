from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from limnet.interaction.window import SMALLEST, Window, join, mask_box, window_around, window_of_side

Box = tuple[int, int, int, int]


@st.composite
def scenes(draw: st.DrawFn, smallest: int = 8) -> tuple[Box, tuple[int, int], tuple[float, float]]:
    """A box on a slice with its spacing."""
    shape = draw(st.integers(smallest, 600)), draw(st.integers(smallest, 600))
    spacing = draw(st.sampled_from([(1.0, 1.0), (0.5, 0.5), (5.0, 0.8), (0.7, 3.0), (0.01, 0.012)]))
    box = []
    for length in shape:
        low = draw(st.integers(0, length - 1))
        box += [low, draw(st.integers(low + 1, length))]
    return (box[0], box[1], box[2], box[3]), shape, spacing


@settings(max_examples=200, deadline=None)
@given(scenes(), st.sampled_from([0.38, 0.6]))
def test_window_contains_the_box_is_square_and_stays_on_the_slice(
    scene: tuple[Box, tuple[int, int], tuple[float, float]], share: float
) -> None:
    box, shape, spacing = scene
    window = window_around(box, shape, spacing, 64, share)
    assert window.holds(box)
    mm = window.height * spacing[0], window.width * spacing[1]
    assert abs(mm[0] - mm[1]) <= max(spacing) or 4 in (window.height, window.width)  # whole pixels, at least 4
    assert max(mm) <= max(shape[0] * spacing[0], shape[1] * spacing[1]) + 4 * max(spacing)
    for low, extent, length in zip(window.bounds[:2], window.bounds[2:], shape, strict=True):
        if extent <= length:
            assert 0 <= low <= length - extent
        else:  # the slice is shown whole, in the middle
            assert abs((low + extent / 2) - length / 2) <= 1


@settings(max_examples=100, deadline=None)
@given(scenes(smallest=128))
def test_object_takes_its_share_of_the_window(scene: tuple[Box, tuple[int, int], tuple[float, float]]) -> None:
    box, shape, spacing = scene
    extent = max((box[1] - box[0]) * spacing[0], (box[3] - box[2]) * spacing[1])
    longest = max(shape[0] * spacing[0], shape[1] * spacing[1])
    assume(extent / 0.38 < longest and extent / 0.38 > SMALLEST * min(spacing))
    assume(extent > 8 * max(spacing))  # whole pixels make the share of smaller ones coarse
    window = window_around(box, shape, spacing, 64)
    share = max((box[1] - box[0]) / window.height, (box[3] - box[2]) / window.width)
    assert 0.3 < share < 0.48


def test_moved_around_keeps_a_box_off_the_border_of_the_window() -> None:
    window = Window(0, 20, 64, 64, 160)
    assert window.moved_around((10, 30, 40, 60)) == window  # 4 pixels inside are enough
    assert window.moved_around((0, 1, 40, 41)).bounds == (-4, 20, 64, 64)
    assert window.moved_around((62, 64, 82, 84)).bounds == (4, 24, 64, 64)
    assert window.moved_around((0, 60, 40, 41)) == window  # too large a box: as it was
    assert window.moved_around((0, 1, 0, 84)).bounds == (-4, 20, 64, 64)


def test_whole_slices() -> None:
    assert window_around((0, 100, 0, 100), (100, 100), (1, 1), 64).bounds == (0, 0, 100, 100)
    assert window_around((3, 4, 3, 4), (8, 8), (1, 1), 64).bounds == (0, 0, 8, 8)  # smaller than the smallest window
    assert window_around((0, 50, 0, 100), (50, 100), (1, 1), 64).bounds == (-25, 0, 100, 100)
    assert window_around((0, 50, 0, 100), (50, 100), (1, 1), 64, share=1.0).bounds == (-25, 0, 100, 100)


def test_small_changes_keep_the_window() -> None:
    """An object that drifts pixel by pixel and changes its size by one changes the window rarely."""
    windows = []
    for step in range(60):
        for grown in (0, 1):
            box = (100 + step, 140 + step + grown, 200, 240)
            windows.append(window_around(box, (512, 512), (0.8, 0.8), 160))
    assert len(set(windows)) <= 8
    assert len({(w.height, w.width) for w in windows}) == 1


def test_sides_are_snapped() -> None:
    sides = {window_of_side(s, (200, 200), (400, 400), (1, 1), 64).height for s in np.linspace(30, 400, 150)}
    assert len(sides) <= 14


def blob(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    distance = np.sqrt((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2)
    return (1 / (1 + np.exp((distance - radius) / 2))).astype(np.float32)


@pytest.mark.parametrize(
    "window", [Window(8, 20, 64, 64, 96), Window(-10, -20, 120, 130, 128), Window(0, 0, 80, 100, 64)]
)
def test_crop_and_paste_are_inverse_for_smooth_masks(window: Window) -> None:
    probability = blob((80, 100), (38, 50), 14)
    pasted = window.paste(torch.logit(window.crop(probability, edge=False), 1e-6), np.zeros((80, 100), np.float32))
    assert pasted.dtype == np.float32
    assert float(np.abs(pasted - probability).max()) < 0.06
    disagree = (pasted > 0.5) != (probability > 0.5)
    assert disagree.sum() < 0.03 * (probability > 0.5).sum()


def test_pasting_leaves_everything_outside_untouched() -> None:
    rng = np.random.default_rng(0)
    onto = rng.random((50, 60), dtype=np.float32)
    kept = onto.copy()
    window = Window(40, -5, 20, 20, 32)
    result = window.paste(torch.full((1, 1, 32, 32), 9.0), onto)
    assert np.array_equal(onto, kept)
    inside = np.zeros(onto.shape, bool)
    inside[40:, :15] = True
    assert np.array_equal(result[~inside], onto[~inside])
    assert (result[inside] > 0.99).all()


def test_crops_repeat_the_border_for_images_and_not_for_masks() -> None:
    image = np.ones((3, 20, 20), np.float32)
    window = Window(-10, -10, 40, 40, 40)
    assert window.crop(image).shape == (1, 3, 40, 40)
    assert float(window.crop(image).min()) == 1
    mask = window.crop(image[0], edge=False)
    assert mask.shape == (1, 1, 40, 40)
    assert float(mask.sum()) == pytest.approx(400)


@pytest.mark.filterwarnings("error")
def test_crops_of_read_only_arrays_and_other_types() -> None:
    array = np.ones((20, 20), np.float32)
    array.flags.writeable = False
    assert float(Window(0, 0, 20, 20, 32).crop(array).mean()) == pytest.approx(1)
    assert Window(2, 2, 4, 4, 8).crop(np.ones((20, 20), np.uint8)).dtype == torch.float32


def test_boxes() -> None:
    mask = np.zeros((10, 12), bool)
    assert mask_box(mask) is None
    mask[2, 3] = mask[7, 5] = True
    assert mask_box(mask) == (2, 8, 3, 6)
    assert join(None, None) is None
    assert join(None, (1, 2, 3, 4)) == (1, 2, 3, 4)
    assert join((1, 2, 3, 4), (0, 1, 5, 9)) == (0, 2, 3, 9)


def test_margins() -> None:
    window = Window(0, 0, 100, 100, 64)
    assert window.holds((10, 90, 10, 90), 0.1)
    assert not window.holds((9, 90, 10, 90), 0.1)
    assert not window.holds((0, 101, 0, 10))
