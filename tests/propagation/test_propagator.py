from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limnet.errors import InputError
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from limnet.interaction.predictor import SlicePredictor
from limnet.interaction.window import FeatureCache, WindowEncoder
from limnet.prompts import Prompt2D
from limnet.propagation.networks.xmem import XMem
from limnet.propagation.propagator import Propagator, end_before_empty
from limnet.settings import Settings
from tests.helpers.scenes import disks_view
from tests.helpers.tiny_networks import small_interaction, small_propagation

DEPTH = 20
SHAPE = (6, 7)


def filled(value: float = 0.9) -> np.ndarray:
    return np.full(SHAPE, value, np.float32)


EMPTY = filled(0.0)


class FakeState:
    """Answers with the number of the slice it started from, as hundredths above 0.5; empty on the slices of `gone`."""

    made: list[FakeState]
    gone: frozenset[int] = frozenset()

    def __init__(self, encoder: Any, view: Any, prompts: Sequence[tuple[int, np.ndarray]], settings: Any) -> None:
        self.prompts = list(prompts)
        self.placed: list[int] = []
        self.steps: list[int] = []
        FakeState.made.append(self)

    def place(self, index: int, mask: np.ndarray) -> None:
        self.placed.append(index)

    def step(self, index: int, ahead: Sequence[int] = ()) -> np.ndarray:
        self.steps.append(index)
        return EMPTY.copy() if index in self.gone else filled(value(self.placed[0]))


class FakeNetwork(torch.nn.Module):
    start = FakeState


@pytest.fixture(autouse=True)
def _no_states() -> None:
    FakeState.made = []
    FakeState.gone = frozenset()


def view() -> SliceView:
    return SliceView(Volume.from_array(np.zeros((DEPTH, *SHAPE), np.int16)))


def make(**options: Any) -> Propagator:
    return Propagator(WindowEncoder(FakeNetwork(), precision="fp32"), Settings(**options))


def run(prompts: dict[int, np.ndarray], origin: int, scope: str = "volume", **options: Any) -> dict[int, np.ndarray]:
    return make(**options).propagate(view(), prompts, origin, scope)


def value(start: int) -> float:
    return round(255 * (0.5 + (1 + start) / 100)) / 255


def test_one_prompt_goes_to_both_ends() -> None:
    result = run({8: filled()}, 8)
    assert sorted(result) == [i for i in range(DEPTH) if i != 8]
    assert [c.steps for c in FakeState.made] == [list(range(7, -1, -1)), list(range(9, DEPTH))]
    assert [c.placed for c in FakeState.made] == [[8], [8]]  # a fresh state for every direction
    assert all(r.shape == SHAPE and r.dtype == np.float32 for r in result.values())


def test_volume_scope_passes_over_other_prompts() -> None:
    prompts = {3: filled(), 12: filled(), 8: filled()}
    result = run(prompts, 8)
    assert sorted(result) == [i for i in range(DEPTH) if i not in prompts]
    assert [c.placed for c in FakeState.made] == [[8, 3], [8, 12]]
    assert all(float(r[0, 0]) == pytest.approx(value(8)) for r in result.values())


def test_memory_gets_every_prompt_nearest_first() -> None:
    prompts = {3: filled(), 12: filled(), 8: filled(), 19: EMPTY, 0: filled()}
    run(prompts, 8, "interval")
    assert [[i for i, _ in c.prompts] for c in FakeState.made] == [
        [8, 12, 3, 0, 19],
        [3, 0, 8, 12, 19],
        [8, 12, 3, 0, 19],
        [12, 8, 19, 3, 0],
    ]
    assert all(np.array_equal(mask, prompts[i] > 0.5) for c in FakeState.made for i, mask in c.prompts)


def test_memory_gets_masks_without_haze() -> None:
    haze = np.full(SHAPE, 0.4, np.float32)
    haze[0, 0] = 0.7
    run({8: haze}, 8)
    remembered = [mask for c in FakeState.made for _, mask in c.prompts]
    assert remembered
    assert all(mask.sum() == 1.0 and mask[0, 0] == 1.0 and mask.dtype == np.float32 for mask in remembered)
    assert haze[0, 0] == np.float32(0.7), "the input is not changed"


def test_interval_scope_blends_the_passs_of_both_prompts_by_distance() -> None:
    prompts = {4: filled(), 8: filled(), 14: filled()}
    result = run(prompts, 8, "interval")
    assert sorted(result) == [5, 6, 7, *range(9, 14)]
    for index, blend in result.items():
        far = 4 if index < 8 else 14
        share = abs(index - far) / abs(8 - far)
        assert float(blend[0, 0]) == pytest.approx(share * value(8) + (1 - share) * value(far), abs=1e-5)
        assert blend.dtype == np.float32


def test_interval_scope_at_the_ends_is_one_pass() -> None:
    result = run({4: filled(), 8: filled()}, 8, "interval")
    assert sorted(result) == [5, 6, 7, *range(9, DEPTH)]
    assert float(result[12][0, 0]) == pytest.approx(value(8))


