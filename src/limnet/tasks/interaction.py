"""InteractionModule: trains a click network by letting a simulated user correct it, several clicks a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from limnet.data.loading import process_place
from limnet.errors import InputError
from limnet.hub.folder import resolve
from limnet.interaction.prompt_maps import fit_image, fit_prompts
from limnet.propagation.networks.tiny import TinyPropagation
from limnet.simulation.click_batch import add_disks, clicks_to_reach, draw_clicks, robot_clicks, scatter_clicks
from limnet.simulation.initial_masks import KINDS, POOR, damage, start_at, start_prompts, wrong_objects
from limnet.tasks.augment import augment_clips
from limnet.tasks.base import Pictures, Task
from limnet.tasks.losses import LOSS_WEIGHTS, checked_weights, click_loss, soft_dice

LEAST_CLICKS = 6  # of a validation: it logs the Dice after six
REPORTED = (1, 2, 3, 6)
GOAL = 0.85  # IoU of "NoC@85", the customary count of clicks
HEAD = ("maps_transform.", "feature_extractor.conv3x3_ocr.", "feature_extractor.ocr_distri_head.")
"""Parameters of `HRNetOCR` that learn at the full rate."""

RITM: Mapping[str, Any] = {
    "network": "HRNetOCR",
    "learning_rate": 5e-4,
    "max_steps": 215_625,
    "drops": (200 / 230, 220 / 230),
    "weight_decay": 0.0,
    "optimizer": "adam",
    "backbone_rate": 0.1,
    "scattered": 24,
    "least_clicks": 1,
    "clicks": 4,
    "last_only": True,
    "off_centre": (0.5, 0.5),
    "relook": 0.0,
    "started": 0.25,
    "starts": (1.0, 0.0, 0.0, 0.0),
    "corruption": 1.0,
    "erase": 0.05,
    "own": 0.0,
    "zoom": (0.75, 1.4),
    "loss_weights": (1.0, 0.0, 0.0),
    "average_decay": 0.0,
    "validation_clicks": 20,
}
"""The paper's way, as arguments of `InteractionModule`.

