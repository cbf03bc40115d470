from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limnet.errors import InputError
from limnet.interaction.losses import click_loss, masked_cross_entropy, normalized_focal_loss
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


def test_analytic_gradient_in_double_precision() -> None:
    """The definition with the probability formed first, where double precision can still hold it."""
    torch.manual_seed(1)
    labels = torch.tensor([[1.0, 0.0, 1.0, -1.0, 0.0, 1.0]]).view(1, 1, 2, 3)
    logits = (torch.randn(1, 1, 2, 3, dtype=torch.float64) * 4).requires_grad_()
    p = logits.sigmoid()
    p = torch.where(labels == 1, p, 1 - p)
    counted = labels != -1
    weight = torch.where(counted, (1 - p) ** 2, 0)
    factor = (counted.sum() / weight.sum()).detach()
    expected = (-0.5 * factor * weight * p.log() * counted).sum() / counted.sum()
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    loss, gradient = value_and_gradient("nfl", logits.detach(), labels)
    torch.testing.assert_close(loss[0], expected.detach())
    torch.testing.assert_close(gradient, expected_gradient)


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
    with_both = click_loss({"instances": fine, "instances_aux": rough}, labels)
    expected = normalized_focal_loss(fine, labels).mean() + 0.4 * masked_cross_entropy(rough, labels).mean()
    torch.testing.assert_close(with_both, expected)
    torch.testing.assert_close(click_loss({"instances": fine}, labels), normalized_focal_loss(fine, labels).mean())


def test_different_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="both must be"):
        normalized_focal_loss(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4))
