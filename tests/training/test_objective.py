from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from limnet.errors import InputError
from limnet.interaction.losses import normalized_focal_loss
from limnet.training.objective import LOSS_WEIGHTS, checked_weights, focal_loss, mask_loss, soft_dice


def sample(seed: int = 0, spread: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 1, 9, 11, generator=generator) * spread
    return logits, torch.rand(3, 1, 9, 11, generator=generator) < 0.3


def slow_focal(logits: np.ndarray, target: np.ndarray, alpha: float, gamma: float) -> float:
    p = 1 / (1 + np.exp(-logits))
    right = np.where(target, p, 1 - p)
    weight = (1 - right) ** gamma
    scale = len(weight) / weight.sum()
    return float(np.mean(np.where(target, alpha, 1 - alpha) * scale * weight * -np.log(right)))


def slow_loss(logits: np.ndarray, target: np.ndarray, weights: tuple[float, float, float]) -> float:
    parts = []
    for x, y in zip(logits, target, strict=True):
        p = 1 / (1 + np.exp(-x))
        dice = (2 * (p * y).sum() + 8) / (p.sum() + y.sum() + 8)
        entropy = -np.mean(np.where(y, np.log(p), np.log(1 - p)))
        parts.append(weights[0] * slow_focal(x, y, 0.5, 2) + weights[1] * (1 - dice) + weights[2] * entropy)
    return float(np.mean(parts))


def flat(x: torch.Tensor) -> np.ndarray:
    return x.flatten(1).double().numpy() if x.is_floating_point() else x.flatten(1).numpy()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("alpha", "gamma"), [(0.5, 2.0), (0.7, 1.0), (0.25, 3.0)])
def test_focal_loss_equals_a_slow_reference(seed: int, alpha: float, gamma: float) -> None:
    logits, target = sample(seed)
    expected = [slow_focal(x, y, alpha, gamma) for x, y in zip(flat(logits), flat(target), strict=True)]
    np.testing.assert_allclose(focal_loss(logits, target, alpha, gamma).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weights", [LOSS_WEIGHTS, (0.25, 2.0, 0.25), (0.0, 0.0, 3.0)])
def test_mask_loss_equals_a_slow_reference(seed: int, weights: tuple[float, float, float]) -> None:
    logits, target = sample(seed)
    expected = slow_loss(flat(logits), flat(target), weights)
    assert float(mask_loss(logits, target, weights)) == pytest.approx(expected, rel=1e-5)
    if weights == LOSS_WEIGHTS:
        assert float(mask_loss(logits, target)) == pytest.approx(expected, rel=1e-5)


def test_focal_loss_is_that_of_the_click_networks() -> None:
    logits, target = sample()
    assert torch.equal(focal_loss(logits, target), normalized_focal_loss(logits, target.float()))
    assert focal_loss(logits.flatten(1), target.flatten(1)).shape == (3,)


def test_gradients_are_finite_for_sure_and_wrong_pixels() -> None:
    logits = torch.tensor([[[[200.0, -200.0, 0.0, 30.0]]]], requires_grad=True)
    target = torch.tensor([[[[False, True, True, True]]]])
    mask_loss(logits, target).backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    assert float(logits.grad[0, 0, 0, 0]) > 0 > float(logits.grad[0, 0, 0, 1])


def test_better_masks_cost_less() -> None:
    _, target = sample()
    right = torch.where(target, 4.0, -4.0)
    assert float(mask_loss(right, target)) < float(mask_loss(right * 0.2, target)) < float(mask_loss(-right, target))
    empty = torch.zeros_like(target)
    assert float(mask_loss(torch.full_like(right, -9.0), empty)) < 0.02


@pytest.mark.parametrize("weights", [(1, 1, math.nan), (1, math.inf, 1), (1, 1), (1, 1, -1), (0, 0, 0)])
def test_weights_that_cannot_be_used(weights: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="give three of at least 0, finite"):
        checked_weights(weights)


def test_dice_by_hand() -> None:
    a = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    b = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    assert soft_dice(a, b, smooth=1.0).tolist() == pytest.approx([3 / 4, 1.0, 1 / 5])
    assert soft_dice(a.float() * 0.5, a).tolist() == pytest.approx([3 / 4, 1.0, 5 / 7])
