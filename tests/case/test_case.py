from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limnet.case.case import Case
from limnet.case.state import Engine
from limnet.errors import InputError
from limnet.quality.assessor import Assessor
from limnet.settings import Settings
from tests.helpers.fake_engine import (
    ConstantAssessor,
    ThresholdPredictor,
    ThresholdPropagator,
    fake_case,
    fake_engine,
    phantom,
)

CENTRE = (6, 20, 24)
SHAPE = (12, 40, 48)


def everything(case: Case) -> tuple[Any, ...]:
    """All a user can see of a case, and the stored state itself, as plain values."""
    state = case._state
    stored = [None if s is None else (s.box, s.packed) for s in state.slices]
    inner = {f.name: getattr(state, f.name) for f in fields(state) if f.name not in ("slices", "quality")}
    return case.mask.tobytes(), case.probability.tobytes(), case.quality.tobytes(), stored, inner


# one round


def test_first_click() -> None:
    case = fake_case()
    assert not case.mask.any()
    assert case.quality.tolist() == [1.0] * 12
    mask = case.click(CENTRE)
    assert mask.dtype == bool
    assert mask.shape == SHAPE
    assert mask[CENTRE]
    assert mask.any(axis=(1, 2)).sum() > 3
    assert case.probability.dtype == np.float32
    assert np.array_equal(case.probability > 0.5, mask)
    assert case.quality.dtype == np.float32
    assert case.quality.shape == (12,)
    assert case.prompted == (6,)
    mask[:] = False
    assert case.mask[CENTRE], "the returned mask is a copy"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_axis(axis: int) -> None:
    case = fake_case(axis=axis)
    mask = case.click(CENTRE)
    assert mask.shape == SHAPE
    assert mask[CENTRE]
    assert case.prompted == (CENTRE[axis],)
    assert len(case.quality) == SHAPE[axis]
    expected = np.moveaxis(phantom() >= 100, axis, 0)
    others = [i for i in range(SHAPE[axis]) if i != CENTRE[axis]]
    assert np.array_equal(np.moveaxis(mask, axis, 0)[others], expected[others])


def test_the_two_halves() -> None:
    case, whole = fake_case(), fake_case()
    half = case.click(CENTRE, propagate=False)
    assert half.any(axis=(1, 2)).tolist() == [i == 6 for i in range(12)]
    told: list[tuple[int, int]] = []
    case.propagate(progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (11, 11)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert np.array_equal(case.mask, whole.click(CENTRE))
    assert len(case.rounds) == 1


def test_scope() -> None:
    engine = fake_engine()
    case = fake_case(engine=engine)
    case.click((3, 20, 24))
    case.click((8, 20, 24), scope="interval")
    assert [call[:2] for call in engine.propagator.calls] == [(3, "volume"), (8, "interval")]
    assert [r.scope for r in case.rounds] == ["volume", "interval"]
    with pytest.raises(InputError, match="'volume' and 'interval'"):
        case.click(CENTRE, scope="all")
    case = fake_case(engine=engine, settings=Settings(scope="interval"))
    case.click((3, 20, 24), propagate=False)
    case.click((8, 20, 24), propagate=False)
    before = len(engine.propagator.calls)
    mask = case.propagate()
    assert [call[0] for call in engine.propagator.calls[before:]] == [3, 8]
    assert mask[[4, 5, 7]].any(axis=(1, 2)).all()


# rules


@pytest.mark.parametrize("scope", ["volume", "interval"])
@pytest.mark.parametrize("first", [True, False])
def test_a_negative_click_on_a_slice_nobody_has_seen(scope: str, first: bool) -> None:
    corner = (8, 1, 1)
    alone = fake_case(settings=Settings(scope=scope)).click(CENTRE)  # type: ignore[arg-type]
    assert not alone[corner]
    assert alone[8].any()
    case = fake_case(settings=Settings(scope=scope))  # type: ignore[arg-type]
    for point, positive in ((CENTRE, True), (corner, False))[:: 1 if first else -1]:
        case.click(point, positive, propagate=False)
    assert not case.mask[8].any()
    mask = case.propagate()
    assert np.array_equal(mask, alone), "what is not object somewhere does not empty the slice"
    assert 8 in case._state.known
    inside = (8, 20, 24)
    assert alone[inside]
    case = fake_case(settings=Settings(scope=scope))  # type: ignore[arg-type]
    case.click(inside, False)
    mask = case.click(CENTRE)
    assert mask[CENTRE]
    assert not mask[inside], "it holds once the slice is seen"
    case.click(CENTRE, False)
    case.undo()
    assert np.array_equal(case.mask, mask)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.integers(0, 11), st.integers(0, 39), st.integers(0, 47), st.booleans(), st.booleans()),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["volume", "interval"]),
    st.sampled_from([0.0, 1.0]),
)
def test_rules_hold_for_any_clicks(clicks: list[tuple[int, int, int, bool, bool]], scope: str, p: float) -> None:
    case = fake_case(engine=fake_engine(p))
    wanted: dict[tuple[int, int, int], bool] = {}
    prompted: dict[int, np.ndarray] = {}
    snapshots = [everything(case)]
    for z, y, x, positive, propagate in clicks:
        mask = case.click((z, y, x), positive, propagate=propagate, scope=scope)
        wanted[z, y, x] = positive
        if z in case._state.known:  # else nobody has seen the slice yet, and it is propagated to
            prompted[z] = mask[z].copy()
        snapshots.append(everything(case))
        assert {v: bool(mask[v]) for v in wanted} == wanted, "clicked voxels have the clicked label"
        for index, slice_ in prompted.items():
            assert np.array_equal(mask[index], slice_), "prompted slices stay"
        assert np.isfinite(case.quality).all()
        assert (case.quality[list(prompted)] == 1.0).all()
    for expected in reversed(snapshots[:-1]):
        case.undo()
        assert everything(case) == expected
    for expected in snapshots[1:]:
        case.redo()
        assert everything(case) == expected