@pytest.mark.parametrize(("origin", "other"), [(4, 10), (10, 4)])
def test_interval_with_one_empty_side_uses_the_filled_pass_alone(origin: int, other: int) -> None:
    for empty in (origin, other):
        start = other if empty == origin else origin
        prompts = {origin: filled(), other: filled()}
        prompts[empty] = EMPTY
        result = run(prompts, origin, "interval")
        between = {i: float(r[0, 0]) for i, r in result.items() if 4 < i < 10}
        assert between == pytest.approx({i: value(start) for i in range(5, 10)})


def test_an_empty_origin_carries_nothing() -> None:
    assert run({8: EMPTY}, 8) == {}
    assert run({8: EMPTY, 2: filled()}, 8) == {}
    assert FakeState.made == []


def test_early_stop_after_empty_slices() -> None:
    FakeState.gone = frozenset({10, 12, 13, 14, 15})
    result = run({8: filled()}, 8, stop_after_empty=3)
    assert sorted(i for i in result if i > 8) == [9, 10, 11, 12, 13, 14]
    result = run({8: filled()}, 8, stop_after_empty=1)
    assert sorted(i for i in result if i > 8) == [9, 10]


def test_a_filled_prompt_resets_the_early_stop() -> None:
    FakeState.gone = frozenset({9, 10, 12, 13})
    result = run({8: filled(), 11: filled()}, 8, stop_after_empty=3)
    assert max(result) == DEPTH - 1


def test_an_empty_prompt_is_a_hard_stop() -> None:
    prompts = {8: filled(), 12: EMPTY, 5: EMPTY}
    result = run(prompts, 8)
    assert sorted(result) == [6, 7, 9, 10, 11]


@pytest.mark.parametrize("scope", ["volume", "interval"])
def test_no_state_without_slices_to_fill(scope: str) -> None:
    assert run({0: filled(), 1: filled()}, 0, "interval") == {}
    assert FakeState.made == []
    run({DEPTH - 1: filled()}, DEPTH - 1, scope)
    assert len(FakeState.made) == 1


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(st.integers(0, DEPTH - 1), st.booleans(), min_size=1),
    st.integers(0, 100),
    st.sampled_from(["volume", "interval"]),
    st.frozensets(st.integers(0, DEPTH - 1)),
)
def test_progress_and_results_for_any_prompts(
    drawn: dict[int, bool], pick: int, scope: str, gone: frozenset[int]
) -> None:
    FakeState.gone = gone
    prompts = {i: filled() if full else EMPTY for i, full in drawn.items()}
    origin = sorted(prompts)[pick % len(prompts)]
    told: list[tuple[int, int]] = []
    result = make().propagate(view(), prompts, origin, scope, progress=lambda *a: told.append(a))
    assert not set(result) & set(prompts)
    assert all(0 <= i < DEPTH for i in result)
    totals = {total for _, total in told}
    assert len(totals) == 1
    done = [d for d, _ in told]
    assert done == sorted(done)
    assert told[-1] == (told[-1][1], told[-1][1])
    if scope == "interval":
        low = max((i for i in prompts if i < origin), default=-1)
        high = min((i for i in prompts if i > origin), default=DEPTH)
        assert all(low < i < high for i in result)


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match="scope"):
        run({8: filled()}, 8, "everything")
    with pytest.raises(InputError, match="not prompted"):
        run({8: filled()}, 7)
    with pytest.raises(InputError, match="Linear cannot propagate"):
        Propagator(WindowEncoder(torch.nn.Linear(2, 2)))


@pytest.mark.filterwarnings("error:The given NumPy array is not writable")
def test_xmem_on_a_small_volume() -> None:
    torch.manual_seed(0)
    stack, mask = disks_view((6, 48, 48), ((24, 24, 9),))
    network = XMem(8, 16, 8).eval()
    prompt = mask.astype(np.float32)
    prompt.flags.writeable = False
    prompts = {2: prompt, 4: prompt, 5: np.zeros_like(prompt)}
    own_size = Settings(short_side=0)
    propagator = Propagator(WindowEncoder(network, precision="fp32"), own_size)
    carried = [propagator.propagate(stack, prompts, 2) for _ in range(2)]
    assert sorted(carried[0]) == [0, 1, 3]
    for index, result in carried[0].items():
        assert result.shape == (48, 48)
        assert result.dtype == np.float32
        assert 0 <= float(result.min()) <= float(result.max()) <= 1
        assert np.array_equal(result, carried[1][index])
    both = propagator.propagate(stack, prompts, 2, "interval")
    assert sorted(both) == [0, 1, 3]


