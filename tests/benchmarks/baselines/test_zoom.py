from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.baselines.zoom import (
    Crop,
    PixelClick,
    ZoomSession,
    click_disks,
    covers_clicks,
    crop_overlap,
    object_crop,
)
from limnet.errors import InputError
from limnet.interaction.networks.hrnet import HRNetOCR, drop_dead_tensors
from tests.helpers.golden import golden_arrays, golden_weights, max_difference


class Recorder:
    """A network that remembers what it was given."""

    def __init__(self, network: HRNetOCR) -> None:
        self.network = network
        self.prompt_channels = network.prompt_channels
        self.click_radius = network.click_radius
        self.image = self.prompts = torch.empty(0)

    def __call__(self, image: Tensor, prompts: Tensor) -> dict[str, Tensor]:
        self.image, self.prompts = image, prompts
        return self.network(image, prompts)


class Constant:
    """A network whose answer is the same everywhere, or 5 in a rectangle and -5 around it."""

    prompt_channels = ("positive", "negative", "previous")
    click_radius = 2.0

    def __init__(self, box: tuple[int, int, int, int] | None) -> None:
        self.box = box
        self.prompts: list[Tensor] = []

    def __call__(self, image: Tensor, prompts: Tensor) -> dict[str, Tensor]:
        self.prompts.append(prompts)
        logits = torch.full_like(image[:, :1], -5.0)
        if self.box is not None:
            top, bottom, left, right = self.box
            logits[:, :, top:bottom, left:right] = 5.0
        return {"instances": logits}


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_every_click_equals_the_reference(case: str) -> None:
    arrays, meta = golden_arrays("ritm_predictor")
    settings = meta["cases"][case]
    network = HRNetOCR.preset("w18-small").eval()
    network.load_state_dict(drop_dead_tensors(golden_weights("ritm_h18s", settings["overrides"])))
    recorder = Recorder(network)
    image = np.moveaxis(arrays[f"{case}_image"], -1, 0).astype(np.float32) / 255
    given = settings["zoom"]
    session = ZoomSession(recorder, image, given["target_size"], given.get("min_crop_size", 200), meta["with_flip"])

    for index, (row, column, positive) in enumerate(arrays[f"{case}_clicks"].tolist()):
        result = session.add_click(row, column, bool(positive))
        crop = (-1, -1, -1, -1) if session.crop is None else tuple(session.crop)
        assert crop == tuple(arrays[f"{case}_roi"][index])
        batch, _, height, width = arrays[f"{case}_net_shape_{index}"].tolist()
        disks = np.unpackbits(arrays[f"{case}_disks_{index}"])[: batch * 2 * height * width]
        assert (recorder.prompts[:, 1:].numpy() == disks.reshape(batch, 2, height, width)).all()
        stack = torch.cat([recorder.image, recorder.prompts[:, :1]], dim=1)
        assert max_difference(stack[:, :, ::16, ::16], arrays[f"{case}_net_input_every16_{index}"]) < 1e-4
        if f"{case}_prob" in arrays:
            difference = max_difference(result, arrays[f"{case}_prob"][index])
        else:
            difference = max_difference(result[::2, ::2], arrays[f"{case}_prob_every2"][index])
        assert difference < 1e-4


def session_of(network: Constant, shape: tuple[int, int] = (64, 80), smallest: int = 200) -> ZoomSession:
    return ZoomSession(network, np.zeros((3, *shape), np.float32), 64, smallest, flip=False)


def test_crop_rules() -> None:
    mask = np.zeros((100, 120), bool)
    mask[40:50, 60:70] = True
    assert object_crop(mask, [], 0) == Crop(38, 52, 58, 72)  # 44.5 - 7 rounds to the even 38, 51.5 to 52
    assert object_crop(mask, []) == Crop(0, 99, 0, 119)
    far = PixelClick(90, 110)
    assert object_crop(mask, [far], 0) == Crop(29, 99, 49, 119)  # 1.4 times rows 40 to 90, columns 60 to 110
    assert object_crop(mask, [far._replace(positive=False)], 0) == object_crop(mask, [], 0)
    crop = Crop(10, 20, 10, 20)
    assert covers_clicks(crop, [PixelClick(10, 19)])
    assert not covers_clicks(crop, [PixelClick(20, 15)])
    assert covers_clicks(crop, [PixelClick(90, 90, False)])
    assert crop_overlap(crop, crop) == 1
    assert crop_overlap(crop, Crop(15, 25, 10, 20)) == pytest.approx(6 / 16)
    assert crop_overlap(crop, Crop(30, 40, 10, 20)) == 0


def test_outside_the_crop_is_exactly_zero_and_channels_go_by_name() -> None:
    network = Constant((20, 30, 20, 30))
    session = session_of(network, smallest=16)
    first = session.add_click(25, 25)
    assert session.crop is None
    assert first.shape == (64, 80)
    assert first.min() > 0
    second = session.add_click(2, 2, positive=False)
    assert session.crop is not None
    assert second[session.crop.bottom + 1 :].max() == 0
    assert network.prompts[0][0, 0].sum() > 0  # "positive" is this network's first channel
    assert network.prompts[0][0, 2].sum() == 0


def test_an_empty_result_brings_the_whole_image_back() -> None:
    network = Constant((20, 30, 20, 30))
    session = session_of(network)
    session.add_click(25, 25)
    network.box = None
    session.add_click(26, 26)
    assert session.crop is not None
    assert session.add_click(27, 27).min() > 0
    assert session.crop is None


def test_a_mask_to_start_from_is_fed_once() -> None:
    network = Constant(None)
    session = session_of(network, (64, 64))
    mask = np.random.default_rng(0).random((1, 64, 64)) > 0.5
    session.start_from(mask)
    session.add_click(5, 5)
    assert np.array_equal(network.prompts[0][0, 2], mask[0])
    assert session.crop is None, "the crop is chosen by results"
    session.add_click(5, 6)
    assert network.prompts[1][0, 2].max() < 0.01


def test_other_prompt_channels_are_refused() -> None:
    network = Constant(None)
    network.prompt_channels = ("previous", "positive", "negative", "bounds")
    with pytest.raises(InputError, match="bounds"):
        session_of(network)


@pytest.mark.parametrize("stem", ["ritm_hrnet18s_ocr", "ritm_hrnet32_ocr"])
@pytest.mark.parametrize("case", ["a", "b"])
def test_disks_equal_the_reference(stem: str, case: str) -> None:
    arrays, _ = golden_arrays(stem)
    for points, expected in zip(arrays[f"{case}_points"], arrays[f"{case}_disks"], strict=True):
        half = len(points) // 2  # positive ones, then negative ones
        clicks = [PixelClick(row, column, number < half) for number, (row, column, _) in enumerate(points.tolist())]
        assert (click_disks(clicks, expected.shape[1:], 5.0)[0].numpy() == expected).all()


@pytest.mark.parametrize(
    ("row", "column", "pixels"), [(20, 30, 81), (20.5, 30.5, 80), (-2, -0.5, 0), (-2.0, 17.5, 24), (-9, 20, 0)]
)
def test_pixels_of_a_disk(row: float, column: float, pixels: int) -> None:
    positive, negative = click_disks([PixelClick(row, column, False)], (64, 64), 5.0)[0]
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    inside = (rows - row) ** 2 + (columns - column) ** 2 <= 25
    assert int(negative.sum()) == pixels
    assert torch.equal(negative.bool(), inside & (pixels > 0))
    assert not positive.any()
