"""What every training keeps: repeatable steps and gradients everywhere (resuming: tests/training/test_resume.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")

from limnet.tasks import base, interaction, propagation
from limnet.tasks.augment import augment_clips
from limnet.tasks.quality import QualityModule
from tests.helpers.small_modules import TRAININGS, small_batch, small_module
from tests.helpers.tiny_networks import scramble, small_interaction, small_propagation, small_quality

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


# two processes change their samples as one process does that has all of them


BATCH, PROCESSES = 6, 2


class _Seen(Exception):
    """Carries what a network was given."""


def clips(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (BATCH, length, 32, 32)).astype(np.uint8)
    mask = np.zeros(image.shape, np.uint8)
    mask[..., 8:20, 10:24] = 1
    return torch.from_numpy(image), torch.from_numpy(mask)


def test_augmentation_is_shared_out() -> None:
    image, mask = clips(2)
    whole = augment_clips(image, mask, torch.Generator().manual_seed(3))
    for rank in range(PROCESSES):
        mine = slice(rank, None, PROCESSES)
        share = (rank, PROCESSES)
        part = augment_clips(image[mine], mask[mine], torch.Generator().manual_seed(3), share=share)
        assert torch.allclose(part[0], whole[0][mine], atol=1e-6)
        assert torch.equal(part[1], whole[1][mine])


def at(monkeypatch: pytest.MonkeyPatch, rank: int, processes: int) -> None:
    for place in (base, interaction, propagation):
        monkeypatch.setattr(place, "process_place", lambda: (rank, processes))


def given(module: Any, batch: tuple[torch.Tensor, ...], call: str, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """The first images the network sees in a training step."""

    def look(*arguments: torch.Tensor) -> None:
        raise _Seen(arguments[0])

    monkeypatch.setattr(module.network, call, look)
    with pytest.raises(_Seen) as seen:
        module.training_step(batch, 0)
    return seen.value.args[0]


def modules() -> dict[str, tuple[Any, int, str]]:
    return {
        "interaction": (interaction.InteractionModule(small_interaction().config, seed=1), 1, "encode_image"),
        "a slice of each clip": (interaction.InteractionModule(small_interaction().config, seed=1), 3, "encode_image"),
        "propagation": (propagation.PropagationModule(small_propagation().config, seed=1), 2, "encode_image"),
        "quality": (QualityModule(small_quality().config, seed=1), 1, "forward"),
    }


@pytest.mark.parametrize("kind", ["interaction", "a slice of each clip", "propagation", "quality"])
def test_processes_see_together_what_one_sees(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, length, call = modules()[kind]
    image, mask = clips(length)
    batch: tuple[torch.Tensor, ...] = (image, mask)
    if kind == "quality":
        batch = (image[:, 0], mask[:, 0], mask[:, 0].flip(-1), torch.rand(BATCH, 2))
    whole = given(module, batch, call, monkeypatch)
    frames = whole.shape[0] // BATCH  # propagation encodes all slices of its clips at once
    for rank in range(PROCESSES):
        at(monkeypatch, rank, PROCESSES)
        part = given(module, tuple(x[rank::PROCESSES] for x in batch), call, monkeypatch)
        own = [whole.unflatten(0, s)[c] for s, c in layouts(frames, rank)]
        assert any(
            x.flatten(0, -4).shape == part.shape and torch.allclose(x.flatten(0, -4), part, atol=1e-6) for x in own
        )


def layouts(frames: int, rank: int) -> list[tuple[tuple[int, int], Any]]:
    """Ways in which slices of several clips may lie in one batch: clip by clip, or slice by slice."""
    mine = slice(rank, None, PROCESSES)
    return [((BATCH, frames), mine), ((frames, BATCH), (slice(None), mine))]


def test_other_draws_of_a_step_are_each_process_own(monkeypatch: pytest.MonkeyPatch) -> None:
    module = modules()["interaction"][0]
    alone = module.common_generator(4)
    assert module.own_generator(alone, 4) is alone
    assert alone.initial_seed() == module.step_generator(4).initial_seed()  # a training of one process stays as it was
    seeds = {alone.initial_seed()}
    for rank in range(PROCESSES):
        at(monkeypatch, rank, PROCESSES)
        assert module.common_generator(4).initial_seed() == alone.initial_seed()
        seeds.add(module.own_generator(alone, 4).initial_seed())
    assert len(seeds) == 1 + PROCESSES
