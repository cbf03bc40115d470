"""QualityModule: trains the quality network on pairs of masks of the same slice."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from limnet.data.loading import process_place
from limnet.errors import InputError
from limnet.hub.folder import resolve
from limnet.quality.networks.tiny import split_references
from limnet.tasks.base import Pictures, Task


class QualityModule(Task):
    """Which mask is better, weighted by how much better, and, for networks with a `score`, how good each one is.

    A batch is (image uint8 (B, S, S), previous uint8 (B, S, S), current uint8 (B, S, S), dice float (B, 2)) and, for
    networks that look at prompted slices, references uint8 (B, 7, S, S). Pairs whose Dice differs by less than `tie`
    teach nothing about which is better; the other arguments are those of `Task`.
    """

    network: Any
    average: Any

    def __init__(
        self,
        network_config: dict[str, Any] | None = None,
        learning_rate: float = 1e-3,
        max_steps: int = 1000,
        weight_decay: float = 0.05,
        tie: float = 0.01,
        average_decay: float = 0.995,
        seed: int = 0,
        network: str = "TinyQuality",
        max_minutes: float | None = None,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.hold(resolve("quality", network)(**(network_config or {})))
        self._chosen = torch.zeros(2, dtype=torch.int64)  # pairs that are no tie: chosen well, all

    def training_step(self, batch: tuple[Tensor, ...], batch_index: int) -> Tensor:
        """Flips and quarter turns, grey-level changes and swapped pairs come from the step's own generator."""
        generator = self.common_generator(batch_index)
        *seen, dice = self._prepare(batch)
        draw = torch.rand(6, generator=generator)
        if draw[0] < 0.5:
            seen = [x.flip(-1) for x in seen]
        turns = int(draw[1] * 4)
        seen = [x.rot90(turns, (-2, -1)) for x in seen]

        def changed(grey: Tensor) -> Tensor:
            grey = (grey.clamp(1e-4, 1) ** (0.7 + 0.7 * float(draw[2])) * (0.8 + 0.4 * float(draw[3]))).clamp(0, 1)
            return 1 - grey if draw[4] < 0.15 else grey

        seen[0] = changed(seen[0])
        if len(seen) > 3:
            newest, before, after, other, near, nearness = split_references(seen[3])
            seen[3] = torch.cat([changed(newest), before, after, changed(other), near, nearness], 1)
        with torch.random.fork_rng():  # dropout draws from the step's own randomness, too
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            choice, quality = self._losses(self.network, *seen, dice=dice)
        loss = choice + 0.5 * quality
        self.log("train/loss", loss.detach(), prog_bar=True)
        self.log("train/loss_choice", choice.detach())
        self.log("train/loss_quality", quality.detach())
        return loss

    def _prepare(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What the network sees, as floats (B, C, S, S), and the Dice of both masks."""
        image, previous, current, dice, *references = batch
        seen = [image[:, None].float() / 255, previous[:, None].float(), current[:, None].float()]
        if getattr(self.network, "references", False):
            if not references:
                raise InputError(
                    "this network looks at prompted slices, the defect set has none; "
                    "collect it again: python recipes/quality.py collect"
                )
            seen.append(references[0].float() / 255)
        return *seen, dice.float()

    def _losses(
        self, network: Any, image: Tensor, previous: Tensor, current: Tensor, *references: Tensor, dice: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits = network(image, previous, current, *references)
        gain = dice[:, 0] - dice[:, 1]
        weight = gain.abs().clamp(max=0.3) * (gain.abs() > self.hparams["tie"])
        entropy = functional.binary_cross_entropy_with_logits(logits, (gain > 0).float(), reduction="none")
        choice = (entropy * weight).sum() / weight.sum().clamp_min(1e-6)
        if not hasattr(network, "score"):
            return choice, torch.zeros_like(choice)
        scores = torch.cat([network.score(image, mask, *references) for mask in (previous, current)])
        quality = functional.binary_cross_entropy_with_logits(scores, dice.T.flatten())
        return choice, quality

    def validation_step(self, batch: tuple[Tensor, ...], batch_index: int) -> dict[str, Pictures]:
        """Log how the averaged network chooses.

        val/accuracy on pairs that are no tie (`on_validation_epoch_end`), val/gain (Dice gained over always taking the
        new mask), val/oracle_gain (by the best choice), and val/quality_error (mean distance of the estimated Dice from
        the true one) for networks that estimate it. The pictures show the chosen mask and, as truth, the better one.
        """
        image, previous, current, *references, dice = self._prepare(batch)
        self.average.eval()
        keep = self.average(image, previous, current, *references) > 0
        gain = dice[:, 0] - dice[:, 1]
        clear = gain.abs() > self.hparams["tie"]
        self._chosen += torch.stack([((keep == (gain > 0)) & clear).sum(), clear.sum()]).cpu()
        self.log_mean("val/gain", torch.where(keep, gain, torch.zeros_like(gain)).mean(), len(image), prog_bar=True)
        self.log_mean("val/oracle_gain", gain.clamp_min(0).mean(), len(image))
        if hasattr(self.average, "score"):
            error = (torch.sigmoid(self.average.score(image, current, *references).float()) - dice[:, 1]).abs().mean()
            self.log_mean("val/quality_error", error, len(image))
        better, chosen = (torch.where(c[:, None, None], previous[:, 0], current[:, 0]) > 0.5 for c in (gain > 0, keep))
        return {"pictures": Pictures(image[:, 0], better, chosen)}

    def on_validation_epoch_start(self) -> None:
        """Count anew."""
        self._chosen.zero_()

    def on_validation_epoch_end(self) -> None:
        """Log val/accuracy over the pairs of all processes; left out where every pair is a tie."""
        chosen = self._chosen.to(self.device)
        if process_place()[1] > 1:
            torch.distributed.all_reduce(chosen)
        if chosen[1] > 0:
            self.log_mean("val/accuracy", chosen[0] / chosen[1], 1, prog_bar=True)
