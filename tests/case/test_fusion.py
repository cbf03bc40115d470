"""Fusion: eq. (1)-(4) per slice, and per pixel by the sign of the click."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limnet.case.fusion import keep_previous, one_sided, prompt_sign
from limnet.case.state import Engine
from limnet.errors import InputError
from limnet.image.slices import pack, unpack
from limnet.settings import Settings
from tests.helpers.fake_engine import ConstantAssessor, ThresholdPredictor, fake_case

chances = st.lists(st.floats(0, 1), min_size=1, max_size=8)
ON, OFF = (Settings(scope="interval", one_sided=on) for on in (True, False))


def objective(p: list[float], kept: list[bool]) -> float:
    """Value of eq. (1) for a choice."""
    return float(np.where(kept, p, 1 - np.array(p)).sum())


def test_rule_of_equation_4() -> None:
    assert keep_previous([0.0, 0.5, 0.500001, 1.0]).tolist() == [False, False, True, True]
    assert keep_previous([0.6, 0.8], tau=0.7).tolist() == [False, True]


@given(chances)
def test_maximises_equation_1(p: list[float]) -> None:
    best = max(objective(p, list(choice)) for choice in itertools.product([False, True], repeat=len(p)))
    assert objective(p, keep_previous(p).tolist()) == pytest.approx(best)


@given(chances, st.floats(0, 1))
def test_tau_is_monotone(p: list[float], tau: float) -> None:
    assert not (keep_previous(p, 1.0)).any()
    assert (keep_previous(p, tau) <= keep_previous(p, tau / 2)).all()


@pytest.mark.parametrize(
    ("bad", "tau"), [([float("nan")], 0.5), ([1.1], 0.5), ([-0.1], 0.5), ([[0.5]], 0.5), ([0.5], 1.5)]
)
def test_refuses(bad: list[float], tau: float) -> None:
    with pytest.raises(InputError, match="tau" if tau > 1 else "probabilit"):
        keep_previous(bad, tau)


class Drifting:
    """Propagates a square that lies elsewhere in every round, five pixels further right."""

    def __init__(self) -> None:
        self.number = 0

    def propagate(self, view, prompts, origin, scope, known, progress=None, found=None):
        square = np.zeros(view.shape, np.float32)
        square[10:30, 10 + 5 * self.number : 30 + 5 * self.number] = 0.75
        self.number += 1
        return {i: square for i in range(len(view)) if i not in prompts}


def drifting_case(settings: Settings):
    engine = Engine(ThresholdPredictor(), Drifting(), ConstantAssessor())
    return fake_case(np.zeros((12, 40, 48), np.int16), engine=engine, settings=settings)


def columns(mask) -> tuple[int, int]:
    found = np.flatnonzero(mask.any(0))
    return int(found[0]), int(found[-1])


@pytest.mark.parametrize(
    ("settings", "positive", "expected"), [(ON, True, (10, 34)), (ON, False, (10, 29)), (OFF, True, (15, 34))]
)
def test_a_click_changes_other_slices_in_one_direction(settings, positive: bool, expected: tuple[int, int]) -> None:
    case = drifting_case(settings)
    case.click((6, 20, 20))
    assert columns(case.mask[4]) == (10, 29)
    case.click((2, 20, 20), positive)
    assert columns(case.mask[4]) == expected


def test_other_prompts_and_scopes_are_free() -> None:
    case = drifting_case(ON)
    case.click((6, 20, 20))
    case.click((2, 20, 20), scope="volume")
    assert columns(case.mask[4]) == (15, 34)
    case.scribble([(5, 20, 20), (5, 20, 24)])
    assert columns(case.mask[4]) == (20, 39)
    case.click((9, 20, 20), propagate=False)
    case.click((3, 20, 20), False, propagate=False)
    case.propagate()
    assert columns(case.mask[4])[0] > 20, "clicks of both kinds"


def test_the_quality_network_sees_a_few_slices_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    compare = ConstantAssessor.compare
    monkeypatch.setattr(ConstantAssessor, "compare", lambda s, v, i, *a: sizes.append(len(i)) or compare(s, v, i, *a))
    case = drifting_case(replace(OFF, quality_batch=4))
    case.click((6, 20, 20))
    case.click((2, 20, 20), scope="volume")
    assert sizes == [4, 4, 2]


def test_signs_of_what_is_pending() -> None:
    case = fake_case(settings=ON)
    assert prompt_sign(case._state) is None
    case.click((6, 20, 24), propagate=False)
    assert prompt_sign(case._state) is True
    case.click((3, 1, 1), False, propagate=False)
    assert prompt_sign(case._state) is None
    case.propagate()
    case.click((5, 1, 1), False, propagate=False)
    assert prompt_sign(case._state) is False
    case.scribble([(4, 1, 1), (4, 9, 1)], False, propagate=False)
    case.lasso([(3, 1, 1), (3, 9, 1), (3, 9, 9)], False, propagate=False)
    assert prompt_sign(case._state) is False
    case.box((7, 1, 1), (7, 9, 9), propagate=False)
    assert prompt_sign(case._state) is None
    case.propagate()
    case.scribble([(4, 1, 1), (4, 9, 1)], propagate=False)
    assert prompt_sign(case._state) is None


def fused(before, clicked, positive: bool, found, known):
    """Slices after clicks on slice 2, which became `clicked`."""
    shape = clicked.shape
    ctx = SimpleNamespace(view=SimpleNamespace(shape=shape), packed=lambda _, mask: pack(mask))
    old = SimpleNamespace(slices=tuple(map(pack, before)), known=known)
    state = SimpleNamespace(slices=(*old.slices[:2], pack(clicked)), pending=(2,))
    chosen = one_sided(ctx, old, state, positive, {i: pack(mask) for i, mask in found.items()})
    return {i: unpack(mask, shape) for i, mask in chosen.items()}


@pytest.mark.parametrize(("positive", "both"), [(True, np.maximum), (False, np.minimum)])
def test_slices_without_an_earlier_result_are_taken_as_found(positive: bool, both) -> None:
    old, new, empty = np.zeros((3, 4, 4), np.float32)
    old[0], new[1] = 1, 1
    chosen = fused((old, old, old), empty, positive, {0: new, 1: new}, {0, 2})
    assert np.array_equal(chosen[0], both(old, new))
    assert np.array_equal(chosen[1], new)


def test_a_negative_click_takes_away_on_its_own_side_only() -> None:
    """Rows 4 and 5 of the clicked slice went; elsewhere row 4 and all beyond may go, and what was kept stays."""
    old, empty = np.zeros((2, 8, 8), np.float32)
    old[1:6, 2:6] = 1
    clicked, wide, after = old.copy(), np.ones((8, 8), np.float32), np.ones((8, 8), np.float32)
    clicked[4:], after[4:] = 0, 0
    chosen = fused((wide, old, old), clicked, False, {0: empty, 1: empty}, {0, 1, 2})
    assert np.array_equal(chosen[0], after)
    assert np.array_equal(chosen[1], clicked)
    assert not fused((wide, old, old), empty, False, {0: empty}, {0})[0].any(), "a slice that was emptied"
    assert np.array_equal(fused((wide, old, old), old, False, {0: empty}, {0})[0], wide), "a click that changed nothing"
