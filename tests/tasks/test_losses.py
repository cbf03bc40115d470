from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from limnet.errors import InputError
from limnet.tasks.losses import (
    LOSS_WEIGHTS,
    bootstrapped_cross_entropy,
    checked_weights,
    click_loss,
    hardest_share,
    mask_loss,
    masked_cross_entropy,
    normalized_focal_loss,
    object_dice_loss,
    object_numbers,
    soft_dice,
)
from tests.helpers.golden import golden_arrays, max_difference

LOSSES = {"nfl": normalized_focal_loss, "bce": masked_cross_entropy}


def value_and_gradient(name: str, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    loss = LOSSES[name](logits, labels)
    loss.sum().backward()
    assert logits.grad is not None
    return loss.detach(), logits.grad


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_equal_the_reference(name: str) -> None:
    arrays, _ = golden_arrays("ritm_nfl_loss")
    loss, gradient = value_and_gradient(name, torch.from_numpy(arrays["logits"]), torch.from_numpy(arrays["labels"]))
    assert max_difference(loss, arrays[f"{name}_loss"]) < 1e-5
    assert max_difference(gradient, arrays[f"{name}_grad"]) < 1e-6


@pytest.mark.parametrize("wrong", [1.0, 0.0])
@pytest.mark.parametrize("depth", [5.0, 15.0, 17.5, 20.0, 25.0, 30.0, 60.0, 100.0])
def test_gradient_of_saturated_pixels_is_that_of_double_precision(depth: float, wrong: float) -> None:
    torch.manual_seed(0)
    labels = (torch.rand(1, 1, 8, 8) < 0.5).float()
    logits = (2 * labels - 1) * 3 + torch.randn(1, 1, 8, 8)
    labels[0, 0, 0, 0], logits[0, 0, 0, 0] = wrong, -depth if wrong else depth
    single = value_and_gradient("nfl", logits, labels)
    double = value_and_gradient("nfl", logits.double(), labels)
    for a, b in zip(single, double, strict=True):
        assert torch.isfinite(a).all()
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-8)
    pull = single[1][0, 0, 0, 0] * (-1 if wrong else 1)
    assert pull > 1e-3  # a wrong pixel is still pulled to its label


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_counted_costs_nothing(name: str) -> None:
    loss, gradient = value_and_gradient(name, torch.randn(2, 1, 4, 4) * 50, torch.full((2, 1, 4, 4), -1.0))
    assert loss.tolist() == [0, 0]
    assert gradient.abs().max() == 0


def test_perfect_confidence_and_low_precision_stay_finite() -> None:
    labels = torch.ones(1, 1, 4, 4)
    loss, gradient = value_and_gradient("nfl", torch.full((1, 1, 4, 4), 200.0), labels)
    assert loss.item() == 0
    assert torch.isfinite(gradient).all()
    half = normalized_focal_loss(torch.full((1, 1, 4, 4), -300.0, dtype=torch.bfloat16), labels)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(150)


def test_click_loss_adds_the_auxiliary_part() -> None:
    torch.manual_seed(0)
    fine, rough = torch.randn(2, 2, 1, 6, 6)
    labels = (torch.rand(2, 1, 6, 6) < 0.5).float()
    focal = (1.0, 0.0, 0.0)
    with_both = click_loss({"instances": fine, "instances_aux": rough}, labels, focal)
    expected = normalized_focal_loss(fine, labels).mean() + 0.4 * masked_cross_entropy(rough, labels).mean()
    torch.testing.assert_close(with_both, expected)
    torch.testing.assert_close(click_loss({"instances": fine}, labels), mask_loss(fine, labels))


def test_different_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="both must be"):
        normalized_focal_loss(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4))


def sample(seed: int = 0, spread: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 1, 9, 11, generator=generator) * spread
    return logits, torch.rand(3, 1, 9, 11, generator=generator) < 0.3


def slow_focal(logits: np.ndarray, target: np.ndarray) -> float:
    p = 1 / (1 + np.exp(-logits))
    right = np.where(target, p, 1 - p)
    weight = (1 - right) ** 2
    scale = len(weight) / weight.sum()
    return float(np.mean(0.5 * scale * weight * -np.log(right)))


def slow_loss(logits: np.ndarray, target: np.ndarray, weights: tuple[float, float, float]) -> float:
    parts = []
    for x, y in zip(logits, target, strict=True):
        p = 1 / (1 + np.exp(-x))
        dice = (2 * (p * y).sum() + 8) / (p.sum() + y.sum() + 8)
        entropy = -np.mean(np.where(y, np.log(p), np.log(1 - p)))
        parts.append(weights[0] * slow_focal(x, y) + weights[1] * (1 - dice) + weights[2] * entropy)
    return float(np.mean(parts))


def flat(x: torch.Tensor) -> np.ndarray:
    return x.flatten(1).double().numpy() if x.is_floating_point() else x.flatten(1).numpy()


@pytest.mark.parametrize("seed", range(4))
def test_focal_loss_equals_a_slow_reference(seed: int) -> None:
    logits, target = sample(seed)
    expected = [slow_focal(x, y) for x, y in zip(flat(logits), flat(target), strict=True)]
    np.testing.assert_allclose(normalized_focal_loss(logits, target).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weights", [LOSS_WEIGHTS, (0.25, 2.0, 0.25), (0.0, 0.0, 3.0)])
def test_mask_loss_equals_a_slow_reference(seed: int, weights: tuple[float, float, float]) -> None:
    logits, target = sample(seed)
    expected = slow_loss(flat(logits), flat(target), weights)
    assert float(mask_loss(logits, target, weights)) == pytest.approx(expected, rel=1e-5)
    if weights == LOSS_WEIGHTS:
        assert float(mask_loss(logits, target)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [(1, 1, math.nan), (1, math.inf, 1), (1, 1), (1, 1, -1), (0, 0, 0)])
def test_weights_that_cannot_be_used(weights: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="give three of at least 0, finite"):
        checked_weights(weights)


def test_dice_by_hand() -> None:
    a = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    b = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    assert soft_dice(a, b, smooth=1.0).tolist() == pytest.approx([3 / 4, 1.0, 1 / 5])
    assert soft_dice(a.float() * 0.5, a).tolist() == pytest.approx([3 / 4, 1.0, 5 / 7])


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
