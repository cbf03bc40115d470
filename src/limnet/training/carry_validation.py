"""Validation figures of carried masks, the same for every propagation network."""

from __future__ import annotations

from lightning.pytorch import LightningModule
from torch import Tensor

from limnet.training.log_mean import log_mean
from limnet.training.objective import soft_dice


def log_carried(module: LightningModule, carried: Tensor, target: Tensor) -> None:
    """Log the Dice of clips carried from a perfect first slice, beside what copying masks would give.

    val/dice_carried, val/dice_copied (the first mask on all slices), val/dice_copied_each_step (every true mask on the
    next slice) over whole clips, and val/dice_per_slice.

    Args:
        module: in its validation step.
        carried: bool (B, T - 1, H, W), slices 1 .. T-1.
        target: bool (B, T, H, W).
    """
    later = target[:, 1:]
    guesses = {"carried": carried, "copied": target[:, :1].expand_as(later), "copied_each_step": target[:, :-1]}
    for name, guess in guesses.items():
        dice = soft_dice(guess, later).mean()
        log_mean(module, f"val/dice_{name}", dice, len(target), prog_bar=True)
    slices = soft_dice(carried.flatten(0, 1), later.flatten(0, 1)).mean()
    log_mean(module, "val/dice_per_slice", slices, len(target))
