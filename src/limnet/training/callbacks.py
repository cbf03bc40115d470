"""Callbacks of the recipes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from limnet.errors import InputError
from limnet.training.schedule import seconds_since


class ExportAverage(Callback):
    """Write the module's averaged network as a model folder part, so that a half-done training can already be used.

    Args:
        folder: target; replaced atomically at every export.
        every: steps between exports; the end of training always exports.
    """

    def __init__(self, folder: Path | str, every: int = 500):
        self.folder, self.every = Path(folder), every

    def _export(self, trainer: Trainer, module: LightningModule) -> None:
        from limnet.hub.folder import save_component

        if trainer.is_global_zero:
            network: nn.Module = module.average  # type: ignore[assignment]
            save_component(network, self.folder, half=True)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Export every `every` steps."""
        if trainer.global_step and trainer.global_step % self.every == 0:
            self._export(trainer, module)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Export at the end."""
        self._export(trainer, module)


class EndAfter(Callback):
    """End the training so many minutes after its first step, as the schedule of `warmup_cosine` does.

    Several processes end together, by the clock of the first.

    Args:
        minutes: above 0.

    Raises:
        InputError: 0 or fewer minutes.
    """

    def __init__(self, minutes: float):
        if not minutes > 0:
            raise InputError(f"minutes is {minutes}; give more than 0")
        self.minutes, self._started = minutes, 0.0

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Ask the Trainer to stop when the time is over."""
        self._started = self._started or time.monotonic()
        if seconds_since(self._started) >= 60 * self.minutes:
            trainer.should_stop = True