def test_tiny_on_a_small_volume_shares_the_image_half(monkeypatch: pytest.MonkeyPatch) -> None:
    stack, mask = disks_view((6, 90, 80), ((40, 36, 9),))
    interaction, network = small_interaction(), small_propagation()
    network.encoder.load_state_dict(interaction.encoder.state_dict())
    for each in (interaction, network):
        each.window_size = 64  # type: ignore[assignment]
    cache = FeatureCache()
    predictor = SlicePredictor(WindowEncoder(interaction, "cpu", "fp32", cache))
    propagator = Propagator(WindowEncoder(network, "cpu", "fp32", cache))
    count = {"images": 0}
    for each in (interaction, network):
        original = each.encode_image

        def counted(image: torch.Tensor, original: Any = original) -> tuple[torch.Tensor, ...]:
            count["images"] += 1
            return original(image)

        monkeypatch.setattr(each, "encode_image", counted)
    prompt = mask.astype(np.float32)
    predictor.predict(stack, 3, [Prompt2D("click", True, ((40, 36),))], prompt)
    hits = cache.hits
    first = propagator.propagate(stack, {3: prompt}, 3)
    assert cache.hits > hits
    assert count["images"] == cache.misses  # nothing is encoded behind the cache's back
    before = count["images"]
    again = propagator.propagate(stack, {3: prompt}, 3)
    assert count["images"] == before
    assert all(np.array_equal(first[i], again[i]) for i in first)


def _result(depth: int, filled: range) -> Callable[[int], np.ndarray]:
    return lambda i: np.full((4, 4), float(i in filled), np.float32)


@pytest.mark.parametrize(
    ("filled", "empty", "was", "last"),
    [
        (20, 10, range(0, 30), 15),  # the leak reaches the end of the volume: half of the way is the most that goes
        (20, 10, range(7, 30), 13),  # it reached 3 slices beyond the click: 3 on this side go too
        (20, 10, range(10, 30), 11),  # the leak ended at the click
        (20, 10, range(14, 30), 14),  # cut at an earlier correction: the object keeps its end
        (20, 10, range(0, 0), 11),  # nothing is known yet: the pass decides
        (10, 20, range(0, 24), 17),  # the same upwards
        (10, 11, range(0, 40), 10),  # neighbours leave nothing to cut
    ],
)
def test_end_before_empty(filled: int, empty: int, was: range, last: int) -> None:
    assert end_before_empty(_result(40, was), filled, empty, 40) == last


def test_an_emptied_slice_cuts_the_leak_on_both_sides() -> None:
    view = SliceView(Volume.from_array(np.zeros((40, *SHAPE), np.int16)), 0)
    prompts = {30: filled(), 20: EMPTY}
    result = Propagator(WindowEncoder(small_propagation())).propagate(
        view, prompts, 20, "interval", _result(40, range(18, 40))
    )
    assert {i for i, m in result.items() if m.any()} == set(range(22, 30))
    assert not result[21].any(), "the slices next to the click are told to be empty"


@pytest.mark.parametrize(("origin", "target"), [(8, 12), (12, 8), (8, 9), (19, 0)])
def test_propagate_to_gives_the_one_slice_asked_for(origin: int, target: int) -> None:
    result = make().propagate_to(view(), {origin: filled()}, origin, target)
    assert result is not None
    assert float(result[0, 0]) == pytest.approx(value(origin))
    (state,) = FakeState.made
    assert sorted(state.steps) == sorted({*range(origin, target, 1 if target > origin else -1), target} - {origin})
    assert set(np.unique(state.prompts[0][1])) <= {0.0, 1.0}, "memory gets masks without haze"


def test_propagate_to_passes_over_other_prompts_and_may_end_before() -> None:
    assert make().propagate_to(view(), {8: filled(), 10: filled()}, 8, 12) is not None
    assert FakeState.made[0].placed == [8, 10]
    assert make().propagate_to(view(), {8: filled(), 10: EMPTY}, 8, 12) is None
    assert make().propagate_to(view(), {8: EMPTY}, 8, 12) is None


@pytest.mark.parametrize(("origin", "target"), [(7, 9), (8, 8), (8, 10), (8, -1), (8, DEPTH)])
def test_propagate_to_from_a_prompted_slice_to_one_that_is_not(origin: int, target: int) -> None:
    with pytest.raises(InputError, match=f"from slice {origin} to slice {target} of {DEPTH}"):
        make().propagate_to(view(), {8: filled(), 10: filled()}, origin, target)


def test_both_directions_are_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    view, mask = disks_view((7, 64, 64), ((32, 32, 12),))
    network = small_propagation(window_size=64)
    sizes: list[int] = []
    plain = type(network).segment

    def counted(self: Any, features: Any, *others: Any) -> Any:
        sizes.append(len(features[0]))
        return plain(self, features, *others)

    monkeypatch.setattr(type(network), "segment", counted)
    prompts, rules = {3: mask.astype(np.float32)}, Settings(stop_after_empty=0)
    both = Propagator(WindowEncoder(network, precision="fp32"), rules).propagate(view, prompts, 3)
    assert 2 in sizes
    alone = Propagator(WindowEncoder(network, precision="fp32"), rules)
    for target in (2, 4):
        found = alone.propagate_to(view, prompts, 3, target)
        assert found is not None
        np.testing.assert_allclose(both[target], found, atol=1e-4)
