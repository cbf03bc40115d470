"""InteractionModule: trains a click network by letting a simulated user correct it, several clicks a sample."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from limnet.datasets.loading import process_place
from limnet.errors import InputError
from limnet.hub.registry import resolve
from limnet.interaction.inputs import fit_image, fit_prompts
from limnet.interaction.losses import masked_cross_entropy
from limnet.interaction.training_clicks import add_disks, draw_clicks
from limnet.simulation.corruption_batch import corrupt_batch
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
        corruption: share of the paper's six kinds of defects among damaged start masks; the rest is `damage`.
        own: share of the samples that start from a mask of the network itself, of one click and too generous or strict.
        freeze_encoder: keep the image half as it came; only the prompt half learns.
        average_decay: decay of the exponential moving average kept as `self.average`.
        seed: of clicks and augmentation.
        network: name of an interaction network in `limnet.hub.registry.TABLE`, such as "HRNetOCR".
        validation_clicks: clicks of the robot user in validation, at least 6; val/noc85 counts up to this many.
        optimizer: "adamw" or "muon" (`limnet.training.muon`).
        loss_weights: of normalised focal loss, soft Dice loss and cross-entropy.

    Raises:
        InputError: fewer than 6 clicks, or `freeze_encoder` for a network whose image half is no part of its own.
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
        corruption: float = 0.5,
        own: float = 0.2,
        freeze_encoder: bool = False,
        average_decay: float = 0.998,
        seed: int = 0,
        network: str = "TinyInteraction",
        validation_clicks: int = 6,
        optimizer: str = "adamw",
        loss_weights: Sequence[float] = LOSS_WEIGHTS,
    ):
        super().__init__()
        loss_weights = checked_weights(loss_weights)
        if validation_clicks < LEAST_CLICKS:
            raise InputError(f"validation_clicks is {validation_clicks}; Dice is logged after 6 clicks: give 6 or more")
        self.save_hyperparameters()
        self.network = resolve("interaction", network)(**(network_config or {}))
        if freeze_encoder and not hasattr(self.network, "encoder"):
            raise InputError(f"freeze_encoder: {network} has no image half of its own to freeze; leave it out")
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        if freeze_encoder:
            self.network.encoder.requires_grad_(False)

    def training_step(self, batch: tuple[Tensor, ...], batch_index: int) -> Tensor:
        """One batch of image, mask and, if recorded, start mask, each uint8 (B, T, H, W).

        A random slice of each clip is used. Samples with a recorded start mask begin from it.
        """
        generator = self.common_generator(batch_index)
        pick = int(torch.randint(0, batch[0].shape[1], (1,), generator=generator)) if batch[0].shape[1] > 1 else 0
        image, *masks = (part[:, pick : pick + 1] for part in batch)
        image, warped = augment_clips(image, torch.cat(masks, 1), generator, share=process_place())
        generator = self.own_generator(generator, batch_index)
        target = warped[:, :1]
        if self.hparams["freeze_encoder"]:
            self.network.encoder.eval()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.hparams["freeze_encoder"]):
            features = self.network.encode_image(
                fit_image(image, self.network).contiguous(memory_format=torch.channels_last)
            )
        prompts = start_prompts(target, generator, self.hparams["corruption"])
        if len(masks) > 1:
            recorded = warped[:, 1].flatten(1).any(1)
            prompts[recorded, 0], prompts[recorded, 3] = warped[recorded, 1].float(), 0
        if "bounds" not in self.network.prompt_channels:
            prompts[:, 3] = 0
        self._start_from_own(features, target, prompts, generator)
        target = wrong_objects(target, prompts, generator, self.hparams["erase"])
        steps = int(torch.randint(2, self.hparams["clicks"] + 1, (1,), generator=generator))
        losses, scores = [], []
        for step in range(steps):
            with torch.no_grad():
                spread = float(torch.rand((), generator=generator)) * 0.95
                points, kind = draw_clicks(target, prompts[:, 0:1] > 0.5, generator, spread)
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
        chosen = torch.rand(len(target), generator=generator) < self.hparams["own"]
        beside = torch.rand(len(target), generator=generator) < 0.2
        bias = (torch.rand((len(target), 1, 1, 1), generator=generator) * 2.5 - 0.7).to(target.device)
        if not bool(chosen.any()):
            return
        chosen, beside = chosen.to(target.device), beside.to(target.device)
        tall = functional.max_pool2d(target.float(), (25, 1), 1, (12, 0))
        ring = (functional.max_pool2d(tall, (1, 25), 1, (0, 12)) > 0) & ~target
        wanted = torch.where(beside.view(-1, 1, 1, 1), ring, target)
        clicked = torch.zeros_like(prompts)
        points, kind = draw_clicks(wanted, torch.zeros_like(wanted), generator, 0.2)
        add_disks(clicked[:, 1:2], clicked[:, 2:3], points, kind, self.network.click_radius)
        own = tuple(part[chosen] for part in features)
        logits = self.network.decode(own, fit_prompts(clicked[chosen], self.network))["instances"]
        prompts[chosen, 0:1] = (logits + bias[chosen]).sigmoid()
        prompts[chosen, 3] = 0

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> dict[str, Pictures]:
        """The robot user on the first slice of every clip, with the averaged weights; see `validate_clicks`."""
        self.average.eval()
        return validate_clicks(self, self.average, batch, self.hparams["validation_clicks"])


def start_prompts(target: Tensor, generator: torch.Generator, corruption: float = 0.5) -> Tensor:
    """Prompt maps before the first click: empty, a damaged or poor mask, a loose box, or a mask with another object.

    Args:
        target: bool (B, 1, H, W).
        generator: source of randomness.
        corruption: share of the paper's six kinds among the damaged masks; the rest is `damage`.

    Returns:
        float (B, 4, H, W): previous, positive, negative, bounds.
    """
    batch, _, height, width = target.shape
    prompts = target.new_zeros((batch, 4, height, width), dtype=torch.float32)
    draw = torch.rand(batch, generator=generator)
    damaged = damage(target, generator)
    paper = (torch.nonzero(draw < 0.25 * corruption)[:, 0]).to(target.device)
    if len(paper):
        damaged[paper] = corrupt_batch(target[paper], generator)
    for i in range(batch):
        if draw[i] < 0.25:
            prompts[i, 0] = damaged[i, 0]
        elif draw[i] < 0.35 and bool(target[i].any()):
            rows, columns = (torch.nonzero(target[i, 0].any(1 - axis))[:, 0] for axis in (0, 1))
            slack = torch.rand(4, generator=generator) * 0.12
            tall, wide = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
            top, bottom = int(rows[0] - slack[0] * tall), int(rows[-1] + 1 + slack[1] * tall)
            left, right = int(columns[0] - slack[2] * wide), int(columns[-1] + 1 + slack[3] * wide)
            prompts[i, 3, max(top, 0) : bottom, max(left, 0) : right] = 1.0
        elif draw[i] < 0.50:  # grown together with another object: a negative click must cut off that part only
            shift = [int(x) for x in ((torch.rand(2, generator=generator) - 0.5) * 0.6 * height)]
            foreign = target[(i + 1) % batch, 0].float().roll(shift, (0, 1))
            prompts[i, 0] = torch.maximum(target[i, 0].float(), foreign)
        elif draw[i] < 0.65:
            prompts[i, 0] = poor_mask(target[i, 0], target[(i + 1) % batch, 0], generator)
    return prompts


def poor_mask(target: Tensor, foreign: Tensor, generator: torch.Generator) -> Tensor:
    """What a sweep that went wrong leaves of an object: one side, all of it shifted, or one side and another object.

    Args:
        target: bool (H, W).
        foreign: bool (H, W), another object's mask.
        generator: source of randomness.

    Returns:
        float (H, W).
    """
    draw = torch.rand(6, generator=generator)
    height, width = target.shape
    if draw[0] < 0.25:
        extent = target.float().sum().sqrt()
        shift = [int(x) for x in ((draw[1:3] - 0.5) * 1.2 * extent)]
        return target.float().roll(shift, (0, 1))
    angle = float(draw[1]) * 2 * math.pi
    rows = torch.arange(height, device=target.device)[:, None] * math.sin(angle)
    along = rows + torch.arange(width, device=target.device)[None] * math.cos(angle)
    if not bool(target.any()):
        return target.float()
    cut = torch.quantile(along[target].float(), 0.05 + 0.6 * float(draw[2]))
    side = (target & (along <= cut)).float()
    if draw[0] < 0.65:
        return side
    shift = [int(x) for x in ((draw[3:5] - 0.5) * 0.6 * height)]
    return torch.maximum(side, foreign.float().roll(shift, (0, 1)))


def wrong_objects(target: Tensor, prompts: Tensor, generator: torch.Generator, chance: float) -> Tensor:
    """Targets (B, 1, H, W) of which some are emptied, their masks moved to the start mask in `prompts`, in place."""
    chosen = (torch.rand(len(target), generator=generator) < chance).to(target.device)
    prompts[chosen, 0] = target[chosen, 0].float()
    prompts[chosen, 3] = 0
    return target & ~chosen.view(-1, 1, 1, 1)


def damage(target: Tensor, generator: torch.Generator) -> Tensor:
    """Quickly damaged masks for a batch: a smooth random field moves the border, cuts parts out and adds others."""
    batch, _, height, width = target.shape
    size = target.float().mean((1, 2, 3), keepdim=True).sqrt() * height
    blurred = functional.avg_pool2d(target.float(), 9, 1, 4)
    blurred = functional.avg_pool2d(blurred, 9, 1, 4)
    cells = int(torch.randint(4, 14, (1,), generator=generator))
    field = torch.randn((batch, 1, cells, cells), generator=generator).to(target.device)
    field = functional.interpolate(field, (height, width), mode="bicubic", align_corners=False)
    strength = torch.rand((batch, 1, 1, 1), generator=generator).to(target.device) * 0.7
    bias = (torch.rand((batch, 1, 1, 1), generator=generator).to(target.device) - 0.5) * 0.6
    reach = (size / 24).clamp(0.4, 1.5)
    return ((blurred - 0.5) / reach + field * strength + bias > 0).float()