That is the training of Sofiiuk et al., "Reviving Iterative Training with Mask Guidance" (ICIP 2022), with the numbers
of its HRNet-W32 on COCO + LVIS: 230 epochs of 30,000 samples in batches of 32. Random clicks and no mask to begin with;
0 to 3 rounds in which the network predicts without gradient and gets one more click on its largest error; then one step
with gradient, its normalised focal loss and 0.4 of the cross entropy of the rough output. The LIM-Net paper adds start
masks damaged in its six ways; `started` is how often (it gives no number).
"""


class InteractionModule(Task):
    """Iterative click training (RITM), with a loss on every click.

    Args not named here are those of `Task`.

    Args:
        clicks: largest number of clicks per sample; each batch draws between `least_clicks` and this.
        relook: how often a later step brings no new click, only a second look with the mask so far.
        erase: how often the start mask lies on a wrong object and negative clicks must empty it.
        started: share of the samples that start from a mask or box made of the truth, see `start_prompts`.
        corruption: share of the paper's six kinds of defects among damaged start masks; the rest is `damage`.
        literal_pixels: those of 10 to 30 pixels whatever the object's size, see `draw_corruption`.
        own: share of the samples that start from a mask of the network itself, of one click and too generous or strict.
        carried: share of the samples that start from the mask a propagation network carries over from another slice of
            their clip (`start_from`); without such a network, or with clips of one slice, none does.
        freeze_encoder: keep the image half as it came; only the prompt half learns.
        validation_clicks: clicks of the robot user in validation, at least 6; val/noc85 counts up to this many.
        loss_weights: of normalised focal loss, soft Dice loss and cross-entropy.
        backbone_rate: factor on the learning rate of everything but `HEAD`, for networks that have such parts.
        scattered: in place of the first click up to so many random ones of each kind (`scatter_clicks`); 0 for none.
        last_only: only the prediction after the last click learns; those before run in eval mode without gradient.
        off_centre: range that each click's share is drawn from, see `draw_clicks`.
        starts: odds of the four kinds of start masks, see `start_prompts`.
        zoom: range of the augmentation's zoom.

    Raises:
        InputError: too few clicks a sample, fewer than 6 in validation, wrong weights, or `freeze_encoder` for a
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
        drops: Sequence[float] = (),
        backbone_rate: float = 1.0,
        least_clicks: int = 2,
        scattered: int = 0,
        last_only: bool = False,
        off_centre: Sequence[float] = (0.0, 0.95),
        starts: Sequence[float] = KINDS,
        zoom: Sequence[float] = (0.8, 1.3),
    ):
        super().__init__()
        loss_weights = checked_weights(loss_weights)
        drops, off_centre, starts, zoom = list(drops), list(off_centre), list(starts), list(zoom)
        if validation_clicks < LEAST_CLICKS:
            raise InputError(f"validation_clicks is {validation_clicks}; Dice is logged after 6 clicks: give 6 or more")
        if clicks < least_clicks:
            raise InputError(
                f"clicks is {clicks}; each batch draws between {least_clicks} and this: give {least_clicks} or more"
            )
        self.save_hyperparameters()
        self.hold(resolve("interaction", network)(**(network_config or {})))
        if freeze_encoder:
            if not hasattr(self.network, "encoder"):
                raise InputError(f"freeze_encoder: {network} has no image half of its own to freeze; leave it out")
            self.network.encoder.requires_grad_(False)
        self._carrier: list[TinyPropagation] = []  # in a list: it is no part of this module and its checkpoints

    def start_from(self, carrier: TinyPropagation) -> None:
        """Let `carried` of the samples start from what this network carries over from another slice."""
        self._carrier = [carrier.eval().requires_grad_(False)]

    def groups(self) -> list[dict[str, Any]]:
        """What learns at the full rate, and what at `backbone_rate` of it."""
        trained = [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]
        head = [p for name, p in trained if name.startswith(HEAD)]
        if self.hparams["backbone_rate"] == 1 or not head:
            return super().groups()
        rate = self.hparams["learning_rate"] * self.hparams["backbone_rate"]
        return [{"params": head}, {"params": [p for name, p in trained if not name.startswith(HEAD)], "lr": rate}]

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
        low, high = self.hparams["zoom"]
        image, warped = augment_clips(image, torch.cat(masks, 1), generator, (low, high), process_place())
        generator = self.own_generator(generator, batch_index)
        clip, marked = image, warped[:, : len(used)]
        image, target = image[:, :1], warped[:, :1]
        last_only = self.hparams["last_only"]
        if last_only:
            self.network.eval()
        features = self._encode(image, not last_only)
        prompts = self.first_prompts(target, generator)
        if len(masks) > 1:
            start = warped[:, len(used) : len(used) + 1]
            start_at(prompts, start.float(), start.flatten(1).any(1))
        if other != pick:
            self._start_from_carried(clip, marked, prompts, generator)
        if "bounds" not in self.network.prompt_channels:
            prompts[:, 3] = 0
        self._start_from_own(features, target, prompts, generator)
        target = wrong_objects(target, prompts, generator, self.hparams["erase"])
        steps = int(torch.randint(self.hparams["least_clicks"], self.hparams["clicks"] + 1, (1,), generator=generator))
        losses, scores = [], []
        for step in range(steps):
            self._click(prompts, target, generator, step)
            learns = step + 1 == steps or not last_only
            if last_only and learns:
                self.network.train()
                features = self._encode(image)
            with nullcontext() if learns else torch.no_grad():
                outputs = self.network.decode(features, fit_prompts(prompts, self.network))
            logits = outputs["instances"]
            if learns:
                losses.append(click_loss(outputs, target, self.hparams["loss_weights"]))
            with torch.no_grad():
                scores.append(soft_dice(logits.sigmoid() > 0.5, target).mean())
                prompts = prompts.clone()
                prompts[:, 0:1] = logits.sigmoid()
        loss = torch.stack(losses).mean()
        self.log("train/loss", loss.detach(), prog_bar=True)
        self.log("train/dice_first", scores[0])
        self.log("train/dice_last", scores[-1])
        return loss

    def _encode(self, image: Tensor, learns: bool = True) -> tuple[Tensor, ...]:
        """Image half of slices (B, 1, H, W)."""
        frozen = self.hparams["freeze_encoder"]
        if frozen:
            self.network.encoder.eval()
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns and not frozen):
            fitted = fit_image(image, self.network).contiguous(memory_format=torch.channels_last)
            features: tuple[Tensor, ...] = self.network.encode_image(fitted)
        return features

    def first_prompts(self, target: Tensor, generator: torch.Generator) -> Tensor:
        """Maps (B, 4, H, W) before the first prediction, for targets bool (B, 1, H, W)."""
        options = self.hparams
        prompts = start_prompts(
            target, generator, options["corruption"], options["started"], options["literal_pixels"], options["starts"]
        )
        if options["scattered"]:
            disks = prompts[:, 1:2], prompts[:, 2:3]
            scatter_clicks(*disks, target, generator, self.network.click_radius, options["scattered"])
        return prompts

    @torch.no_grad()
    def _click(self, prompts: Tensor, target: Tensor, generator: torch.Generator, step: int) -> None:
        """Add one click of the simulated user to the maps (B, 4, H, W), in place."""
        first = step == 0
        if first and self.hparams["scattered"]:
            return
        low, high = self.hparams["off_centre"]
        spread = low + float(torch.rand((), generator=generator)) * (high - low)
        points, kind = draw_clicks(target, prompts[:, 0:1] > 0.5, generator, spread, first=first)
        # no new click: a box alone, or a second look at the same prompts
        chance = (prompts[:, 3].amax((1, 2)) > 0).float() * 0.5 if first else self.hparams["relook"]
        skip = torch.rand(len(kind), generator=generator).to(kind.device) < chance
        kind = torch.where(skip, torch.full_like(kind, -1), kind)
        add_disks(prompts[:, 1:2], prompts[:, 2:3], points, kind, self.network.click_radius)

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

        Image (B, 2, H, W) in [0, 1] and masks bool are of the slice to be clicked and the other one; the mask of the
        latter is damaged in half of the samples.
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
        """Let the robot user click on the first slice of every clip, from its start mask if one is recorded.

        The averaged network answers. Logs val/dice_1, _2, _3 and _6, the mean Dice after so many clicks, and val/noc85,
        the mean number of clicks to an IoU of 0.85 (`validation_clicks` where it is not reached).
        """
        self.average.eval()
        image, target = batch[0][:, :1].float() / 255, batch[1][:, :1].bool()
        start = batch[2][:, :1].bool() if len(batch) > 2 else None
        result = robot_clicks(self.average, image, target, self.hparams["validation_clicks"], start)
        for click in REPORTED:
            dice = result.dice[click - 1].mean()
            self.log_mean(f"val/dice_{click}", dice, len(image), prog_bar=click in (1, 6))
        self.log_mean("val/noc85", clicks_to_reach(result.iou, GOAL).mean(), len(image))
        return {"pictures": Pictures(image[:, 0], target[:, 0], result.mask[:, 0], result.clicks)}


def _some(count: int, share: float, generator: torch.Generator) -> Tensor:
    """Random numbers below `count`, `share` of them: as many in every step, but for a fraction that is drawn."""
    wanted = share * count
    more = float(torch.rand((), generator=generator)) < wanted % 1
    return torch.randperm(count, generator=generator)[: int(wanted) + more]
