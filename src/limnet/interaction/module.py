"""InteractionModule: trains a click network by letting a simulated user correct it, several clicks a sample."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from limnet.datasets.loading import process_place
from limnet.errors import InputError
from limnet.hub.registry import resolve
from limnet.interaction.click_maps import add_disks
from limnet.interaction.inputs import fit_image, fit_prompts
from limnet.interaction.losses import masked_cross_entropy
from limnet.interaction.start_masks import POOR, damage, start_at, start_prompts, wrong_objects
from limnet.propagation.tiny import TinyPropagation
from limnet.simulation.click_batch import draw_clicks
from limnet.training.augment import augment_clips
from limnet.training.averaged_module import AveragedModule
from limnet.training.click_validation import LEAST_CLICKS, validate_clicks
from limnet.training.objective import LOSS_WEIGHTS, checked_weights, mask_loss, soft_dice
from limnet.training.pictures import Pictures


class InteractionModule(AveragedModule):
    """Iterative click training (RITM), with a loss on every click.

    Args:
        network_config: arguments of the network; None for its defaults.
        learning_rate: peak of AdamW.
        max_steps: length of the cosine schedule in optimizer steps.
        warmup_steps: linear warm-up.
        weight_decay: of AdamW.
        clicks: largest number of clicks per sample; each batch draws between 2 and this.
        relook: how often a later step brings no new click, only a second look with the mask so far.
        erase: how often the start mask lies on a wrong object and negative clicks must empty it.
        started: share of the samples that start from a mask or box made of the truth, see `start_prompts`.
        corruption: share of the paper's six kinds of defects among damaged start masks; the rest is `damage`.
        literal_pixels: those of 10 to 30 pixels whatever the object's size, see `draw_corruption`.
        own: share of the samples that start from a mask of the network itself, of one click and too generous or strict.
        carried: share of the samples that start from the mask a propagation network carries over from another slice of
            their clip (`start_from`); without such a network, or with clips of one slice, none does.
        freeze_encoder: keep the image half as it came; only the prompt half learns.
        average_decay: decay of the exponential moving average kept as `self.average`.
        seed: of clicks and augmentation.
        network: name of an interaction network in `limnet.hub.registry.TABLE`, such as "HRNetOCR".
        validation_clicks: clicks of the robot user in validation, at least 6; val/noc85 counts up to this many.
        optimizer: "adamw" or "muon" (`limnet.training.muon`).
        loss_weights: of normalised focal loss, soft Dice loss and cross-entropy.
        max_minutes: see `AveragedModule`.

    Raises:
        InputError: fewer than 2 clicks a sample, fewer than 6 in validation, wrong weights, or `freeze_encoder` for a
            network whose image half is no part of its own.
    """

    network: Any
    average: Any

    def __init__(
        self,
        network_config: dict[str, Any] | None = None,
        learning_rate: float = 1e-3,
        max_steps: int = 1000,
        warmup_steps: int = 100,
        weight_decay: float = 0.02,
        clicks: int = 4,
        relook: float = 0.2,
        erase: float = 0.08,
        started: float = POOR,
        corruption: float = 0.5,
        literal_pixels: bool = False,
        own: float = 0.2,
        carried: float = 0.0,
        freeze_encoder: bool = False,
        average_decay: float = 0.998,
        seed: int = 0,
        network: str = "TinyInteraction",
        validation_clicks: int = 6,
        optimizer: str = "adamw",
        loss_weights: Sequence[float] = LOSS_WEIGHTS,
        max_minutes: float | None = None,
    ):
        super().__init__()
        loss_weights = checked_weights(loss_weights)
        if validation_clicks < LEAST_CLICKS:
            raise InputError(f"validation_clicks is {validation_clicks}; Dice is logged after 6 clicks: give 6 or more")
        if clicks < 2:
            raise InputError(f"clicks is {clicks}; each batch draws between 2 and this: give 2 or more")
        self.save_hyperparameters()
        self.network = resolve("interaction", network)(**(network_config or {}))
        if freeze_encoder and not hasattr(self.network, "encoder"):
            raise InputError(f"freeze_encoder: {network} has no image half of its own to freeze; leave it out")
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        if freeze_encoder:
            self.network.encoder.requires_grad_(False)
        self._carrier: list[TinyPropagation] = []  # in a list: it is no part of this module and its checkpoints

    def start_from(self, carrier: TinyPropagation) -> None:
        """Let `carried` of the samples start from what this network carries over from another slice."""
        self._carrier = [carrier.eval().requires_grad_(False)]

    def training_step(self, batch: tuple[Tensor, ...], batch_index: int) -> Tensor:
        """One batch of image, mask and, if recorded, start mask, each uint8 (B, T, H, W).

        A random slice of each clip is used. Samples with a recorded start mask begin from it.
        """
        generator = self.common_generator(batch_index)
        length = batch[0].shape[1]
        pick = int(torch.randint(0, length, (1,), generator=generator)) if length > 1 else 0
        other = (pick + 1) % length if self._carrier and self.hparams["carried"] > 0 else pick
        used = [pick] if other == pick else [pick, other]
        image, *masks = (part[:, used] for part in batch)
        image, warped = augment_clips(image, torch.cat(masks, 1), generator, share=process_place())
        generator = self.own_generator(generator, batch_index)
        clip, marked = image, warped[:, : len(used)]
        image, target = image[:, :1], warped[:, :1]
        if self.hparams["freeze_encoder"]:
            self.network.encoder.eval()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.hparams["freeze_encoder"]):
            features = self.network.encode_image(
                fit_image(image, self.network).contiguous(memory_format=torch.channels_last)
            )
        shares = self.hparams["corruption"], self.hparams["started"]
        prompts = start_prompts(target, generator, *shares, literal=self.hparams["literal_pixels"])
        if len(masks) > 1:
            start = warped[:, len(used) : len(used) + 1]
            start_at(prompts, start.float(), start.flatten(1).any(1))
        if other != pick:
            self._start_from_carried(clip, marked, prompts, generator)
        if "bounds" not in self.network.prompt_channels:
            prompts[:, 3] = 0
        self._start_from_own(features, target, prompts, generator)
        target = wrong_objects(target, prompts, generator, self.hparams["erase"])
        steps = int(torch.randint(2, self.hparams["clicks"] + 1, (1,), generator=generator))
        losses, scores = [], []
        for step in range(steps):
            with torch.no_grad():
                spread = float(torch.rand((), generator=generator)) * 0.95
                points, kind = draw_clicks(target, prompts[:, 0:1] > 0.5, generator, spread, first=step == 0)
                # no new click: a box alone, or a second look at the same prompts
                chance = (prompts[:, 3].amax((1, 2)) > 0).float() * 0.5 if step == 0 else self.hparams["relook"]
                skip = torch.rand(len(kind), generator=generator).to(kind.device) < chance
                kind = torch.where(skip, torch.full_like(kind, -1), kind)
                add_disks(prompts[:, 1:2], prompts[:, 2:3], points, kind, self.network.click_radius)
            outputs = self.network.decode(features, fit_prompts(prompts, self.network))
            logits = outputs["instances"]
            losses.append(mask_loss(logits, target, self.hparams["loss_weights"]))
            if "instances_aux" in outputs:
                losses[-1] = losses[-1] + 0.4 * masked_cross_entropy(outputs["instances_aux"], target).mean()
            with torch.no_grad():
                scores.append(soft_dice(logits.sigmoid() > 0.5, target).mean())
                prompts = prompts.clone()
                prompts[:, 0:1] = logits.sigmoid()
        loss = torch.stack(losses).mean()
        self.log("train/loss", loss.detach(), prog_bar=True)
        self.log("train/dice_first", scores[0])
        self.log("train/dice_last", scores[-1])
        return loss

    @torch.no_grad()
    def _start_from_own(
        self, features: tuple[Tensor, ...], target: Tensor, prompts: Tensor, generator: torch.Generator
    ) -> None:
        """Replace some start masks in `prompts` (B, 4, H, W), in place, by what the network makes of one click.

        The click lies in the object, or beside it in a fifth of the cases; the answer is taken at a random threshold.
        Such masks leak into what looks alike, as those of a sweep do, and negative clicks must bring them back.
        """
        index = _some(len(target), self.hparams["own"], generator).to(target.device)
        beside = torch.rand(len(target), generator=generator) < 0.2
        bias = torch.rand((len(target), 1, 1, 1), generator=generator) * 2.5 - 0.7
        if len(index) < 2:  # batch statistics of one sample are none
            return
        tall = functional.max_pool2d(target.float(), (25, 1), 1, (12, 0))
        ring = (functional.max_pool2d(tall, (1, 25), 1, (0, 12)) > 0) & ~target
        wanted = torch.where(beside.to(target.device).view(-1, 1, 1, 1), ring, target)
        clicked = torch.zeros_like(prompts)
        points, kind = draw_clicks(wanted, torch.zeros_like(wanted), generator, 0.2, first=True)
        add_disks(clicked[:, 1:2], clicked[:, 2:3], points, kind, self.network.click_radius)
        own = tuple(part[index] for part in features)
        logits = self.network.decode(own, fit_prompts(clicked[index], self.network))["instances"]
        prompts[index, 0:1] = (logits + bias.to(target.device)[index]).sigmoid()
        prompts[index, 3] = 0

    @torch.no_grad()
    def _start_from_carried(self, image: Tensor, masks: Tensor, prompts: Tensor, generator: torch.Generator) -> None:
        """Replace some start masks in `prompts`, in place, by what a sweep brings from the clip's other slice.

        Args:
            image: (B, 2, H, W) in [0, 1], the slice to be clicked and the other one.
            masks: bool (B, 2, H, W).
            prompts: (B, 4, H, W).
            generator: draws the samples and, for half of them, damage to the other slice's mask.
        """
        index = _some(len(image), self.hparams["carried"], generator).to(image.device)
        if not len(index):
            return
        clip, known = image[index], masks[index, 1:2]
        spoiled = (torch.rand((len(index), 1, 1, 1), generator=generator) < 0.5).to(image.device)
        known = torch.where(spoiled, damage(known, generator), known.float())
        carrier = self._carrier[0].to(image.device)
        there, here = (carrier.encode_image(clip[:, i : i + 1]) for i in (1, 0))
        last = carrier.remember(there, known)
        logits = carrier.segment(here, carrier.read(here, [last]), [last], last, clip[:, 1:2], known)
        prompts[index, 0:1] = logits.float().sigmoid()
        prompts[index, 3] = 0

    def validation_step(self, batch: tuple[Tensor, ...], batch_index: int) -> dict[str, Pictures]:
        """The robot user on the first slice of every clip, with the averaged weights; see `validate_clicks`."""
        self.average.eval()
        return validate_clicks(self, self.average, batch, self.hparams["validation_clicks"])


def _some(count: int, share: float, generator: torch.Generator) -> Tensor:
    """Random numbers below `count`, `share` of them: as many in every step, but for a fraction that is drawn."""
    wanted = share * count
    more = float(torch.rand((), generator=generator)) < wanted % 1
    return torch.randperm(count, generator=generator)[: int(wanted) + more]
