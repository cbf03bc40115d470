from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from limnet.errors import Cancelled
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from limnet.interaction.features import FeatureCache, WindowEncoder
from limnet.propagation.propagator import Propagator
from limnet.propagation.state import together
from limnet.propagation.stride import interpolate, spread
from limnet.settings import Settings
from tests.helpers.scenes import dice
from tests.helpers.small_xmem import SmallXMem
from tests.helpers.tiny_networks import small_propagation

DEPTH = 60
Masks = np.ndarray


class Knowing(torch.nn.Module):
    """A network, and its state, that answers with the right mask, sure by .9, and counts its steps."""

    masks: Masks
    steps: list[int]

    def start(self, *_: Any) -> Knowing:
        return self

    def place(self, index: int, mask: np.ndarray) -> None: ...

    def step(self, index: int, ahead: Any = ()) -> np.ndarray:
        self.steps.append(index)
        return self.masks[index] * np.float32(0.9)


def carry(
    masks: Masks,
    origin: int,
    gap: float = 1.0,
    prompted: tuple[int, ...] = (),
    scope: Any = "volume",
    colour: bool = False,
    stride_mm: float = 3.0,
    **options: Any,
) -> tuple[dict[int, np.ndarray], list[int]]:
    """Propagated slices of bool (D, H, W) masks of 1 mm pixels, and the slices that were stepped to."""
    Knowing.masks, Knowing.steps = masks, []
    array = np.zeros((*masks.shape, 3), np.uint8) if colour else np.zeros(masks.shape, np.int16)
    view = SliceView(Volume.from_array(array, spacing=(gap, 1, 1)))
    prompts = {i: masks[i].astype(np.float32) for i in (origin, *prompted)}
    propagator = Propagator(Knowing(), precision="fp32", settings=Settings(stride_mm=stride_mm))
    return propagator.propagate(view, prompts, origin, scope, **options), Knowing.steps


def ball(radius: float, gap: float = 1.0, shift: float = 0.0, size: int = 80) -> Masks:
    """A ball, or with a shift a slanted one, in the middle of `DEPTH` slices."""
    z, y, x = np.ogrid[:DEPTH, :size, :size]
    depth = (z - DEPTH / 2) * gap
    return depth**2 + (y - size / 2 - shift * depth) ** 2 + (x - size / 2) ** 2 <= radius**2


def pillar(first: int, end: int, size: int = 80) -> Masks:
    masks = np.zeros((DEPTH, size, size), bool)
    masks[first:end, 15:65, 15:65] = True
    return masks


def test_thin_slices_are_propagated_three_millimetres_apart() -> None:
    masks = pillar(0, DEPTH)
    result, steps = carry(masks, 30)
    assert [i for i in steps if i > 30] == [33, 36, 39, 42, 45, 48, 51, 54, 57, 59], "the last slice is not guessed"
    assert sorted(result) == [i for i in range(DEPTH) if i != 30]
    assert all(np.array_equal(mask > 0.5, masks[i]) and mask.dtype == np.float32 for i, mask in result.items())
    half, steps = carry(masks, 30, gap=0.5)
    assert [i for i in steps if i > 30] == [36, 42, 48, 54, 59]
    assert sorted(half) == sorted(result)


@pytest.mark.parametrize(
    "options",
    [{"gap": 2.5}, {"gap": 1.6}, {"stride_mm": 0.0}, {"colour": True}],
    ids=["2.5 mm", "1.6 mm", "off", "film"],
)
def test_thick_slices_films_and_the_paper_take_every_slice(options: Any) -> None:
    result, steps = carry(pillar(0, DEPTH), 30, **options)
    assert sorted(steps) == sorted(result) == [i for i in range(DEPTH) if i != 30]
    assert Settings.paper().stride_mm == 0


def test_both_ends_are_found_to_the_slice() -> None:
    for first, end in ((11, 50), (12, 49), (13, 51)):
        masks = pillar(first, end)
        result, steps = carry(masks, 30)
        assert [i for i, mask in sorted(result.items()) if mask.any()] == [i for i in range(first, end) if i != 30]
        assert max(result) == end + 2, "three empty slices end a pass, one by one"
        assert len(set(steps)) < 30


def test_an_object_that_changes_is_followed_slice_by_slice() -> None:
    masks = ball(20)
    result, steps = carry(masks, 30)
    assert {10, 11, 12, 48, 49, 50} <= set(steps), "near the poles"
    assert not {29, 31} & set(steps)
    assert dice(np.stack([result[i] > 0.5 for i in range(11, 30)]), masks[11:30]) > 0.98
    _, slanted = carry(ball(20, shift=3.0), 30)
    assert {27, 28, 29, 31, 32, 33} <= set(slanted), "a big shift"


def test_a_small_object_is_followed_at_its_own_scale() -> None:
    _, steps = carry(ball(3), 30)
    assert {27, 28, 29, 31, 32, 33} <= set(steps)
    _, half = carry(ball(10, 0.5), 30, gap=0.5)
    assert not {29, 31} & set(half), "20 mm wide: steps of two millimetres"