def test_click_against_a_stubborn_network() -> None:
    class Never:
        def predict(self, view: Any, index: int, prompts: Any, previous: Any, nearest: Any = None) -> np.ndarray:
            return np.full(view.shape, 0.2 if prompts[-1].positive else 0.9, np.float32)

    case = fake_case(engine=Engine(Never(), ThresholdPropagator(), ConstantAssessor()))
    assert case.click(CENTRE)[CENTRE]
    assert case.mask[6].sum() == 13, "a small disc of radius 2"
    case.click((6, 20, 27), positive=False)
    assert not case.mask[6, 20, 27]
    assert case.mask[CENTRE], "earlier clicks hold too"
    case.click(CENTRE, positive=False)
    assert not case.mask[CENTRE], "the later of two clicks on a voxel holds"


def test_the_predictor_sees_the_nearest_prompted_slice_with_the_object() -> None:
    seen: list[Any] = []

    class Watched(ThresholdPredictor):
        def predict(self, view: Any, index: int, prompts: Any, previous: Any, nearest: Any = None) -> np.ndarray:
            seen.append(nearest)
            return super().predict(view, index, prompts, previous, nearest)

    case = fake_case(engine=Engine(Watched(), ThresholdPropagator(), ConstantAssessor()))
    first = case.click(CENTRE, propagate=False)
    case.click((0, 1, 1), positive=False, propagate=False)  # an empty slice shows nothing
    case.click((1, 20, 24), propagate=False)
    case.click((1, 20, 22), propagate=False)
    assert len(seen) == 3
    assert seen[0] is None
    assert all(np.array_equal(nearest.mask, first[6]) for nearest in seen[1:]), (
        "not the slice itself, not the empty one"
    )


def test_prompted_slices_are_given_to_the_propagator_and_kept() -> None:
    engine = fake_engine()
    case = fake_case(engine=engine)
    case.click(CENTRE)
    was = case.mask[6]
    engine.propagator.threshold = -1000.0  # from now on everything is object
    mask = case.click((2, 3, 3))
    assert engine.propagator.calls[-1] == (2, "volume", (2, 6))
    assert np.array_equal(mask[6], was)
    assert mask[7].all()


def test_fusion_per_slice() -> None:
    engine = fake_engine(p={4: 0.9, 6: 1.0, 7: 0.5, 8: 0.51})
    case = fake_case(engine=engine)
    first = case.click(CENTRE)
    assert engine.assessor.compared == [], "no fusion in the first round"
    engine.propagator.threshold = 240.0  # core only
    second = case.click((2, 20, 24))
    assert engine.assessor.prompted.newest == 2
    assert set(engine.assessor.prompted.masks) == {2, 6}
    assert np.array_equal(engine.assessor.prompted.before > 0.5, first[2])
    assert np.array_equal(engine.assessor.prompted.masks[2] > 0.5, second[2])
    assert 6 not in engine.assessor.compared
    assert 2 not in engine.assessor.compared
    core = phantom() >= 240
    for kept in (4, 8):
        assert np.array_equal(second[kept], first[kept])
    for new in (3, 5, 7):
        assert np.array_equal(second[new], core[new])
    assert case.rounds[-1].kept == 2


