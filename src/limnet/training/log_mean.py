"""Validation figures as means over samples, exact on any number of processes."""

from __future__ import annotations

from lightning.pytorch import LightningModule
from torch import Tensor


def log_mean(module: LightningModule, name: str, value: Tensor, samples: int, prog_bar: bool = False) -> None:
    """Log the mean of a batch, so that the figure of the whole validation is the mean over all samples.

    Lightning adds whole batch sizes up as whole numbers and cuts their mean over the processes down to one (81 samples
    on two processes count as 40 each); a float stays what it is.

    Args:
        module: in its validation step.
        name: of the figure.
        value: () mean over the batch.
        samples: in the batch.
        prog_bar: whether the progress bar shows it.
    """
    weight: float = float(samples)
    module.log(name, value, batch_size=weight, prog_bar=prog_bar, sync_dist=True)  # type: ignore[arg-type]
