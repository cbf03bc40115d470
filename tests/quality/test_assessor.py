from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limnet.quality.assessor import Assessor, expected_dice
from limnet.quality.networks.resnet import ResNetQuality
from tests.helpers.scenes import disks_view
from tests.helpers.tiny_networks import small_quality


def masks(mask: np.ndarray, count: int) -> list[np.ndarray]:
    return [np.roll(mask, i, 0).astype(np.float32) for i in range(count)]


def test_equal_masks_are_undecided() -> None:
    view, mask = disks_view((3, 60, 70), ((30, 30, 9),))
    assessor = Assessor(small_quality(), precision="fp32", size=32)
    sure, unsure = mask * np.float32(0.9), mask * np.float32(0.6)
    empty = np.zeros_like(sure)
    p = assessor.compare(view, [0, 1, 2], [sure, empty, sure], [unsure, empty, empty])
    assert p.dtype == np.float32
    assert p[:2].tolist() == [0.5, 0.5]
    assert p[2] != 0.5
    assert assessor.compare(view, [], [], []).shape == (0,)


def test_batches_equal_single_slices() -> None:
    count = 7
    view, mask = disks_view((count, 60, 70), ((30, 30, 9),))
    assessor = Assessor(small_quality(), precision="fp32", size=32, batch=3)
    old, new = masks(mask, count), masks(np.roll(mask, 3, 1), count)
    together = assessor.compare(view, range(count), old, new)
    alone = [assessor.compare(view, [i], [old[i]], [new[i]])[0] for i in range(count)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len(set(together.tolist())) > 3
    quality = assessor.quality(view, range(count), old)
    np.testing.assert_allclose(quality, [assessor.quality(view, [i], [old[i]])[0] for i in range(count)], atol=1e-5)
    assert ((quality >= 0) & (quality <= 1)).all()


class Overlap(nn.Module):
    """Prefers the mask that lies on the brighter part of the window."""

    image_channels = 1

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))
        self.batches: list[int] = []

    def forward(self, image: Tensor, previous: Tensor, current: Tensor) -> Tensor:
        self.batches.append(len(image))
        assert set(torch.unique(previous).tolist()) >= {0.0, 1.0} or len(image) > 1
        return (self._mean(image, previous) - self._mean(image, current)) * self.scale

    @staticmethod
    def _mean(image: Tensor, mask: Tensor) -> Tensor:
        return (image * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp_min(1)


def test_masks_meet_the_image_in_one_window() -> None:
    view, mask = disks_view((3, 200, 200), ((60, 50, 9),))
    good, bad = mask.astype(np.float32), np.roll(mask, 30, 1).astype(np.float32)
    network = Overlap()
    assessor = Assessor(network, precision="fp32", size=64)
    p = assessor.compare(view, [0, 1, 2], [good, bad, good], [bad, good, good])
    assert p[0] > 0.9
    assert p[1] < 0.1
    assert p[2] == 0.5
    assert network.batches == [2]  # equal masks cost nothing


@pytest.mark.parametrize("seed", range(3))
def test_expected_dice_is_the_mean_over_drawn_truths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:90, :80]
    radius = np.hypot(y - 45, x - 40) + rng.normal(0, 4, (90, 80))
    mask = (1 / (1 + np.exp((radius - 25) / rng.uniform(1, 8)))).astype(np.float32)
    truths = rng.random((300, 90, 80)) < mask
    hard = mask > 0.5
    drawn = 2 * (truths & hard).sum((1, 2)) / (truths.sum((1, 2)) + hard.sum())
    assert expected_dice(mask) == pytest.approx(drawn.mean(), abs=2e-3)


def test_expected_dice_of_sure_and_empty_masks() -> None:
    sure = np.zeros((9, 9), np.float32)
    assert expected_dice(sure) == 1
    sure[3, 4] = 0.25
    assert expected_dice(sure) == 0.75  # empty, but for a doubt
    sure[3:5, 4] = 1
    assert expected_dice(sure) == 1


def test_quality_does_not_ask_the_network() -> None:
    view, mask = disks_view((2, 60, 70), ((30, 30, 9),))
    hazy = [mask * np.float32(p) for p in (0.9, 0.6)]
    quality = Assessor(small_quality(), size=32).quality(view, [0, 1], hazy)
    np.testing.assert_array_equal(quality, Assessor(None).quality(view, [0, 1], hazy))
    assert 0 < quality[1] < quality[0] < 1


def test_without_a_network() -> None:
    view, mask = disks_view((2, 60, 70), ((30, 30, 9),))
    assessor = Assessor(None)
    assert assessor.compare(view, [0], [mask.astype(np.float32)], [1 - mask.astype(np.float32)]).tolist() == [0.0]
    quality = assessor.quality(view, [0, 1], [np.where(mask, 0.9, 0.0).astype(np.float32), np.zeros(mask.shape, "f4")])
    assert quality.tolist() == pytest.approx([(1.8 / 1.9) ** 2, 1.0])


def test_network_of_the_paper() -> None:
    torch.manual_seed(0)
    view, mask = disks_view((2, 60, 70), ((30, 30, 9),))
    assessor = Assessor(ResNetQuality().eval(), precision="fp32", size=32)
    first, second = masks(mask, 2)
    p = assessor.compare(view, [0, 1], [first, first], [second, second])
    assert p.shape == (2,)
    assert ((p > 0) & (p < 1)).all()
