"""QualityModule: trains the quality network on pairs of masks of the same slice."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from limnet.quality.tiny import TinyQuality
from limnet.training.averaged_module import AveragedModule


class QualityModule(AveragedModule):
    """Which mask is better, weighted by how much better, and how good each one is.

    A batch is (image uint8 (B, S, S), previous uint8 (B, S, S), current uint8 (B, S, S), dice float (B, 2)).

    Args:
        network_config: arguments of `TinyQuality`; None for its defaults.
        learning_rate: peak of AdamW.
        max_steps: length of the cosine schedule.
        weight_decay: of AdamW.
        tie: pairs whose Dice differs by less teach nothing about which is better.
        average_decay: decay of the moving average kept as `self.average`.
        seed: of augmentation.
    """

    network: TinyQuality
    average: TinyQuality

    def __init__(
        self,
        network_config: dict[str, Any] | None = None,
        learning_rate: float = 1e-3,
        max_steps: int = 1000,
        weight_decay: float = 0.05,
        tie: float = 0.01,
        average_decay: float = 0.995,
        seed: int = 0,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.network = TinyQuality(**(network_config or {}))
        self.average = copy.deepcopy(self.network).requires_grad_(False)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], batch_index: int) -> Tensor:
        """Flips and quarter turns, grey-level changes and swapped pairs come from the step's own generator."""
        generator = self.step_generator(batch_index)
        image, previous, current, dice = _prepare(batch)
        draw = torch.rand(6, generator=generator)
        if draw[0] < 0.5:
            image, previous, current = (x.flip(-1) for x in (image, previous, current))
        turns = int(draw[1] * 4)
        image, previous, current = (x.rot90(turns, (-2, -1)) for x in (image, previous, current))
        image = (image.clamp(1e-4, 1) ** (0.7 + 0.7 * float(draw[2])) * (0.8 + 0.4 * float(draw[3]))).clamp(0, 1)
        if draw[4] < 0.15:
            image = 1 - image
        choice, quality = self._losses(self.network, image, previous, current, dice)
        self.log("train/loss_choice", choice.detach(), prog_bar=True)
        self.log("train/loss_quality", quality.detach())
        return choice + 0.5 * quality

    def _losses(
        self, network: TinyQuality, image: Tensor, previous: Tensor, current: Tensor, dice: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits = network(image, previous, current)
        gain = dice[:, 0] - dice[:, 1]
        weight = gain.abs().clamp(max=0.3) * (gain.abs() > self.hparams["tie"])
        entropy = functional.binary_cross_entropy_with_logits(logits, (gain > 0).float(), reduction="none")
        choice = (entropy * weight).sum() / weight.sum().clamp_min(1e-6)
        scores = torch.cat([network.score(image, previous), network.score(image, current)])
        quality = functional.binary_cross_entropy_with_logits(scores, dice.T.flatten())
        return choice, quality

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], batch_index: int) -> None:
        """Accuracy on pairs that are no tie, Dice gained over always taking the new mask, and the oracle's gain."""
        image, previous, current, dice = _prepare(batch)
        self.average.eval()
        keep = self.average(image, previous, current) > 0
        gain = dice[:, 0] - dice[:, 1]
        clear = gain.abs() > self.hparams["tie"]
        options: dict[str, Any] = {"batch_size": len(image), "sync_dist": True}
        if bool(clear.any()):
            self.log("val/accuracy", (keep == (gain > 0))[clear].float().mean(), prog_bar=True, **options)
        self.log("val/gain", torch.where(keep, gain, torch.zeros_like(gain)).mean(), prog_bar=True, **options)
        self.log("val/oracle_gain", gain.clamp_min(0).mean(), **options)
        error = (torch.sigmoid(self.average.score(image, current)) - dice[:, 1]).abs().mean()
        self.log("val/quality_error", error, **options)


def _prepare(batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    image, previous, current, dice = batch
    return image[:, None].float() / 255, previous[:, None].float(), current[:, None].float(), dice.float()
