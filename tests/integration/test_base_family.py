"""The base family end to end: HRNet + OCR, XMem and the ResNet quality network with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from limnet import InteractiveSegmenter
from limnet.interaction.networks.hrnet import PRESETS, HRNetOCR
from limnet.propagation.networks.xmem import XMem
from limnet.quality.networks.resnet import ResNetQuality
from limnet.settings import Settings
from tests.helpers.fake_engine import phantom
from tests.helpers.tiny_networks import small_interaction, small_propagation

SHAPE = (4, 40, 36)
OWN_SIZE = Settings(short_side=0)
CENTRE = (1, 20, 18)


@pytest.fixture(scope="module")
def networks() -> tuple[HRNetOCR, XMem, ResNetQuality]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hrnet = HRNetOCR(**PRESETS["w18-small"], window_size=160)
        return hrnet, XMem(key_dim=16, value_dim=32, hidden_dim=16), ResNetQuality(18)


def video() -> np.ndarray:
    """(T, H, W, 3) uint8: a moving bright blob, coloured."""
    gray = np.clip(phantom(SHAPE), 0, 255).astype(np.uint8)
    return np.stack([gray, gray // 2, 255 - gray], axis=-1)


@pytest.mark.parametrize(("kind", "precision"), [("gray", "fp32"), ("video", "bf16")])
def test_whole_rounds(networks: tuple[HRNetOCR, XMem, ResNetQuality], kind: str, precision: str) -> None:
    segmenter = InteractiveSegmenter(*networks, precision=precision, settings=OWN_SIZE)
    case = segmenter.open(phantom(SHAPE) if kind == "gray" else video(), spacing=(3.0, 1.0, 1.0))
    truth = phantom(SHAPE)[1] > 100
    mask = case.set_mask(truth, index=1)
    assert mask.shape == SHAPE
    assert np.array_equal(mask[1], truth)
    assert case.rounds[-1].computed == 3
    mask = case.click((3, 20, 18), scope="interval")
    assert mask[3, 20, 18]
    assert np.array_equal(mask[1], truth), "prompted slices stay"
    before = case.probability
    assert not case.click((0, 2, 2), positive=False)[0, 2, 2]
    assert np.isfinite(case.probability).all()
    assert np.isfinite(case.quality).all()
    assert case.suggest().index == 2
    case.undo()
    assert np.array_equal(case.probability, before)


@pytest.mark.parametrize("axis", [1, 2])
def test_other_axes_and_slices_smaller_than_the_networks_take(
    networks: tuple[HRNetOCR, XMem, ResNetQuality], axis: int
) -> None:
    case = InteractiveSegmenter(*networks, precision="fp32", settings=OWN_SIZE).open(phantom((3, 8, 8)), axis=axis)
    assert case.click((1, 4, 4))[1, 4, 4]
    assert case.mask.shape == (3, 8, 8)


@pytest.mark.parametrize("kind", ["gray", "video"])
def test_families_mix(networks: tuple[HRNetOCR, XMem, ResNetQuality], kind: str) -> None:
    hrnet, xmem, _ = networks
    volume = phantom(SHAPE) if kind == "gray" else video()
    for trio in ((hrnet, small_propagation(), None), (small_interaction(3), xmem, ResNetQuality(18, 3))):
        case = InteractiveSegmenter(*trio, precision="fp32", settings=OWN_SIZE).open(volume)
        case.set_mask(phantom(SHAPE)[1] > 100, index=1)
        assert case.click((2, 20, 18))[2, 20, 18]


def test_saved_and_loaded(networks: tuple[HRNetOCR, XMem, ResNetQuality], tmp_path: Path) -> None:
    segmenter = InteractiveSegmenter(networks[0], small_propagation(), precision="fp32", settings=OWN_SIZE)
    again = InteractiveSegmenter.from_pretrained(segmenter.save_pretrained(tmp_path / "base"), precision="fp32")
    assert again.interaction.window_size == 160
    assert again.identity["sha256"] == segmenter.identity["sha256"]
    first, second = (s.open(phantom(SHAPE)).click(CENTRE) for s in (segmenter, again))
    assert np.array_equal(first, second)
