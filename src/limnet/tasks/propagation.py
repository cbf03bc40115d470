"""PropagationModule: trains a memory network on whole clips with its own predictions fed back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from limnet.data.loading import process_place
from limnet.errors import InputError
from limnet.hub.folder import resolve
from limnet.interaction.networks.tiny import TinyInteraction
from limnet.propagation.networks.tiny import Remembered, TinyPropagation
from limnet.simulation.click_batch import add_disks, draw_clicks
from limnet.simulation.initial_masks import damage, shifted
from limnet.tasks.augment import augment_clips
from limnet.tasks.base import Pictures, Task
from limnet.tasks.losses import LOSS_WEIGHTS, checked_weights, mask_loss, soft_dice
from limnet.tasks.xmem import XMemClips


@dataclass(frozen=True)
class TinyClips:
    """Schedule "limnet": slice 0 is prompted, every later one is predicted from memory and predicted neighbours.

    Attributes not named here are those of `Task`.

    Attributes:
        freeze_encoder: keep the image half as it came (shared with the interaction network).
        memory_every: a predicted slice enters memory every so many slices.
        forcing_steps: over so many steps true masks as the previous mask give way to predictions.
        drift: how often the mask handed to the next slice has gone astray, as after many slices of a long sweep.
        loss_weights: of normalised focal loss, soft Dice loss and cross-entropy.
        prompted: share of the clips whose prompt mask is a click network's answer (`PropagationModule.prompt_by`).

    Raises:
        InputError: wrong weights.
    """

    learning_rate: float = 1e-3
    max_steps: int = 1000
    warmup_steps: int = 100
    weight_decay: float = 0.02
    freeze_encoder: bool = True
    memory_every: int = 2
    forcing_steps: int = 300
    drift: float = 0.1
    average_decay: float = 0.998
    seed: int = 0
    loss_weights: Sequence[float] = LOSS_WEIGHTS
    optimizer: str = "adamw"
    prompted: float = 0.0
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss_weights", checked_weights(self.loss_weights))

    def check(self, network: Any) -> None:
        """Refuse (InputError) another network than `TinyPropagation`: it is not read this way."""
        if not isinstance(network, TinyPropagation):
            raise InputError(
                f"the schedule limnet trains TinyPropagation, and the network is a {type(network).__name__}; XMem is "
                "trained by the schedule xmem"
            )

    def loss(self, module: PropagationModule, batch: tuple[Tensor, ...], batch_index: int) -> tuple[Tensor, Any]:
        """Loss and figures of clips: image uint8 (B, T, H, W), mask uint8 (B, T, H, W); start masks are not used."""
        generator = module.common_generator(batch_index)
        image, target = augment_clips(batch[0], batch[1], generator, scale=(0.85, 1.2), share=process_place())
        generator = module.own_generator(generator, batch_index)
        draw = torch.rand(2, generator=generator)
        if draw[0] < 0.2:  # the other way round: the object begins and grows
            full = target[:, -1].flatten(1).any(1).view(-1, 1, 1, 1)
            image, target = (torch.where(full, part.flip(1), part) for part in (image, target))
        prompt = self.prompts(image[:, :1], target[:, :1], generator, module.prompter)
        second, has_second = None, None
        if draw[1] < 0.5:
            second, has_second = target[:, -1:].float(), torch.rand(len(target), generator=generator) < 0.6
        forcing = max(0.0, 1 - module.global_step / max(self.forcing_steps, 1)) * 0.8
        outputs = self.carry(module.network, image, prompt, target, forcing, second, has_second, generator)
        losses = [mask_loss(logits, target[:, t : t + 1], self.loss_weights) for t, logits in enumerate(outputs, 1)]
        with torch.no_grad():
            first = soft_dice(outputs[0] > 0, target[:, 1:2]).mean()
            final = soft_dice(outputs[-1] > 0, target[:, -1:]).mean()
        return torch.stack(losses).mean(), {"dice_first": first, "dice_last": final}

    @torch.no_grad()
    def prompts(
        self, image: Tensor, target: Tensor, generator: torch.Generator, prompter: TinyInteraction | None = None
    ) -> Tensor:
        """Prompt masks (B, 1, H, W) for slices (B, 1, H, W): true, damaged, or a click network's answer."""
        prompt = target.float()
        if float(torch.rand((), generator=generator)) < 0.3:
            prompt = damage(target, generator)
        if prompter is None or self.prompted <= 0:
            return prompt
        answered = torch.rand((len(image), 1, 1, 1), generator=generator) < self.prompted
        network = prompter.to(image.device)
        features = network.encode_image(image.contiguous(memory_format=torch.channels_last))
        maps = image.new_zeros((len(image), 4, *image.shape[-2:]))
        for turn in range(int(torch.randint(1, 4, (1,), generator=generator))):
            points, kind = draw_clicks(target, maps[:, 0:1] > 0.5, generator, 0.7, first=turn == 0)
            add_disks(maps[:, 1:2], maps[:, 2:3], points, kind, network.click_radius)
            maps[:, 0:1] = network.decode(features, maps)["instances"].float().sigmoid()
        answer = maps[:, 0:1] > 0.5
        useful = answered.to(image.device) & answer.flatten(1).any(1).view(-1, 1, 1, 1)
        return torch.where(useful, answer.float(), prompt)

    def _encode(self, network: TinyPropagation, image: Tensor) -> list[tuple[Tensor, ...]]:
        """Features of every slice of (B, T, H, W), one tuple a slice, from one pass."""
        batch, length = image.shape[:2]
        if self.freeze_encoder:
            network.encoder.eval()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            stacked = image.transpose(0, 1).reshape(batch * length, 1, *image.shape[2:])
            features = network.encode_image(stacked.to(memory_format=torch.channels_last))
        return [tuple(f[t * batch : (t + 1) * batch] for f in features) for t in range(length)]

    def carry(
        self,
        network: TinyPropagation,
        image: Tensor,
        prompt: Tensor,
        truth: Tensor | None = None,
        forcing: float = 0.0,
        second: Tensor | None = None,
        has_second: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> list[Tensor]:
        """Logits of slices 1 .. T-1 of clips (B, T, H, W) in [0, 1], given the mask (B, 1, H, W) of slice 0.

        Args:
            network: trained or averaged network.
            image: the clips.
            prompt: mask of slice 0.
            truth: bool (B, T, H, W), used with probability `forcing` as the previous mask.
            second: (B, 1, H, W) mask of the last slice, put into memory as a second prompt.
            has_second: bool (B,), the samples that have a second prompt; None for all.
            generator: draws for `forcing`.
        """
        features = self._encode(network, image)
        last = network.remember(features[0], prompt)
        memory, looks = [last], [last]
        if second is not None:
            far = network.remember(features[-1], second)
            if has_second is not None:  # samples without a second prompt remember their first one twice
                chosen = has_second.to(second.device)
                far = Remembered(
                    *(torch.where(chosen.view(-1, *[1] * (b.dim() - 1)), b, a) for a, b in zip(last, far, strict=True))
                )
            memory, looks = [*memory, far], [*looks, far]
        mask, outputs = prompt.float(), []
        for t in range(1, image.shape[1]):
            readout = network.read(features[t], memory)
            logits = network.segment(features[t], readout, looks, last, image[:, t - 1 : t], mask)
            outputs.append(logits)
            mask = logits.detach().sigmoid()
            if truth is not None and forcing > 0 and generator is not None:
                swap = torch.rand(len(image), 1, 1, 1, generator=generator).to(mask.device) < forcing
                mask = torch.where(swap, truth[:, t : t + 1].float(), mask)
            kept = mask
            if truth is not None and generator is not None:
                mask = drift(mask, truth[:, t : t + 1], generator, self.drift)
            last = network.remember(features[t], mask)
            if t % self.memory_every == 0:
                memory.append(network.remember(features[t], kept))
        return outputs

    @torch.no_grad()
    def follow(self, network: TinyPropagation, image: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Clips carried from the true mask of slice 0, bool (B, T, H, W), and the true masks."""
        target = masks.bool()
        outputs = torch.cat(self.carry(network, image, target[:, :1].float()), 1) > 0
        return torch.cat([target[:, :1], outputs], 1), target


SCHEDULES: dict[str, Any] = {"limnet": TinyClips, "xmem": XMemClips}
XMEM = {"network": "XMem", "schedule": "xmem"}
"""XMem's training, as arguments of `PropagationModule`; its numbers are the defaults of `XMemClips`."""


class PropagationModule(Task):
    """Clip training: the masks of slice 0 are given, the network carries them on and learns from every later slice.

    A schedule ("limnet" or "xmem") says how a batch of clips becomes a loss, and with what numbers: `TinyClips` (ours)
    or `XMemClips`, whose attributes are the options, such as learning_rate and max_steps.

    Raises:
        InputError: no such schedule or option, or one that cannot be used.
    """

    network: Any
    average: Any

    def __init__(
        self,
        network_config: dict[str, Any] | None = None,
        network: str = "TinyPropagation",
        schedule: str = "limnet",
        **options: Any,
    ):
        super().__init__()
        if schedule not in SCHEDULES:
            raise InputError(f"schedule is {schedule!r}; allowed are {', '.join(SCHEDULES)}")
        known = [field.name for field in fields(SCHEDULES[schedule])]
        if foreign := sorted(set(options) - set(known)):
            raise InputError(f"{', '.join(foreign)}: no such option; schedule {schedule} has {', '.join(known)}")
        self.clips = SCHEDULES[schedule](**options)
        chosen = {"network_config": network_config, "network": network, "schedule": schedule}
        self.save_hyperparameters({**chosen, **asdict(self.clips)})
        self.hold(resolve("propagation", network)(**(network_config or {})))
        self.clips.check(self.network)
        if self.hparams.get("freeze_encoder"):
            self.network.encoder.requires_grad_(False)
        self._prompter: list[TinyInteraction] = []  # in a list: it is no part of this module and its checkpoints

    @classmethod
    def options(cls, schedule: str | None = None) -> set[str]:
        """Names of the arguments under a schedule."""
        own = {"network_config", "network", "schedule"}
        return own | {field.name for field in fields(SCHEDULES[schedule or "limnet"])}

    def prompt_by(self, prompter: TinyInteraction) -> None:
        """Let `prompted` of the clips start from the masks that this click network makes of a few clicks."""
        self._prompter = [prompter.eval().requires_grad_(False)]

    @property
    def prompter(self) -> TinyInteraction | None:
        """What `prompt_by` named."""
        return self._prompter[0] if self._prompter else None

    def training_step(self, batch: tuple[Tensor, ...], batch_index: int) -> Tensor:
        """One batch of clips; see the `loss` of the schedule."""
        loss: Tensor
        loss, figures = self.clips.loss(self, batch, batch_index)
        self.log("train/loss", loss.detach(), prog_bar=True)
        for name, value in figures.items():
            self.log(f"train/{name}", value)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> dict[str, Pictures]:
        """Carry the true masks of slice 0 with the averaged network, and compare with copying masks.

        Logs val/dice_carried, val/dice_copied (the first mask on all slices), val/dice_copied_each_step (every true
        mask on the next slice) over slices 1 .. T-1 of whole clips, and val/dice_per_slice.
        """
        image = batch[0].float() / 255
        self.average.eval()
        carried, target = self.clips.follow(self.average, image, batch[1])
        later = target[:, 1:]
        copies = target[:, :1].expand_as(later), target[:, :-1]
        guesses = dict(zip(("carried", "copied", "copied_each_step"), (carried[:, 1:], *copies), strict=True))
        for name, guess in guesses.items():
            self.log_mean(f"val/dice_{name}", soft_dice(guess, later).mean(), len(target), prog_bar=True)
        slices = soft_dice(guesses["carried"].flatten(0, 1), later.flatten(0, 1)).mean()
        self.log_mean("val/dice_per_slice", slices, len(target))
        return {"pictures": Pictures(image[0], target[0], carried[0])}


def drift(mask: Tensor, truth: Tensor, generator: torch.Generator, chance: float) -> Tensor:
    """Some masks of a batch gone astray: on another object, shifted, grown together with another one, or lost.

    Masks (B, 1, H, W) are probabilities; `truth`, bool, is material for other objects' shapes; `chance` is the share of
    samples that drift.
    """
    batch = len(mask)
    chosen, kind = torch.rand((2, batch, 1, 1, 1), generator=generator).to(mask.device)
    shift = (torch.rand((batch, 2), generator=generator) - 0.5) * 0.5 * mask.shape[-1]
    foreign = truth.roll(-1, 0).float()
    grown = torch.maximum(mask, shifted(foreign, shift))
    astray = torch.where(kind < 0.9, grown, torch.zeros_like(mask))
    astray = torch.where(kind < 0.6, shifted(mask, shift), astray)
    astray = torch.where(kind < 0.35, foreign, astray)
    return torch.where(chosen < chance, astray, mask)
