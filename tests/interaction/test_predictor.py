from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limnet.image.slice_view import SliceView
from limnet.image.slices import BitMask, pack
from limnet.image.volume import Volume
from limnet.interaction.networks.hrnet import PRESETS, HRNetOCR
from limnet.interaction.predictor import FIRST_SCALES, Neighbour, SlicePredictor, neighbour, settle_negative_click
from limnet.interaction.window import FeatureCache, WindowEncoder
from limnet.prompts import Prompt2D
from tests.helpers.scenes import GreyLevelNetwork, dice, disks_view
from tests.helpers.tiny_networks import small_interaction


def click(row: int, column: int, positive: bool = True) -> Prompt2D:
    return Prompt2D("click", positive, ((row, column),))


def make(size: int = 64, **options: int) -> tuple[SlicePredictor, GreyLevelNetwork]:
    network = GreyLevelNetwork(**options)
    network.window_size = size  # type: ignore[assignment]
    return SlicePredictor(WindowEncoder(network, precision="fp32")), network


@pytest.mark.parametrize("radius", [4, 12, 30])
def test_first_click_finds_objects_of_any_size(radius: int) -> None:
    view, mask = disks_view((2, 240, 200), ((100, 90, radius),))
    predictor, network = make()
    result = predictor.predict(view, 1, [click(100 + radius // 3, 90)], None)
    assert result.shape == (240, 200)
    assert result.dtype == np.float32
    assert dice(result > 0.5, mask) > 0.9
    assert len(network.encoded) <= len(FIRST_SCALES) + 2


class ShyNetwork(GreyLevelNetwork):
    """Answers a first click near the border of its input by a dot, as networks do that saw few of them."""

    window_size = 64

    def decode(self, features: tuple[torch.Tensor, ...], prompts: torch.Tensor) -> dict[str, torch.Tensor]:
        found = super().decode(features, prompts)["instances"]
        clicked, previous = prompts[:, 1:2], prompts[:, :1]
        near = float(clicked[..., 4:-4, 4:-4].sum()) < 9 and not bool((previous > 0.5).any())
        return {"instances": torch.where(clicked > 0, 5.0, -5.0) if near else found}


@pytest.mark.parametrize("row", [0, 1, 63])
def test_a_dot_at_the_border_of_the_slice_is_looked_at_again(row: int) -> None:
    """Also from the other side of the border; an answer with a border in sight is taken as it is."""
    view, mask = disks_view((2, 64, 64), ((row, 40, 14),))
    shy = SlicePredictor(WindowEncoder(ShyNetwork(), precision="fp32"))
    result = shy.predict(view, 1, [click(row, 40)], None)
    assert dice(result > 0.5, mask) > 0.9
    plain, network = make()
    plain.predict(view, 1, [click(row, 40)], None)
    assert all(shape == network.encoded[0] for shape in network.encoded)
    assert len(network.encoded) < len(shy.encoder.network.encoded)


def test_another_slice_tells_the_scale_to_look_at() -> None:
    view, mask = disks_view((2, 240, 200), ((100, 90, 12),))
    alone, known = make(), make()
    alone[0].predict(view, 1, [click(100, 90)], None)
    result = known[0].predict(view, 1, [click(100, 90)], None, Neighbour(mask))
    assert dice(result > 0.5, mask) > 0.9
    assert len(known[1].encoded) == 1 < len(alone[1].encoded), "one window suits, nothing is tried"
    nothing = Neighbour(np.zeros_like(mask))
    assert np.array_equal(
        known[0].predict(view, 0, [click(100, 90)], None, nothing), alone[0].predict(view, 0, [click(100, 90)], None)
    )


def test_a_scale_known_wrongly_is_corrected() -> None:
    view, mask = disks_view((2, 240, 200), ((100, 90, 30),))
    small = disks_view((1, 240, 200), ((20, 20, 6),))[1]
    result = make()[0].predict(view, 1, [click(100, 90)], None, Neighbour(small))
    assert dice(result > 0.5, mask) > 0.9


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 200), st.integers(8, 200), st.floats(0, 1), st.floats(0, 1), st.sampled_from([1.0, 3.0]))
def test_any_slice_and_click(height: int, width: int, down: float, right: float, aspect: float) -> None:
    row, column = int(down * (height - 1)), int(right * (width - 1))
    view, _ = disks_view((1, height, width), ((row, column, max(height, width) / 6),), (1.0, aspect, 1.0))
    result = make(32)[0].predict(view, 0, [click(row, column)], None)
    assert result.shape == (height, width)
    assert np.isfinite(result).all()
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    assert result[row, column] > 0.5


def test_anisotropic_pixels() -> None:
    view, mask = disks_view((1, 60, 200), ((30, 100, 25),), (2.0, 4.0, 1.0))
    result = make()[0].predict(view, 0, [click(30, 100)], None)
    assert dice(result > 0.5, mask) > 0.9


def test_every_window_is_encoded_once_over_all_clicks() -> None:
    view, _ = disks_view()
    predictor, network = make()
    result = predictor.predict(view, 0, [click(60, 70)], None)
    prompts = [click(60, 70)]
    result = predictor.predict(view, 0, prompts, result)  # may look at the object in a better window once more
    first = len(network.encoded)
    assert first <= len(FIRST_SCALES) + 3
    for column in (66, 68, 73):
        prompts.append(click(61, column))
        result = predictor.predict(view, 0, prompts, result)
    assert len(network.encoded) == first
    assert len(network.decoded) > first
    assert predictor.encoder.cache.hits >= 3
    predictor.predict(view, 1, prompts, result)
    assert len(network.encoded) == first + 1


def test_the_mask_outside_the_window_stays() -> None:
    view, _ = disks_view((1, 400, 400), ((60, 70, 10),))
    predictor, network = make()
    previous = np.zeros((400, 400), np.float32)
    previous[55:66, 65:76] = 0.9
    previous[390, 390] = 0.3  # what was said far away, but is no object
    result = predictor.predict(view, 0, [click(60, 70)], previous)
    assert result[390, 390] == np.float32(0.3)
    assert previous[390, 390] == np.float32(0.3)
    assert len(network.encoded) <= 2


def test_a_prompt_far_from_the_mask_is_seen() -> None:
    view, mask = disks_view((1, 200, 200), ((30, 30, 10), (170, 160, 12)))
    predictor, _ = make()
    previous = np.where(np.arange(200)[:, None] < 100, mask, 0).astype(np.float32) * 0.9
    result = predictor.predict(view, 0, [click(170, 160)], previous)
    assert dice(result > 0.5, mask) > 0.85


def test_previous_mask_and_prompts_reach_the_network() -> None:
    view, mask = disks_view()
    predictor, network = make()
    predictor.predict(view, 0, [click(60, 70), click(90, 90, False)], mask.astype(np.float32))
    previous, positive, negative, bounds = network.decoded[0][0]
    assert float(previous.max()) == pytest.approx(1, abs=1e-4)
    assert 9 <= int(positive.sum()) <= 16  # disks of radius 2 in network pixels
    assert 9 <= int(negative.sum()) <= 16
    assert not bounds.any()
    rows, columns = (float(i.float().mean()) for i in torch.nonzero(positive, as_tuple=True))
    assert previous[round(rows), round(columns)] > 0.9  # in the same place of the window


def test_a_box_is_a_first_prompt_by_itself() -> None:
    view, _ = disks_view()
    predictor, network = make()
    result = predictor.predict(view, 0, [Prompt2D("box", True, ((46, 56), (74, 84)))], None)
    assert network.decoded[0][0, 3].any()
    assert len(network.encoded) <= 3
    assert result[60, 70] > 0.5
    assert not (result[:40] > 0.5).any()


def test_other_prompts() -> None:
    view, mask = disks_view()
    stroke = Prompt2D("scribble", True, ((58, 66), (62, 74)))
    assert dice(make()[0].predict(view, 0, [stroke], None) > 0.5, mask) > 0.9
    painted = Prompt2D("scribble", True, (), BitMask.of(mask))
    assert dice(make()[0].predict(view, 0, [painted], None) > 0.5, mask) > 0.9
    nothing = Prompt2D("mask", True, (), BitMask.of(np.zeros_like(mask)))
    assert make()[0].predict(view, 0, [nothing], None).shape == mask.shape
    assert make()[0].predict(view, 0, [], mask.astype(np.float32)).shape == mask.shape


@pytest.mark.filterwarnings("error")
def test_read_only_masks() -> None:
    view, mask = disks_view()
    previous = mask.astype(np.float32)
    previous.flags.writeable = False
    assert make()[0].predict(view, 0, [click(60, 70)], previous).flags.writeable


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_volumes(channels: int) -> None:
    view, mask = disks_view((2, 80, 90), ((40, 40, 10),))
    colour = np.repeat(np.asarray(view.volume.array)[..., None], 3, -1).astype(np.uint8)
    predictor, network = make(image_channels=channels)
    result = predictor.predict(SliceView(Volume.from_array(colour)), 0, [click(40, 40)], None)
    assert network.encoded[0][1] == channels
    assert dice(result > 0.5, mask) > 0.9


def test_same_inputs_same_bits_and_shared_cache() -> None:
    view, _ = disks_view((1, 60, 70), ((30, 30, 8),))
    cache = FeatureCache()
    first, second = (SlicePredictor(WindowEncoder(small_interaction(), "cpu", "fp32", cache)) for _ in range(2))
    prompts = [click(30, 30), click(5, 5, False)]
    one = first.predict(view, 0, prompts, None)
    misses = cache.misses
    assert np.array_equal(second.predict(view, 0, prompts, None), one)
    assert cache.misses == misses
    alone = SlicePredictor(WindowEncoder(small_interaction(), precision="fp32")).predict(view, 0, prompts, None)
    assert np.array_equal(alone, one)


def test_window_size_comes_from_the_network() -> None:
    network = GreyLevelNetwork()
    assert SlicePredictor(WindowEncoder(network)).size == 160
    network.window_size = 96  # type: ignore[assignment]
    assert SlicePredictor(WindowEncoder(network)).size == 96
    paper = HRNetOCR(**PRESETS["w18-small"])
    assert SlicePredictor(WindowEncoder(paper)).size == 384, "as it is trained with --preset paper"
    assert SlicePredictor(WindowEncoder(HRNetOCR(**PRESETS["w18-small"], window_size=64))).size == 64


# the nearest other prompted slice


DEPTH = 30


def flat_view(gap: float = 1.0, pixel: float = 1.0) -> SliceView:
    return SliceView(Volume.from_array(np.zeros((DEPTH, 40, 48), np.int16), spacing=(gap, pixel, pixel)))


def square(side: int) -> np.ndarray:
    mask = np.zeros((40, 48), np.float32)
    mask[5 : 5 + side, 6 : 6 + side] = 0.9
    return mask


def told_by(index: int, sides: dict[int, int], gap: float = 1.0, pixel: float = 1.0) -> Neighbour | None:
    slices = [pack(square(sides[i])) if i in sides else None for i in range(DEPTH)]
    return neighbour(flat_view(gap, pixel), slices, sides, index)


def test_the_nearest_one_that_holds_the_object() -> None:
    found = told_by(10, {4: 8, 9: 0, 14: 10, 10: 3})
    assert found is not None
    assert np.array_equal(found.mask, square(10) > 0.5)
    assert told_by(10, {9: 0, 10: 3}) is None
    assert told_by(10, {}) is None


def test_between_two_of_them_the_object_surely_is() -> None:
    for sides, surely in (
        ({0: 4, 29: 4}, True),
        ({0: 4, 12: 0}, False),
        ({0: 4, 12: 0, 29: 4}, True),
        ({29: 4}, False),
    ):
        found = told_by(10, sides)
        assert found is not None
        assert found.surely is surely, sides


@pytest.mark.parametrize(
    ("away", "gap", "pixel", "surely"), [(3, 1, 1, True), (4, 1, 1, False), (1, 4, 1, False), (3, 4, 4, True)]
)
def test_close_by_too(away: int, gap: float, pixel: float, surely: bool) -> None:
    found = told_by(10 + away, {10: 20}, gap, pixel)  # 20 pixels wide: a fifth of it are 4
    assert found is not None
    assert found.surely is surely


# negative clicks


def bar(columns: slice = slice(5, 45)) -> np.ndarray:
    mask = np.zeros((30, 50), np.float32)
    mask[8:22, columns] = 0.9
    return mask


EMPTY = np.zeros((30, 50), np.float32)


def test_a_click_in_the_middle_leaves_no_crumbs() -> None:
    after = EMPTY.copy()
    after[8:10, 5:9] = 0.8
    result = settle_negative_click(bar(), after, [click(15, 25, False)])
    assert not (result > 0.5).any()
    assert (after > 0.5).any(), "the input is not changed"


def test_a_crumb_with_a_positive_click_stays() -> None:
    after = EMPTY.copy()
    after[8:10, 5:9] = 0.8
    result = settle_negative_click(bar(), after, [click(9, 6), click(15, 25, False)])
    assert np.array_equal(result, after)


def test_a_large_rest_is_no_crumb() -> None:
    after = bar(slice(5, 25))
    assert np.array_equal(settle_negative_click(bar(), after, [click(15, 35, False)]), after)


def test_a_click_off_the_middle_takes_only_its_side() -> None:
    before = bar()
    before[10:20, 45:49] = 0.9  # a thinner part grown on: the click lies in it
    result = settle_negative_click(before, EMPTY, [click(11, 47, False)]) > 0.5
    assert result[15, 20], "the body of the mask stays"
    assert not result[11, 47]
    assert not result[15, 48]


@pytest.mark.parametrize(
    "prompts",
    [[], [click(15, 25)], [click(1, 1, False)], [Prompt2D("scribble", False, ((15, 25), (15, 26)))]],
)
def test_other_prompts_change_nothing(prompts: list[Prompt2D]) -> None:
    assert settle_negative_click(bar(), EMPTY, prompts) is EMPTY


def test_other_pieces_are_left_alone() -> None:
    before = bar(slice(5, 20))
    before[10:14, 40:44] = 0.9
    after = np.where(np.arange(50) >= 40, before, 0).astype(np.float32)
    result = settle_negative_click(before, after, [click(15, 12, False)])
    assert np.array_equal(result, after)


def test_where_the_object_surely_is_a_click_anywhere_takes_a_part() -> None:
    clicked = [click(13, 35, False)]  # as deep as a bar gets, but for one row
    assert not (settle_negative_click(bar(), EMPTY, clicked) > 0.5).any()
    result = settle_negative_click(bar(), EMPTY, clicked, surely=True) > 0.5
    assert not result[13, 35]
    assert result[15, 10]
    after = bar(slice(5, 30))  # a network that keeps most of it is believed
    assert settle_negative_click(bar(), after, clicked, surely=True) is after
