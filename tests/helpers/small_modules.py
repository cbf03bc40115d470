"""The trainings in small: a LightningModule and a batch of each."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from limnet.tasks.base import Task
from limnet.tasks.interaction import RITM, InteractionModule
from limnet.tasks.propagation import PropagationModule
from limnet.tasks.quality import QualityModule
from tests.helpers.tiny_networks import ENCODER, MEMORY, disk

HRNET = {"width": 4, "ocr_width": 8, "small": True, "dropout": 0.0}
TRAININGS: dict[str, tuple[type[Task], dict[str, Any]]] = {
    "interaction": (InteractionModule, {"network_config": ENCODER, "warmup_steps": 2}),
    "ritm": (InteractionModule, {**RITM, "network_config": HRNET}),
    "propagation": (PropagationModule, {"network_config": {**ENCODER, **MEMORY}, "warmup_steps": 2}),
    "xmem": (PropagationModule, {"network": "SmallXMem", "schedule": "xmem", "frames": 4}),
    "quality": (QualityModule, {"network_config": {"widths": (16, 16, 16)}}),
}
"""Name -> module and its arguments; "SmallXMem" is known in tests/tasks."""


def small_module(name: str, **options: Any) -> Any:
    """A module of 10 steps with seed 3; its first weights are always the same, its settings plain JSON."""
    torch.manual_seed(0)
    kind, own = TRAININGS[name]
    return kind(**json.loads(json.dumps({**own, "max_steps": 10, "seed": 3, **options})))


def noise_batch(count: int, length: int, size: int = 32) -> tuple[Tensor, Tensor]:
    """Noise, uint8 (count, length, size, size), and a disk that moves down from slice to slice."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (count, length, size, size), generator=generator, dtype=torch.uint8)
    mask = torch.stack([disk(size, size, (13 + t, 17), 8)[0, 0] for t in range(length)]).to(torch.uint8)
    return image, mask.expand(count, -1, -1, -1)


def disk_batch(count: int = 3, size: int = 48) -> tuple[Tensor, Tensor]:
    """Slices that show a disk, and their masks, uint8 (count, 1, size, size)."""
    mask = disk(size, size, (22, 26), 11).expand(count, -1, -1, -1)
    return (60 + 120 * mask).to(torch.uint8), mask.to(torch.uint8)


def label_batch(count: int = 2, length: int = 6, size: int = 64) -> tuple[Tensor, Tensor]:
    """Two moving disks of different grey, and their labels 1 and 2."""
    first = torch.cat([disk(size, size, (22 + t, 20), 9)[0] for t in range(length)])
    second = torch.cat([disk(size, size, (42, 44 - t), 8)[0] for t in range(length)])
    image = (60 + 100 * first + 50 * second).to(torch.uint8)
    labels = (first + 2 * second * (1 - first)).to(torch.uint8)
    return image.expand(count, -1, -1, -1).contiguous(), labels.expand(count, -1, -1, -1).contiguous()


def pair_batch(count: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures of a disk, a good and a bad mask in turns, and their Dice."""
    true = disk(32, 32, (16, 16), 8)[0]
    bad = disk(32, 32, (12, 12), 5)[0]
    first = (torch.arange(count) % 2 == 0)[:, None, None]
    image = (true * 120 + 60).to(torch.uint8).expand(count, -1, -1)
    previous, current = torch.where(first, true, bad), torch.where(first, bad, true)
    dice = torch.where(first[:, :, 0], torch.tensor([1.0, 0.4]), torch.tensor([0.4, 1.0]))
    return image, previous.to(torch.uint8), current.to(torch.uint8), dice


def small_batch(name: str) -> tuple[Tensor, ...]:
    """A batch for `small_module`."""
    if name == "interaction":
        return noise_batch(4, 3)
    if name == "propagation":
        return noise_batch(2, 4)
    return {"ritm": disk_batch, "xmem": label_batch, "quality": pair_batch}[name]()


def logged_by(module: Any, batch: tuple[Tensor, ...], monkeypatch: Any) -> dict[str, float]:
    """What a validation of one batch logs."""
    logged: dict[str, float] = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: float(value)}))
    with torch.no_grad():
        module.on_validation_epoch_start()
        module.validation_step(batch, 0)
        module.on_validation_epoch_end()
    return logged
