from __future__ import annotations

import numpy as np
import pytest
import torch

from limnet.training.clip_losses import (
    bootstrapped_cross_entropy,
    hardest_share,
    object_dice_loss,
    object_numbers,
)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.15, 0.001])
def test_hardest_pixels_count(share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 7, 9, generator=generator)
    target = torch.randint(0, 3, (2, 7, 9), generator=generator)
    expected = []
    for row, numbers in zip(logits.numpy().astype(float), target.numpy(), strict=True):
        p = np.exp(row) / np.exp(row).sum(0)
        loss = np.sort(-np.log(np.take_along_axis(p, numbers[None], 0)[0]).ravel())[::-1]
        expected.append(loss[: max(1, int(share * 63))].mean())
    assert bootstrapped_cross_entropy(logits, target, share).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_share_falls_between_two_steps() -> None:
    assert [hardest_share(s, 20, 70, 0.15) for s in (0, 19, 20, 45, 70, 99)] == pytest.approx(
        [1, 1, 1, 0.575, 0.15, 0.15]
    )
    assert hardest_share(0, 0, 0, 0.2) == 0.2


def test_dice_of_present_objects_only() -> None:
    masks = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    masks[0, 0, :2] = True  # 8 pixels
    probability = torch.full((2, 2, 4, 4), 0.5)
    present = torch.tensor([[True, False], [False, False]])
    # object 0: 1 - (2 * 4 + 1) / (8 + 8 + 1); the second sample has none and counts 0
    assert object_dice_loss(probability, masks, present).item() == pytest.approx((1 - 9 / 17) / 2)
    assert object_dice_loss(masks.float(), masks, present).item() == 0


def test_numbers() -> None:
    masks = torch.zeros(1, 3, 2, 2, dtype=torch.bool)
    masks[0, 0, 0, 0] = masks[0, 2, 1, 1] = True
    assert object_numbers(masks).tolist() == [[[1, 0], [0, 3]]]
