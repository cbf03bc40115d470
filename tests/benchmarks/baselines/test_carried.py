from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.baselines.carried import (
    NearestCopy,
    OpticalFlow,
    ShapeInterpolation,
    area_radius,
    between_shapes,
    displacement,
    signed_distance,
    spans,
    warped,
    window,
)
from benchmarks.core.rounds import predictor_config
from limnet.case.state import SlicePropagator
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from tests.helpers.bench import ball, knowing_session, painted, played, rod
from tests.helpers.scenes import dice
from tests.helpers.small_segmenter import small_segmenter

CARRIERS = [NearestCopy(), ShapeInterpolation(reach=1.2), OpticalFlow()]
carriers = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda c: type(c).__name__)


def disk(row: float, column: float, radius: float, shape: tuple[int, int] = (60, 60)) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2).astype(np.float32)


def blank_view(depth: int = 21, spacing: tuple[float, float, float] = (2.0, 1.0, 1.0)) -> SliceView:
    return SliceView(Volume.from_array(np.zeros((depth, 60, 60), np.int16), spacing), 0)


def nothing(index: int) -> np.ndarray:
    return np.zeros((60, 60), np.float32)


def areas(found: dict[int, np.ndarray]) -> dict[int, int]:
    return {i: int((m > 0.5).sum()) for i, m in sorted(found.items())}


@carriers
def test_a_slice_between_two_prompts_and_no_further_than_empty_ones(carrier: SlicePropagator):
    view = blank_view()
    prompts = {5: disk(30, 30, 10), 11: disk(30, 30, 10), 15: nothing(0)}
    found = carrier.propagate(view, prompts, 11, "interval", nothing, None)
    assert not set(found) & set(prompts)
    assert set(range(6, 11)) <= set(found)  # all of the way to the neighbour
    assert all(dice(found[i] > 0.5, prompts[5] > 0.5) > 0.97 for i in range(6, 11))
    assert max(found) <= 14
    assert min(found) > 5  # what lies behind the neighbour is not this prompt's
    assert all(m.dtype == np.float32 and m.shape == (60, 60) for m in found.values())


@carriers
def test_reach_is_in_millimetres(carrier: SlicePropagator):
    prompts = {15: disk(30, 30, 10)}
    thick = areas(carrier.propagate(blank_view(31, (5.0, 1.0, 1.0)), prompts, 15, "interval", nothing, None))
    thin = areas(carrier.propagate(blank_view(31, (1.0, 1.0, 1.0)), prompts, 15, "interval", nothing, None))
    assert set(thick) < set(thin)
    assert {i for i, n in thin.items() if n} == {i for i in range(31) if abs(i - 15) <= max(thin) - 15 and i != 15}
    assert 15 - min(thin) == max(thin) - 15  # the same both ways
    assert max(thin) - 15 in (6, 8, 12)


@carriers
def test_an_emptied_slice_cuts_back_a_leak(carrier: SlicePropagator):
    """The old mask reached to slice 16; the user emptied 13: the error began about as far on the near side."""
    view, prompts = blank_view(), {5: disk(30, 30, 10), 13: nothing(0)}
    found = carrier.propagate(
        view, prompts, 13, "interval", lambda i: disk(30, 30, 10) if 5 < i <= 16 else nothing(i), None
    )
    assert {i for i, n in areas(found).items() if n} == set(range(6, 11))


@carriers
def test_the_object_ends_at_a_slice_emptied_by_a_click(carrier: SlicePropagator):
    volume, truth = rod()
    truth[:, :, 29:] = False
    session = knowing_session(carrier, volume, truth, 2)
    mask = session.click((12, 14, 27), True)
    reached = np.flatnonzero(mask.any((0, 1)))
    far = int(reached[-1])
    assert far > 29  # too far
    prompted = mask[:, :, 27].copy()
    mask = session.click((12, 14, far - 1), False)
    assert not mask[:, :, far - 1 :].any()
    assert mask[:, :, 28].any()
    assert np.array_equal(mask[:, :, 27], prompted)


@carriers
def test_a_ball_by_the_robot_user(carrier: SlicePropagator):
    volume, truth = ball((2.0, 1.0, 1.0), 12.0, noise=1.0)
    first, second = (played(knowing_session(carrier, volume, truth), volume, truth, 6) for _ in range(2))
    assert dice(first[-1], truth) > 0.85
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_copies_come_from_the_nearest_slice():
    prompts = {4: disk(20, 20, 5), 9: disk(40, 40, 8)}
    found = NearestCopy(0.52).propagate(blank_view(), prompts, 9, "interval", nothing, None)
    assert all(np.array_equal(found[i], prompts[4]) for i in (5, 6))
    assert all(np.array_equal(found[i], prompts[9]) for i in (7, 8, 10, 11))
    assert set(found) == {5, 6, 7, 8, 10, 11}  # half of 8 mm in slices of 2 mm


def test_interpolated_radii_are_between():
    small, large = disk(30, 30, 8) > 0, disk(30, 30, 20) > 0
    for part in (0.25, 0.5, 0.75):
        middle = between_shapes(small, large, part, (1.0, 1.0))
        radius = float(np.sqrt(middle.sum() / np.pi))
        assert radius == pytest.approx(8 + 12 * part, abs=0.5)
    # Rows twice as far apart as columns: the same disks in mm.
    rows, columns = np.ogrid[:30, :60]
    distance = np.sqrt(((rows - 15) * 2.0) ** 2 + (columns - 30.0) ** 2)
    middle = between_shapes(distance <= 8, distance <= 20, 0.5, (2.0, 1.0))
    assert dice(middle, distance <= 14) > 0.96