def test_tau_one_turns_fusion_off() -> None:
    engine = fake_engine(p=1.0)
    case = fake_case(engine=engine, settings=Settings(tau=1.0))
    case.click(CENTRE)
    engine.propagator.threshold = 240.0
    assert np.array_equal(case.click((5, 20, 24))[7], phantom()[7] >= 240)


def test_a_click_sees_those_before_it_on_its_slice_and_the_mask_so_far() -> None:
    engine = fake_engine()
    case = fake_case(engine=engine)
    mask = case.click(CENTRE)
    assert engine.predictor.calls[0][2] is None, "nothing before the first click"
    case.click((7, 20, 24), propagate=False)
    case.click((6, 20, 30), propagate=False)
    for (index, prompts, previous), clicked in zip(
        engine.predictor.calls[1:], [(7, [(20, 24)]), (6, [(20, 24), (20, 30)])], strict=True
    ):
        assert (index, [p.points[0] for p in prompts]) == clicked, "clicks of other slices are not its own"
        assert previous.dtype == np.float32
        assert np.array_equal(previous > 0.5, mask[index])


@pytest.mark.parametrize("scope", ["volume", "interval"])
def test_empty_prompt_is_a_hard_stop(scope: str) -> None:
    engine = fake_engine(p=1.0)  # fusion would keep everything
    case = fake_case(engine=engine, settings=Settings(scope=scope))
    engine.propagator.threshold = -1000.0
    assert case.click(CENTRE).any(axis=(1, 2)).all()
    mask = case.set_mask(np.zeros((40, 48), bool), index=8)
    assert mask.any(axis=(1, 2)).tolist() == [i < 8 for i in range(12)]
    mask = case.click((3, 20, 24))
    assert mask.any(axis=(1, 2)).tolist() == [i < 8 for i in range(12)], "later rounds do not cross it"
    mask = case.click((10, 20, 24))
    assert mask.any(axis=(1, 2)).tolist() == [i != 8 for i in range(12)], "a prompt beyond it has its own side"


# other prompts


def test_scribble_obeys() -> None:
    case = fake_case()
    line = [(6, 2, 2), (6, 2, 10)]
    mask = case.scribble(line)
    assert mask[6, 2, 2:11].all()
    painted = np.zeros(SHAPE, bool)
    painted[6, 2, 4:7] = True
    mask = case.scribble(painted, positive=False)
    assert not mask[6, 2, 4:7].any()
    assert mask[6, 2, 9], "the part far from the eraser stays"


def test_box_bounds_the_object() -> None:
    engine = fake_engine(p=1.0)
    case = fake_case(engine=engine)
    engine.propagator.threshold = -1000.0
    case.click((6, 20, 24))
    mask = case.box((3, 5, 6), (7, 30, 40))
    assert case.bounds == (3, 7)
    assert case.prompted == (5, 6)
    assert mask.any(axis=(1, 2)).tolist() == [3 <= i <= 7 for i in range(12)]
    assert not mask[5, :5].any()
    assert not mask[5, :, 41:].any()
    mask = case.click((4, 20, 24))
    assert mask.any(axis=(1, 2)).tolist() == [3 <= i <= 7 for i in range(12)]
    mask = case.click((9, 20, 24))
    assert case.bounds == (3, 9), "a prompt outside widens the bounds"
    assert not mask[10].any()


def test_set_mask() -> None:
    rng = np.random.default_rng(1)
    plane = rng.random((40, 48)) > 0.5
    case = fake_case()
    mask = case.set_mask(plane, index=6)
    assert np.array_equal(mask[6], plane)
    assert mask[5].any()
    case.click((6, 0, 0), positive=bool(not plane[0, 0]))
    assert case.mask[6, 0, 0] != plane[0, 0]
    whole = phantom() > 150
    case = fake_case()
    assert np.array_equal(case.set_mask(whole), whole), "a mask without gaps is the whole object"
    gaps = whole.copy()
    gaps[6] = False
    assert fake_case().set_mask(gaps)[6].any(), "gaps are filled by propagation"


def test_starting_mask_may_be_changed() -> None:
    whole = phantom() > 150
    engine = fake_engine(p=0.0)
    case = fake_case(engine=engine)
    assert np.array_equal(case.set_mask(whole, frozen=False), whole)
    assert case.prompted == ()
    assert engine.propagator.calls == []
    engine.propagator.threshold = 240.0
    case.click(CENTRE)
    assert engine.assessor.compared, "fused with the mask it started from"
    assert np.array_equal(case.mask[5], phantom()[5] >= 240)
    case.undo()
    case.set_mask(np.zeros((40, 48), bool), index=9)
    assert np.array_equal(case.mask[6], whole[6]), "an empty prompt at its end does not erase it"
    assert not case.mask[9:].any()


