"""Callbacks of the recipes: export, progress, the end by the clock, and pictures of masks."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import nn

from limnet.image.io.atomic import atomic_write
from limnet.tasks.base import Pictures, seconds_since

_LINE_EVERY = 30.0  # seconds between two lines in a log: two hours make 240
TRUTH, MASK, BOTH = (70, 220, 90), (255, 80, 60), (255, 230, 60)
POSITIVE, NEGATIVE = (80, 170, 255), (255, 90, 230)
GAP = 2  # pixels between two pictures


class ExportAverage(Callback):
    """Write the averaged network as a model folder part, every so many steps, so that a half-done training can be used.

    The folder is replaced atomically; the end of training always exports.
    """

    def __init__(self, folder: Path | str, every: int = 500):
        self.folder, self.every = Path(folder), every

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Export every `every` steps."""
        if trainer.global_step and trainer.global_step % self.every == 0:
            self.on_train_end(trainer, module)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Export at the end."""
        from limnet.hub.folder import save_component

        if trainer.is_global_zero:
            network: nn.Module = module.average  # type: ignore[assignment]
            save_component(network, self.folder, half=True)


class StepProgress(Callback):
    """Say how far a training is: steps done of all steps, time left and the newest figures.

    A bar on a terminal, else a line every half minute; on the first process alone, to the error stream.
    `minutes` are those after which it ends at the latest.
    """

    def __init__(self, steps: int, minutes: float | None = None):
        self.steps, self.minutes = steps, minutes
        self._bar: Any = None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Begin to count; a training that is resumed begins where it was."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._first = self._shown = trainer.global_step
        self._started = self._told = time.monotonic()
        console = Console(stderr=True)
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
            sys.stderr.write(f"step {self._shown} of {self.steps}, {self._note(trainer)}\n")

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
    """End the training so many minutes (above 0) after its first step, as the schedule of `warmup_cosine` does.

    Several processes end together, by the clock of the first.
    """

    def __init__(self, minutes: float):
        self.minutes, self._started = minutes, 0.0

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Ask the Trainer to stop when the time is over."""
        self._started = self._started or time.monotonic()
        if seconds_since(self._started) >= 60 * self.minutes:
            trainer.should_stop = True


class LogImages(Callback):
    """Draw the first validation batch: slices with the contours of mask and truth and the robot's clicks.

    The module's `validation_step` returns {"pictures": `limnet.tasks.base.Pictures`}. The picture of `count` slices
    goes to FOLDER/step_NNNNNN.png, and to every logger of the Trainer that takes images (Weights & Biases does).
    """

    def __init__(self, folder: Path | str, count: int = 8):
        self.folder, self.count = Path(folder), count

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw batch 0 of process 0."""
        pictures = outputs.get("pictures") if isinstance(outputs, dict) else None
        if batch_idx or dataloader_idx or not trainer.is_global_zero or not isinstance(pictures, Pictures):
            return
        from PIL import Image

        grid = draw_grid(pictures, self.count)
        self.folder.mkdir(parents=True, exist_ok=True)
        drawn = Image.fromarray(grid)
        atomic_write(self.folder / f"step_{trainer.global_step:06d}.png", lambda path: drawn.save(path, "PNG"))
        for logger in trainer.loggers:
            log_image = getattr(logger, "log_image", None)
            if log_image is not None:
                log_image(key="val/masks", images=[grid])


def draw_grid(pictures: Pictures, count: int) -> NDArray[np.uint8]:
    """Draw the first `count` pictures four in a row, uint8 (rows, columns, 3), enlarged to about 256 pixels each.

    Truth is green, the mask red, yellow where both contours meet; positive clicks are blue, negative ones pink.
    """
    from scipy.ndimage import binary_erosion

    number, height, width = len(pictures.image[:count]), *pictures.image.shape[1:]
    scale = max(1, 256 // width)
    height, width, columns = height * scale, width * scale, min(4, number)
    rows = -(-number // columns)
    grid = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), np.uint8)
    for i in range(number):
        arrays = (x[i].detach().cpu().float().numpy() for x in (pictures.image, pictures.truth, pictures.mask))
        grey, *masks = (a.repeat(scale, 0).repeat(scale, 1) for a in arrays)
        true, found = ((m > 0.5) & ~binary_erosion(m > 0.5) for m in masks)  # contours, one pixel wide
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        tile = grid[top : top + height, left : left + width]
        tile[:] = (grey.clip(0, 1) * 255).astype(np.uint8)[..., None]
        tile[true], tile[found], tile[true & found] = TRUTH, MASK, BOTH
        for row, column, positive in pictures.clicks[i] if len(pictures.clicks) else ():
            y, x = (int((v + 0.5) * scale) for v in (row, column))
            square = slice(max(y - scale, 0), y + scale + 1), slice(max(x - scale, 0), x + scale + 1)
            tile[square] = POSITIVE if positive else NEGATIVE
    return grid
