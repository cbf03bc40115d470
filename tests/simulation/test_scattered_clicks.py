from __future__ import annotations

import torch
from scipy import ndimage
from torch import Tensor

from limnet.simulation.click_batch import scatter_clicks
from tests.helpers.tiny_networks import disk


def clicks(target: Tensor, seed: int = 0, most: int = 24) -> tuple[Tensor, Tensor]:
    """Disks of radius 0.5: one pixel a click."""
    positive, negative = torch.zeros(target.shape), torch.zeros(target.shape)
    scatter_clicks(positive, negative, target, torch.Generator().manual_seed(seed), 0.5, most)
    return positive > 0, negative > 0


def test_clicks_lie_on_their_side() -> None:
    target = (disk(64, 64, (30, 33), 15) > 0).expand(60, -1, -1, -1)
    positive, negative = clicks(target)
    assert not (positive & ~target).any()
    assert not (negative & target).any()
    counts = positive.flatten(1).sum(1)
    assert int(counts.min()) >= 1
    assert 3 < float(counts.float().mean()) < 6.5  # 1 + k with chances 0.8 ** k: 5 on average, fewer where two meet
    assert bool((negative.flatten(1).sum(1) == 0).any())
    assert int(negative.flatten(1).sum(1).max()) > 5


def test_positive_clicks_mostly_keep_off_the_border() -> None:
    target = (disk(64, 64, (30, 33), 15) > 0).expand(100, -1, -1, -1)
    inner = torch.from_numpy(ndimage.binary_erosion(target[0, 0].numpy(), ndimage.generate_binary_structure(2, 2), 3))
    positive = clicks(target)[0]
    outside = (positive[:, 0] & ~inner).flatten(1).any(1).float().mean()
    assert 0.02 < float(outside) < 0.2


def test_half_of_the_negative_clicks_lie_near_the_object() -> None:
    target = (disk(128, 128, (60, 60), 12) > 0).expand(150, -1, -1, -1)
    negative = clicks(target)[1]
    rows, columns = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    near = (rows - 60) ** 2 + (columns - 60) ** 2 < 17**2
    share = float((negative[:, 0] & near).sum() / negative.sum())
    assert 0.4 < share < 0.65


def test_empty_and_full_targets() -> None:
    positive, negative = clicks(torch.zeros(5, 1, 32, 32, dtype=torch.bool))
    assert not positive.any()
    assert negative.any()
    positive, negative = clicks(torch.ones(5, 1, 32, 32, dtype=torch.bool))
    assert not negative.any()
    assert positive.flatten(1).any(1).all()


def test_seeds_and_limit() -> None:
    target = (disk(48, 48, (20, 25), 9) > 0).expand(30, -1, -1, -1)
    assert all(torch.equal(a, b) for a, b in zip(clicks(target, 3), clicks(target, 3), strict=True))
    assert not torch.equal(clicks(target, 3)[0], clicks(target, 4)[0])
    assert int(clicks(target, most=1)[0].flatten(1).sum(1).max()) == 1
