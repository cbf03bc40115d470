from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limnet.interaction.window import WindowEncoder
from limnet.quality.assessor import Assessor, Prompted, expected_dice, quality_crops, reference_crops
from limnet.quality.networks.tiny import reference_channels
from tests.helpers.scenes import disks_view
from tests.helpers.tiny_networks import small_quality


def masks(mask: np.ndarray, count: int) -> list[np.ndarray]:
    return [np.roll(mask, i, 0).astype(np.float32) for i in range(count)]


def test_equal_masks_are_undecided() -> None:
    view, mask = disks_view((3, 60, 70), ((30, 30, 9),))
    assessor = Assessor(WindowEncoder(small_quality(), precision="fp32"))
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
    assessor = Assessor(WindowEncoder(small_quality(), precision="fp32"))
    old, new = masks(mask, count), masks(np.roll(mask, 3, 1), count)
    together = assessor.compare(view, range(count), old, new)
    alone = [assessor.compare(view, [i], [old[i]], [new[i]])[0] for i in range(count)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len(set(together.tolist())) > 3
    assert all(0 <= assessor.quality(view, i, mask) <= 1 for i, mask in enumerate(old))


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
    assessor = Assessor(WindowEncoder(network, precision="fp32"))
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
    assessor = Assessor(WindowEncoder(small_quality()))
    quality = [assessor.quality(view, i, hazy[i]) for i in range(2)]
    assert quality == [Assessor(None).quality(view, i, hazy[i]) for i in range(2)]
    assert 0 < quality[1] < quality[0] < 1


def test_without_a_network() -> None:
    view, mask = disks_view((2, 60, 70), ((30, 30, 9),))
    assessor = Assessor(None)
    assert assessor.compare(view, [0], [mask.astype(np.float32)], [1 - mask.astype(np.float32)]).tolist() == [0.0]
    assert assessor.quality(view, 0, np.where(mask, 0.9, 0.0).astype("f4")) == pytest.approx((1.8 / 1.9) ** 2)
    assert assessor.quality(view, 1, np.zeros(mask.shape, "f4")) == 1.0


# windows


@pytest.mark.parametrize("channels", [1, 3])
def test_window_holds_all_masks_and_shows_the_slice_below_them(channels: int) -> None:
    view, mask = disks_view((2, 90, 120), ((30, 40, 9),))
    first, second = mask.astype(np.float32) * 0.9, np.roll(mask, 25, 1).astype(np.float32)
    image, old, new = quality_crops(view, 1, [first, second], channels=channels, size=64)
    assert image.shape == (1, channels, 64, 64)
    assert old.shape == new.shape == (1, 1, 64, 64)
    assert not bool((old > 0.5).logical_and(new > 0.5).any()), "25 pixels apart, they do not touch"
    for m in (old[0, 0] > 0.5, new[0, 0] > 0.5):
        rows, columns = torch.nonzero(m, as_tuple=True)
        assert bool(m.any())
        assert 0 < int(rows.min()) <= int(rows.max()) < 63
        assert 0 < int(columns.min()) <= int(columns.max()) < 63
    inside = old[0, 0] > 0.5
    assert abs(float(image[0, 0][inside].mean()) - float(image[0, 0][~inside].mean())) > 0.1


def test_empty_masks_show_the_whole_slice() -> None:
    view, mask = disks_view((2, 60, 70), ((30, 30, 9),))
    image, crop = quality_crops(view, 0, [np.zeros(mask.shape, np.float32)], size=64)
    assert not crop.any()
    share = float((image > image.mean()).float().mean())  # the disk is as large in the window as it is in the slice
    assert share == pytest.approx(mask.mean(), abs=0.03)


@pytest.mark.parametrize("channels", [1, 3])
def test_prompted_slices_are_seen_through_the_same_window(channels: int) -> None:
    view, mask = disks_view((9, 90, 120), ((30, 40, 9),), (2.0, 1.0, 1.0))
    first, empty = mask.astype(np.float32), np.zeros(mask.shape, np.float32)
    moved = np.roll(first, 4, 0)
    said = Prompted(6, empty, {6: first, 1: moved, 8: empty})
    image, old, new = quality_crops(view, 2, [first, moved], channels=channels, size=64)
    seen = reference_crops(view, 2, [first, moved], said, channels=channels, size=64)
    assert seen.shape == (1, reference_channels(channels), 64, 64)
    assert torch.equal(seen[:, :channels], image), "all slices of this volume look alike"
    assert not seen[:, channels].any()
    assert torch.equal(seen[:, channels + 1], old[:, 0])
    assert torch.equal(seen[:, 2 * channels + 2], new[:, 0]), "slice 1 is nearer than slice 8"
    far, near = float(seen[0, -2, 0, 0]), float(seen[0, -1, 0, 0])
    assert (seen[0, -2] == far).all()
    assert 1 / far - 1 == pytest.approx(4 * (1 / near - 1), rel=1e-5), "four slices away, and one"


def test_what_was_not_said_is_zero() -> None:
    view, mask = disks_view((3, 60, 70), ((30, 30, 9),))
    first = mask.astype(np.float32)
    assert not reference_crops(view, 0, [first], None, size=32).any()
    alone = reference_crops(view, 0, [first], Prompted(2, first, {2: first}), size=32)
    assert alone[0, :3].flatten(1).any(1).all()
    assert not alone[0, 3:5].any()
    assert not alone[0, -1].any()
