"""XMemModule: trains XMem on clips with several objects, its own predictions fed back through memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from limnet.errors import InputError
from limnet.hub.registry import resolve
from limnet.propagation.aggregate import aggregate, unpad
from limnet.propagation.attention import attend
from limnet.propagation.clip_objects import SKIPS, draw_frames, draw_references, largest_skip, split_objects
from limnet.propagation.stream import Stream
from limnet.training.augment import augment_clips
from limnet.training.averaged_module import AveragedModule
from limnet.training.carry_validation import log_carried
from limnet.training.clip_losses import (
    bootstrapped_cross_entropy,
    hardest_share,
    object_dice_loss,
    object_numbers,
)
from limnet.training.pictures import Pictures


class XMemModule(AveragedModule):
    """Training of Cheng and Schwing, "XMem" (ECCV 2022); the defaults are those of its stage 3.

    A batch is (image uint8 (B, T, H, W), labels uint8 (B, T, H, W)) with 0 for background and the same number for the
    same object on all slices; masks of 0 and 1 are one object. `frames` slices of a clip are used, in either
    direction. The first one comes with its true masks; every later one is predicted from the first and up to
    `references` - 1 others, and enters memory with its prediction. Gradients run through the whole clip.

    The whole network stays in eval mode (batch statistics are those it came with), so start from a trained one.

    Args:
        network_config: arguments of the network; None for its defaults.
        network: name of a propagation network with XMem's interface in `limnet.hub.registry.TABLE`.
        learning_rate: of AdamW.
        max_steps: length of the training; the skips and nothing else depend on it.
        drops: steps after which the learning rate falls to a tenth.
        weight_decay: of AdamW.
        frames: slices of a clip, at least 3.
        references: slices that a prediction reads at most.
        objects: objects of a clip at most.
        deep_update: how often a predicted slice refreshes the sensory state through its masks.
        skips: (share of the training, largest gap between slices) from there on.
        bootstrap: (first, last) step over which the cross entropy narrows to the hardest pixels.
        hardest: share of pixels that count in the end.
        memory_every: steps between memory slices in validation.
        average_decay: decay of the moving average kept as `self.average`; 0 keeps the weights themselves.
        seed: of augmentation and draws.

    Raises:
        InputError: fewer than 3 frames, or no objects or references.
    """

    network: Any
    average: Any

    def __init__(
        self,
        network_config: dict[str, Any] | None = None,
        network: str = "XMem",
        learning_rate: float = 1e-5,
        max_steps: int = 110_000,
        drops: Sequence[int] = (80_000,),
        weight_decay: float = 0.05,
        frames: int = 8,
        references: int = 3,
        objects: int = 3,
        deep_update: float = 0.2,
        skips: Sequence[Sequence[float]] = SKIPS,
        bootstrap: Sequence[int] = (20_000, 70_000),
        hardest: float = 0.15,
        memory_every: int = 5,
        average_decay: float = 0.0,
        seed: int = 0,
    ):
        super().__init__()
        if frames < 3 or references < 1 or objects < 1:
            raise InputError(
                f"frames={frames}, references={references}, objects={objects}: give at least 3 frames, 1 reference "
                "and 1 object"
            )
        drops, bootstrap, skips = list(drops), list(bootstrap), [list(pair) for pair in skips]
        self.save_hyperparameters()
        self.network = resolve("propagation", network)(**(network_config or {}))
        self.average = copy.deepcopy(self.network).requires_grad_(False)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, the learning rate falling in steps."""
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.hparams["learning_rate"], weight_decay=self.hparams["weight_decay"]
        )
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, self.hparams["drops"], 0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def carry(
        self, image: Tensor, prompt: Tensor, generator: torch.Generator
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Predict slices 1 .. T-1 from the true masks of slice 0, by the rules of training.

        Args:
            image: (B, T, H, W) in [0, 1].
            prompt: bool (B, O, H, W); empty masks are no objects and stay empty.
            generator: draws of references and deep updates.

        Returns:
            For every slice logits and probabilities (B, O + 1, H, W), background first; and which objects there are,
            bool (B, O).
        """
        network, (batch, length) = self.network, image.shape[:2]
        size = (int(image.shape[2]), int(image.shape[3]))
        frames = [image[:, t : t + 1] for t in range(length)]
        stacked = network.encode_image(torch.cat(frames))
        features = [type(stacked)(*(f[t * batch : (t + 1) * batch] for f in stacked)) for t in range(length)]
        present = prompt.flatten(2).any(2)
        keys, shrinkages = (torch.stack([getattr(f, name) for f in features], 2) for name in ("key", "shrinkage"))
        sensory = network.initial_sensory(features[0], prompt.shape[1])
        value, sensory = network.encode_value(frames[0], features[0], sensory, prompt.float())
        values, outputs = value[:, :, :, None], []
        rows = torch.arange(batch, device=image.device)[:, None]
        for t in range(1, length):
            last = t == length - 1
            read = draw_references(t, self.hparams["references"], batch, generator).to(image.device)
            readout = attend(
                keys.transpose(1, 2)[rows, read].transpose(1, 2),
                shrinkages.transpose(1, 2)[rows, read].transpose(1, 2),
                values.permute(0, 3, 1, 2, 4, 5)[rows, read].permute(0, 2, 3, 1, 4, 5),
                features[t].key,
                features[t].selection,
            )
            sensory, raw = network.decode(features[t], readout, sensory, update_sensory=not last)
            single = torch.sigmoid(unpad(raw.float(), *size, network.stride)) * present[:, :, None, None]
            logits, probability = aggregate(single, 1)
            outputs.append((logits, probability))
            if not last:
                deep = float(torch.rand((), generator=generator)) < self.hparams["deep_update"]
                value, sensory = network.encode_value(frames[t], features[t], sensory, probability[:, 1:], deep)
                values = torch.cat([values, value[:, :, :, None]], 3)
        return outputs, present

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """One batch of label clips; returns the losses of the predicted slices, summed."""
        self.network.eval()
        generator = self.step_generator(batch_index)
        skip = largest_skip(self.global_step / max(self.hparams["max_steps"], 1), self.hparams["skips"])
        order = draw_frames(batch[0].shape[1], self.hparams["frames"], skip, generator)
        if not bool(batch[1][:, order[0]].any()):
            order = order[::-1]  # no clip of the batch begins with an object
        masks = split_objects(batch[1][:, order], self.hparams["objects"], generator)
        image, flat = augment_clips(batch[0][:, order], masks.flatten(1, 2), generator, scale=(0.85, 1.2))
        masks = flat.unflatten(1, masks.shape[1:3])
        outputs, present = self.carry(image, masks[:, 0], generator)
        masks = masks & present[:, None, :, None, None]
        begin, end = self.hparams["bootstrap"]
        share = hardest_share(self.global_step, begin, end, self.hparams["hardest"])
        entropy, dice = torch.zeros((), device=image.device), torch.zeros((), device=image.device)
        for t, (logits, probability) in enumerate(outputs, 1):
            entropy = entropy + bootstrapped_cross_entropy(logits, object_numbers(masks[:, t]), share)
            dice = dice + object_dice_loss(probability[:, 1:], masks[:, t], present)
        self.log("train/loss", (entropy + dice).detach(), prog_bar=True)
        self.log("train/cross_entropy", entropy.detach() / len(outputs))
        self.log("train/dice", 1 - dice.detach() / len(outputs))
        return entropy + dice

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> dict[str, Pictures]:
        """Every clip as in use (`Stream`), from true masks on the first slice; logs what `PropagationModule` logs."""
        image = batch[0].float() / 255
        masks = split_objects(batch[1], self.hparams["objects"])
        self.average.eval()
        guesses, truths = [], []
        for clip, objects in zip(image, masks, strict=True):
            present = objects[0].flatten(1).any(1)
            objects = objects[:, present if bool(present.any()) else slice(0, 1)]
            guesses.append(self._follow(clip, objects[0]).transpose(0, 1))
            truths.append(objects.transpose(0, 1))
        log_carried(self, torch.cat(guesses)[:, 1:], torch.cat(truths))
        return {"pictures": Pictures(image[0], masks[0].any(1), guesses[0].any(0))}

    def _follow(self, clip: Tensor, prompt: Tensor) -> Tensor:
        """Masks bool (T, O, H, W) of a clip (T, H, W) from the masks (O, H, W) of its first slice."""
        stream = Stream(self.average, self.hparams["memory_every"])
        numbers = []
        for t, grey in enumerate(clip):
            mask = prompt.float() if t == 0 else None
            numbers.append(stream.step(grey[None], mask, end=t + 1 == len(clip)).argmax(0))
        objects = torch.arange(1, len(prompt) + 1, device=clip.device)
        return torch.stack(numbers)[:, None] == objects[None, :, None, None]
