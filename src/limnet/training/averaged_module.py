"""What the three LightningModules share: optimizer and schedule, one generator a step, the moving average."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn

from limnet.datasets.loading import process_place
from limnet.errors import InputError
from limnet.training.average import follow
from limnet.training.muon import MuonAdam
from limnet.training.schedule import warmup_cosine


class AveragedModule(LightningModule):
    """Base of the training modules.

    A subclass saves the hyper-parameters learning_rate, weight_decay, max_steps, average_decay and seed, and sets
    `network` and `average`; warmup_steps (50), optimizer ("adamw" or "muon", see `MuonAdam`) and max_minutes (None: the
    schedule counts steps alone, see `warmup_cosine`) are optional.
    """

    network: nn.Module
    average: nn.Module

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW or Muon with warm-up and cosine decay over everything that is not frozen.

        Raises:
            InputError: another optimizer.
        """
        kind = self.hparams.get("optimizer", "adamw")
        rate, decay = self.hparams["learning_rate"], self.hparams["weight_decay"]
        optimizer: torch.optim.Optimizer
        if kind == "muon":
            optimizer = MuonAdam(self.network, lr=rate, weight_decay=decay)
        elif kind == "adamw":
            trained = [p for p in self.network.parameters() if p.requires_grad]
            optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=decay)
        else:
            raise InputError(f"optimizer is {kind!r}; allowed are 'adamw' and 'muon'")
        warmup, steps = self.hparams.get("warmup_steps", 50), self.hparams["max_steps"]
        schedule = warmup_cosine(optimizer, warmup, steps, self.hparams.get("max_minutes"))
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