def test_prompts_stay_and_their_neighbours_are_not_guessed() -> None:
    for scope in ("volume", "interval"):
        result, steps = carry(pillar(0, DEPTH), 30, prompted=(40,), scope=scope)
        assert not {30, 40} & (result.keys() | set(steps))
        assert {39, 41 if scope == "volume" else 31} <= set(steps) | {41}
        assert sorted(result) == [i for i in range(DEPTH if scope == "volume" else 40) if i not in (30, 40)]


def test_every_slice_is_shown_once_and_progress_ends() -> None:
    shown: list[int] = []
    told: list[tuple[int, int]] = []
    result, _ = carry(
        pillar(8, 50),
        30,
        progress=lambda *pair: told.append(pair),
        found=lambda i, mask: shown.append(i),
    )
    assert sorted(shown) == sorted(result)
    assert [i for i in shown if i > 30] == sorted(i for i in shown if i > 30), "from the prompt outward"
    assert told == sorted(told)
    assert told[-1] == (DEPTH - 1, DEPTH - 1)
    with pytest.raises(Cancelled):
        carry(pillar(8, 50), 30, progress=lambda done, total: done < 10)


def test_carry_steps_to_the_slice_asked_for() -> None:
    carry(pillar(0, DEPTH), 30)
    Knowing.steps = []
    propagator = Propagator(Knowing(), precision="fp32", settings=Settings(stride_mm=3.0))
    view = SliceView(Volume.from_array(np.zeros((DEPTH, 80, 80), np.int16)))
    found = propagator.carry(view, {30: Knowing.masks[30].astype(np.float32)}, 30, 35)
    assert Knowing.steps == [33, 35]
    assert found is not None
    assert np.allclose(found, Knowing.masks[35] * np.float32(0.9), rtol=0, atol=1e-5)  # kept to 1/65535


def test_interpolation_is_even() -> None:
    first, last = np.zeros((2, 6, 5), np.float32)
    first[1:3, 1:4], last[2:5, 2:4] = 0.9, 0.6
    third, two = interpolate(first, last, 2)
    np.testing.assert_allclose(third, first * 2 / 3 + last / 3, atol=1e-6)
    np.testing.assert_allclose(two, first / 3 + last * 2 / 3, atol=1e-6)
    assert third.dtype == np.float32
    [nothing] = interpolate(first * 0, last * 0, 1)
    assert not nothing.any()
    assert list(interpolate(first, last, 0)) == []


def test_spread_keeps_both_ends_of_every_run() -> None:
    assert spread([1, 2, 3, 4, 5, 6, 7, 9, 20, 21, 22], 3) == [1, 4, 7, 9, 20, 22]
    assert spread(list(range(9)), 1) == list(range(9))
    assert spread([], 3) == []


@pytest.fixture
def scene() -> tuple[SliceView, Masks]:
    masks = ball(12, size=64)
    return SliceView(Volume.from_array(np.where(masks, 200, 0).astype(np.int16)), 0, (0, 200)), masks


@pytest.mark.parametrize("network", [small_propagation(window_size=64), SmallXMem().eval()], ids=["tiny", "XMem"])
def test_a_copy_of_a_state_goes_its_own_way(network: Any, scene: tuple[SliceView, Masks]) -> None:
    view, masks = scene
    prompt = masks[30].astype(np.float32)
    encoder = WindowEncoder(network, "cpu", "fp32", FeatureCache())

    def stepped(state: Any, index: int) -> np.ndarray:
        answer = state.step(index)
        return answer if isinstance(answer, np.ndarray) else together([answer], encoder)[0]

    states = [network.start(encoder, view, [(30, prompt)], Settings()) for _ in range(2)]
    for state in states:
        state.place(30, prompt)
    for index in range(31, 38):
        stepped(copy.copy(states[0]), index + 2)  # in vain
        one, other = (stepped(state, index) for state in states)
        assert np.array_equal(one, other)


def test_both_directions_are_one_batch(scene: tuple[SliceView, Masks], monkeypatch: pytest.MonkeyPatch) -> None:
    view, masks = scene
    view = SliceView(Volume.from_array(view.volume.array[27:34]), 0, (0, 200))
    masks = masks[27:34]
    network = small_propagation()
    sizes: list[int] = []
    plain = type(network).segment

    def counted(self: Any, features: Any, *others: Any) -> Any:
        sizes.append(len(features[0]))
        return plain(self, features, *others)

    monkeypatch.setattr(type(network), "segment", counted)
    prompts = {3: masks[3].astype(np.float32)}
    settings = Settings(stop_after_empty=0, stride_mm=0.0)
    both = Propagator(network, precision="fp32", settings=settings).propagate(view, prompts, 3)
    assert 2 in sizes
    alone = Propagator(network, precision="fp32", settings=settings)
    for target in (2, 4):
        found = alone.carry(view, prompts, 3, target)
        assert found is not None
        np.testing.assert_allclose(both[target], found, atol=1e-4)
