from __future__ import annotations

import numpy as np
import pytest
import torch

from limnet.errors import InputError
from limnet.simulation.corruption import corrupt
from limnet.simulation.corruption_batch import corrupt_batch
from tests.helpers.blobs import blob, disk


def batch() -> torch.Tensor:
    masks = np.stack([disk((64, 64), (30, 30), 12), *(blob(s, (64, 64)) for s in range(3))])
    return torch.from_numpy(masks)[:, None]


def test_every_sample_is_the_numpy_form_with_its_own_seed():
    target = batch()
    damaged = corrupt_batch(target, torch.Generator().manual_seed(3))
    seeds = torch.randint(0, 2**62, (4,), generator=torch.Generator().manual_seed(3)).tolist()
    assert damaged.shape == target.shape
    assert damaged.dtype == torch.float32
    for i, seed in enumerate(seeds):
        np.testing.assert_array_equal(damaged[i, 0].numpy(), corrupt(target[i, 0].numpy(), seed)[0].astype(np.float32))
    assert (damaged != target.float()).flatten(1).any(1).sum() >= 3


def test_the_generator_decides_and_moves_on():
    generator = torch.Generator().manual_seed(0)
    first, second = corrupt_batch(batch(), generator), corrupt_batch(batch(), generator)
    assert (first != second).any()
    assert torch.equal(first, corrupt_batch(batch(), torch.Generator().manual_seed(0)))


def test_empty_and_full_masks_come_back_and_use_up_the_same_draws():
    target = batch()
    mixed = target.clone()
    mixed[0], mixed[1] = False, True
    a, b = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    whole, part = corrupt_batch(target, a), corrupt_batch(mixed, b)
    assert not part[0].any()
    assert part[1].all()
    assert torch.equal(whole[2:], part[2:])
    assert torch.equal(a.get_state(), b.get_state())


def test_kinds_can_be_chosen():
    target = batch()
    grown = corrupt_batch(target, torch.Generator().manual_seed(1), {"merge_shapes": 1})
    assert (grown >= target.float()).all()


def test_pixels_as_the_paper_prints_them():
    target = torch.from_numpy(disk((160, 160), (80, 80), 12))[None, None].repeat(40, 1, 1, 1)

    def growth(literal: bool) -> np.ndarray:
        damaged = corrupt_batch(target, torch.Generator().manual_seed(2), {"morphology": 1}, literal).numpy() > 0
        reach = [np.flatnonzero(mask[0, 80]).max() - 92 for mask in damaged]
        return np.array([r for r in reach if r > 0])  # the dilated ones

    assert growth(True).min() >= 9
    assert growth(True).max() <= 30
    assert growth(False).max() < 9
    with_object = corrupt_batch(target, torch.Generator().manual_seed(2), {"morphology": 1}, True)
    assert with_object.flatten(1).any(1).all(), "an erosion of 10 leaves something"


def test_bad_shape():
    with pytest.raises(InputError, match="B, 1, H, W"):
        corrupt_batch(torch.ones(2, 8, 8, dtype=torch.bool), torch.Generator())
