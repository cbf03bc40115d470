"""Callbacks of the recipes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, TextIO

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from limnet.errors import InputError
from limnet.tasks.base import seconds_since

_LINE_EVERY = 30.0  # seconds between two lines in a log: two hours make 240


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


class StepProgress(Callback):
    """Say how far a training is: steps done of all steps, time left and the newest figures.

    A bar on a terminal, else a line every half minute; on the first process alone.

    Args:
        steps: of the whole training.
        minutes: after which it ends at the latest, or None.
        file: where to write; the error stream by default.
    """

    def __init__(self, steps: int, minutes: float | None = None, file: TextIO | None = None):
        self.steps, self.minutes, self.file = steps, minutes, file
        self._bar: Any = None
        self._first = self._shown = 0
        self._started = self._told = 0.0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Begin to count; a training that is resumed begins where it was."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._first = self._shown = trainer.global_step
        self._started = self._told = time.monotonic()
        console = Console(file=self.file or sys.stderr)
        if trainer.is_global_zero and console.is_terminal:
            columns = TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}")
            self._bar = Progress(*columns, console=console)
            self._bar.add_task("", total=self.steps, completed=self._first)
            self._bar.start()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Show a step, once it is done."""
        if not trainer.is_global_zero or trainer.global_step == self._shown:
            return
        self._shown = trainer.global_step
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._shown, description=self._note(trainer))
        elif time.monotonic() - self._told >= _LINE_EVERY or self._shown >= self.steps:
            self._told = time.monotonic()
            (self.file or sys.stderr).write(f"step {self._shown} of {self.steps}, {self._note(trainer)}\n")

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Leave the bar as it is."""
        self.on_train_end(trainer, module)

    def _note(self, trainer: Trainer) -> str:
        passed = time.monotonic() - self._started
        left = passed / max(self._shown - self._first, 1) * (self.steps - self._shown)
        if self.minutes is not None:
            left = min(left, max(60 * self.minutes - passed, 0.0))
        figures = [f"{name} {float(value):.3g}" for name, value in trainer.progress_bar_metrics.items()]
        return ", ".join([f"{in_words(left)} left", *figures])


def in_words(seconds: float) -> str:
    """A length of time as people say it: "40 s", "12 min", "3 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


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