def test_shapes_that_lie_apart_move_when_centred():
    first, second = disk(30, 15, 6) > 0, disk(30, 45, 6) > 0
    assert not between_shapes(first, second, 0.5, (1.0, 1.0)).any()
    assert dice(between_shapes(first, second, 0.5, (1.0, 1.0), centred=True), disk(30, 30, 6) > 0) > 0.99


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(deadline=None, max_examples=25)
def test_the_ends_of_an_interpolation_are_its_shapes(seed, centred):
    rng = np.random.default_rng(seed)
    first, second = (np.asarray(rng.random((12, 14)) > 0.6) for _ in range(2))
    first[3, 3] = second[8, 8] = True
    assert np.array_equal(between_shapes(first, second, 0.0, (1.0, 2.0), centred), first)
    assert np.array_equal(between_shapes(first, second, 1.0, (1.0, 2.0), centred), second)
    distance = signed_distance(first, (1.0, 2.0))
    assert np.array_equal(distance > 0, first)


def test_beyond_the_last_slice_a_ball_is_completed():
    volume, truth = ball((2.0, 1.0, 1.0), 14.0, 48.0, noise=1.0)
    view = SliceView(volume, 0)
    middle = len(view) // 2
    prompts = {middle: truth[middle].astype(np.float32)}
    found = ShapeInterpolation(1.0).propagate(view, prompts, middle, "interval", nothing, None)
    mask = np.zeros_like(truth)
    mask[middle] = truth[middle]
    for index, part in found.items():
        mask[index] = part > 0.5
    assert dice(mask, truth) > 0.93
    sizes = [mask[i].sum() for i in range(middle, len(view))]
    assert sizes == sorted(sizes, reverse=True)


def test_spans_of_an_empty_prompt():
    """An emptied slice between two filled ones opens both sides up to it, and not beyond the filled ones."""
    prompts = {3: disk(30, 30, 5), 8: nothing(0), 12: disk(30, 30, 5), 17: disk(30, 30, 5)}
    found = list(spans(prompts, 8, 21, nothing))
    assert [(s.start, s.other, list(s.slices), s.limited) for s in found] == [
        (3, None, [4, 5, 6, 7], True),
        (12, None, [11, 10, 9], True),
    ]
    both = list(spans(prompts, 12, 21, nothing))
    assert [(s.start, s.other, list(s.slices)) for s in both] == [(12, None, [11, 10, 9]), (12, 17, [13, 14, 15, 16])]
    assert list(spans({0: nothing(0)}, 0, 5, nothing)) == []
    assert area_radius(blank_view(3, (1.0, 0.5, 2.0)), disk(30, 30, 10) > 0) == pytest.approx(10.0, rel=0.02)


def test_flow_finds_a_shift():
    rng = np.random.default_rng(0)
    scene = np.clip(0.3 + 0.5 * disk(30, 30, 12) + rng.normal(0, 0.01, (60, 60)), 0, 1).astype(np.float32)
    moved = np.roll(scene, (2, -3), (0, 1))
    field = displacement(scene, moved, 7)
    start, goal = disk(30, 30, 12) > 0, disk(32, 27, 12) > 0
    carried = warped(signed_distance(start, (1.0, 1.0)), field) > 0
    assert dice(start, goal) < 0.85
    assert dice(carried, goal) > 0.97
    assert not displacement(scene[:5], moved[:5], 7).any()


def test_flow_follows_what_drifts():
    columns = [14 + 1.5 * i for i in range(20)]
    truth = np.stack([disk(30, c, 8) > 0 for c in columns])
    view = SliceView(painted(truth, (1.0, 1.0, 1.0)), 0)
    prompts = {0: truth[0].astype(np.float32), 19: truth[19].astype(np.float32)}
    scores = {}
    for carrier in CARRIERS:
        found = carrier.propagate(view, prompts, 19, "interval", nothing, None)
        scores[type(carrier)] = np.mean([dice(found[i] > 0.5, truth[i]) for i in range(1, 19)])
    assert scores[OpticalFlow] > 0.9
    assert scores[NearestCopy] < 0.6
    # From one side only, through everything up to an empty slice.
    view = SliceView(painted(truth, (1.0, 1.0, 1.0)), 0)
    found = OpticalFlow(9.0).propagate(view, {0: prompts[0]}, 0, "interval", nothing, None)
    assert np.mean([dice(found[i] > 0.5, truth[i]) for i in range(1, 12)]) > 0.9


def test_flow_window_has_a_margin_in_millimetres():
    rows, columns = window(disk(30, 30, 5) > 0, (1.0, 0.5))
    assert (rows.start, rows.stop) == (30 - 5 - 8, 30 + 5 + 8 + 1)
    assert (columns.start, columns.stop) == (30 - 5 - 11, 30 + 5 + 11 + 1)


def test_the_model_gives_the_masks_of_clicked_slices_only(monkeypatch: pytest.MonkeyPatch):
    segmenter = small_segmenter()
    asked = []
    monkeypatch.setattr(
        "limnet.segmenter.InteractiveSegmenter.from_pretrained",
        lambda *names, **options: asked.append((names, options)) or segmenter,
    )
    volume, _ = ball((2.0, 1.0, 1.0))
    expected = segmenter.open(volume).click((10, 20, 20), True, propagate=False)[10]
    for carrier in (NearestCopy(), ShapeInterpolation(), OpticalFlow()):
        mask = carrier.start(volume, 0).click((10, 20, 20), True)
        assert np.array_equal(mask[10], expected)
        assert predictor_config(carrier)["model"] == segmenter.identity
        assert predictor_config(carrier) == predictor_config(replace(carrier, device="cuda")), (
            "the place is not recorded"
        )
    assert (("limnet-tiny",), {"device": "cuda", "precision": "auto"}) in asked