def test_a_correction_of_a_starting_mask_stays_near() -> None:
    whole = phantom() > 150
    engine = fake_engine(p=0.0)
    case = fake_case(engine=engine, settings=Settings(scope="interval"))
    case.set_mask(whole, frozen=False)
    engine.propagator.threshold = 240.0  # what a propagation would make of the slices
    mask = case.click(CENTRE)
    holding = np.flatnonzero(whole.any((1, 2)))
    far = [i for i in holding if abs(i - CENTRE[0]) >= round(0.3 * (len(holding) - 1))]
    near = sorted(set(holding) - set(far) - {CENTRE[0]})
    assert near
    assert far[0] < CENTRE[0] < far[-1]
    assert np.array_equal(mask[far], whole[far])
    assert case.rounds[-1].computed == len(near)


# steps


def test_unchanged_slices_are_shared_between_rounds() -> None:
    case = fake_case(engine=fake_engine(p=1.0))
    case.click(CENTRE)
    first = case._state.slices
    case._engine.propagator.threshold = 150.0
    case.click((2, 20, 24))
    assert all(a is b for i, (a, b) in enumerate(zip(first, case._state.slices, strict=True)) if i != 2)


# advice


def test_suggestion_is_the_worst_slice() -> None:
    engine = fake_engine(quality={i: 0.1 if i == 8 else 0.9 for i in range(12)})
    case = fake_case(engine=engine)
    case.click((6, 20, 34))
    found = case.suggest()
    assert found.index == 8
    assert "quality" in found.reason
    case.click((8, 20, 24))
    assert case.suggest().index not in (6, 8)


def test_an_end_is_as_doubtful_as_the_mask_before_it() -> None:
    case = fake_case(engine=fake_engine(quality={8: 0.1, 7: 0.9, 9: 0.8, 10: 0.8}))
    case.click((6, 20, 34))
    assert case.mask[8].any()
    assert not case.mask[9:].any()
    assert case.quality[7:].tolist() == pytest.approx([0.9, 0.1, 0.1, 0.1, 1.0])  # 9 and 10 are empty, 11 is far


def test_suggestion_leaves_out_what_was_found_right() -> None:
    case = fake_case(engine=fake_engine(quality={5: 0.2, 4: 0.7, 7: 0.75, 3: 0.9, 6: 0.9, 8: 0.9}))
    case.click((6, 20, 24))
    seen: list[int] = []
    while len(seen) < 4:
        seen.append(case.suggest(skip=seen).index)
    assert len(set(seen)) == 4
    assert 6 not in seen
    with pytest.raises(InputError, match="skipped"):
        case.suggest(skip=range(12))


def test_suggestion_sees_a_jump() -> None:
    case = fake_case(engine=fake_engine(quality=1.0))
    case._engine.propagator.threshold = -1000.0
    case.click((6, 20, 24), propagate=False)
    case.propagate()
    small = np.zeros((40, 48), bool)
    small[3:6, 3:6] = True
    case.set_mask(small, index=2, propagate=False)
    found = case.suggest()
    assert found.index in (1, 3)
    assert "jumps" in found.reason


def test_quality_far_from_the_object_is_one() -> None:
    case = fake_case(engine=fake_engine(quality=0.3))
    mask = case.click(CENTRE)
    filled = mask.any(axis=(1, 2))
    quality = case.quality
    assert quality[6] == 1.0
    assert np.allclose(quality[filled & (np.arange(12) != 6)], 0.3)
    far = [i for i in range(12) if not filled[max(i - 2, 0) : i + 3].any()]
    assert far
    assert (quality[far] == 1.0).all()


def test_nan_quality_counts_as_bad() -> None:
    case = fake_case(engine=fake_engine(quality=float("nan")))
    case.click(CENTRE)
    assert np.isfinite(case.quality).all()


def test_without_a_quality_network() -> None:
    engine = fake_engine()
    case = fake_case(engine=Engine(engine.predictor, engine.propagator, Assessor(None)))
    case.click(CENTRE)
    case.click((3, 20, 24))
    assert ((case.quality > 0) & (case.quality <= 1)).all()
    assert case.suggest().index not in (3, 6)


def test_only_background_is_marked() -> None:
    case = fake_case()
    assert not case.set_mask(np.zeros((40, 48), bool), index=4).any()
    case.undo()
    assert not case.click((6, 2, 2), positive=False).any()
    hint = case.suggest()
    assert hint.index in (5, 7)  # the middle one is prompted
    assert hint.reason == "only background is marked so far: mark the object, on a slice where it is large"
    case.click((5, 20, 24))
    assert "background" not in case.suggest().reason
