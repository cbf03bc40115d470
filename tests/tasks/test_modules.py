"""What every training keeps: repeatable steps and gradients everywhere (resuming: tests/training/test_resume.py)."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("lightning")

from tests.helpers.small_modules import TRAININGS, small_batch, small_module
from tests.helpers.tiny_networks import scramble

FREE = {"propagation": {"freeze_encoder": False}, "xmem": {"references": 2, "deep_update": 1.0}}
"""Settings under which every weight takes part."""


@pytest.mark.parametrize("name", TRAININGS)
def test_a_step_depends_on_seed_and_batch_number_alone(name: str) -> None:
    loss = small_module(name).training_step(small_batch(name), 0)
    assert loss.shape == ()
    assert bool(loss.isfinite())
    assert loss.requires_grad
    assert torch.equal(loss, small_module(name).training_step(small_batch(name), 0))
    assert not torch.equal(loss, small_module(name).training_step(small_batch(name), 1))
    assert not torch.equal(loss, small_module(name, seed=4).training_step(small_batch(name), 0))


@pytest.mark.parametrize("name", TRAININGS)
def test_gradients_reach_every_weight(name: str) -> None:
    module = small_module(name, **FREE.get(name, {}))
    if name in ("interaction", "propagation", "quality"):  # their blocks start as the identity
        scramble(module.network)
    module.network.train()
    module.training_step(small_batch(name), 0).backward()
    assert [n for n, p in module.network.named_parameters() if p.grad is None or not bool(p.grad.any())] == []
    assert all(p.grad is None for p in module.average.parameters())
