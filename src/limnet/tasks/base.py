"""What the three LightningModules share: optimizer and schedule, one generator a step, the moving average, figures."""

from __future__ import annotations

import copy
import inspect
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from limnet.data.loading import process_place
from limnet.errors import InputError
from limnet.learning.muon import MuonAdam


class Pictures(NamedTuple):
    """What a `validation_step` returns under "pictures", so that `LogImages` can draw it.

    Images (N, H, W) in [0, 1], truth and mask bool; `clicks` has (row, column, positive) of each picture, () for no
    clicks.
    """

    image: Tensor
    truth: Tensor
    mask: Tensor
    clicks: Sequence[Sequence[tuple[int, int, bool]]] = ()


class Task(LightningModule):
    """Base of the LightningModules.

    A subclass saves the hyper-parameters that all of them have, and calls `hold`: learning_rate (at its peak),
    max_steps (length of the schedule in optimizer steps), weight_decay, average_decay (of the moving average of the
    weights, kept as `average`) and seed (of augmentation and all draws). Optional are warmup_steps (50), optimizer
    ("adamw", "adam" or "muon", see `MuonAdam`), drops (shares of max_steps after which the rate falls to a tenth, in
    place of warm-up and cosine) and max_minutes (None: the schedule counts steps alone, see `warmup_cosine`). Modules
    make their network from its name in `limnet.hub.folder.TABLE` and its arguments, network and network_config (None
    for its defaults).
    """

    network: nn.Module
    average: nn.Module

    @classmethod
    def options(cls, schedule: str | None = None) -> set[str]:
        """Names of the arguments that the module takes under a schedule, for modules with several."""
        return set(inspect.signature(cls).parameters)

    def hold(self, network: nn.Module) -> None:
        """Train this network, and keep its moving average; InputError for drops and max_minutes together."""
        if self.hparams.get("drops") and self.hparams.get("max_minutes") is not None:
            raise InputError("this learning rate falls after fixed steps, whatever the clock says; leave --minutes out")
        self.network = network
        self.average = copy.deepcopy(network).requires_grad_(False)

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups of Adam and AdamW; a subclass may let some learn slower."""
        return [{"params": [p for p in self.network.parameters() if p.requires_grad]}]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam, AdamW or Muon, over everything that is not frozen; InputError for others, and for options at odds."""
        kind, minutes = self.hparams.get("optimizer", "adamw"), self.hparams.get("max_minutes")
        rate, decay = self.hparams["learning_rate"], self.hparams["weight_decay"]
        groups, drops, steps = self.groups(), self.hparams.get("drops") or (), self.hparams["max_steps"]
        optimizer: torch.optim.Optimizer
        if kind == "muon":
            if len(groups) > 1:
                raise InputError("muon learns at one rate, and here one half learns slower; leave --optimizer out")
            optimizer = MuonAdam(self.network, lr=rate, weight_decay=decay)
        elif kind in ("adam", "adamw"):
            optimizer = (torch.optim.Adam if kind == "adam" else torch.optim.AdamW)(groups, lr=rate, weight_decay=decay)
        else:
            raise InputError(f"optimizer is {kind!r}; allowed are 'adamw', 'adam' and 'muon'")
        schedule: torch.optim.lr_scheduler.LRScheduler
        if drops:
            schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [round(share * steps) for share in drops], 0.1)
        else:
            schedule = warmup_cosine(optimizer, self.hparams.get("warmup_steps", 50), steps, minutes)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def step_generator(self, batch_index: int) -> torch.Generator:
        """Source of randomness that depends on seed, step, batch and rank only."""
        return self._generator(batch_index, self.global_rank if self._trainer is not None else 0)

    def common_generator(self, batch_index: int) -> torch.Generator:
        """The same on every process: for what a step draws once, and for draws shared out like the samples."""
        return self._generator(batch_index, 0)

    def own_generator(self, common: torch.Generator, batch_index: int) -> torch.Generator:
        """What a step goes on with after its common draws: `common` itself where there is one process only."""
        rank, processes = process_place()
        return common if processes == 1 else self._generator(batch_index, rank + 1)

    def _generator(self, batch_index: int, number: int) -> torch.Generator:
        seed = hash((self.hparams["seed"], self.global_step, batch_index, number)) % 2**31
        return torch.Generator().manual_seed(seed)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Dropout draws from torch's own generators: seed them anew, so that a resumed training repeats its draws."""
        torch.manual_seed(self.step_generator(batch_idx).initial_seed())

    def optimizer_step(self, *arguments: Any) -> None:
        """Step, and let the moving average follow at once: a checkpoint made after the step holds both."""
        super().optimizer_step(*arguments)
        follow(self.average, self.network, self.hparams["average_decay"], self.global_step + 1)

    def log_mean(self, name: str, value: Tensor, samples: int, prog_bar: bool = False) -> None:
        """Log the mean () of a validation batch, so that the figure of the whole validation is the mean over samples.

        Lightning adds whole batch sizes up as whole numbers and cuts their mean over the processes down to one (81
        samples on two processes count as 40 each); a float stays what it is.
        """
        self.log(name, value, batch_size=float(samples), prog_bar=prog_bar, sync_dist=True)  # type: ignore[arg-type]


def follow(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move `average` towards `network`, in place; faster over the first steps. Counters are copied.

    `decay` is the share of the old average that stays, in [0, 1); `step` counts the steps done so far.
    """
    decay = min(decay, (1 + step) / (10 + step))
    means, values = ([*m.parameters(), *m.buffers()] for m in (average, network))
    pairs = [(a, b.to(a.dtype)) for a, b in zip(means, values, strict=True) if a.is_floating_point()]
    with torch.no_grad():
        torch._foreach_lerp_([a for a, _ in pairs], [b for _, b in pairs], 1 - decay)
        for mean, value in zip(means, values, strict=True):
            if not mean.is_floating_point():
                mean.copy_(value)


def seconds_since(started: float) -> float:
    """Seconds since a `time.monotonic()`, on every process those of process 0: all of them must ask together.

    Clocks of several processes never agree; what is decided by one clock is the same for all.
    """
    passed = [time.monotonic() - started]
    if process_place()[1] > 1:
        torch.distributed.broadcast_object_list(passed, src=0)
    return passed[0]


def warmup_cosine(
    optimizer: torch.optim.Optimizer, warmup: int, total: int, minutes: float | None = None
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up over `warmup` steps, then a cosine down to 1 % at `total` steps.

    With `minutes`, for a machine booked for so long, the cosine ends then, counted from the first step, if that comes
    before `total` steps; several processes go by the clock of the first. Such a training cannot be repeated exactly.
    """
    started: list[float] = []
    asked: dict[int, float] = {}  # the newest step and its seconds: every parameter group asks for the factor

    def factor(step: int) -> float:
        if step and not started:
            started.append(time.monotonic())
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(total - warmup, 1)
        if minutes is not None and started:
            if step not in asked:
                asked.clear()
                asked[step] = seconds_since(started[0])
            progress = max(progress, asked[step] / (60 * minutes))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
