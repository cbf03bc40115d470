"""XMem's training: clips with several objects, the network's own predictions fed back through memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from limnet.errors import InputError
from limnet.propagation.memory import attend
from limnet.propagation.networks.xmem import aggregate, unpad
from limnet.propagation.stream import Stream
from limnet.tasks.augment import augment_clips
from limnet.tasks.losses import bootstrapped_cross_entropy, hardest_share, object_dice_loss, object_numbers

if TYPE_CHECKING:
    from limnet.tasks.propagation import PropagationModule

SKIPS: tuple[tuple[float, int], ...] = ((0.0, 5), (0.1, 10), (0.3, 15), (0.8, 5))
"""Largest gap between the slices of a clip from a share of the training on (XMem's curriculum)."""


@dataclass(frozen=True)
class XMemClips:
    """Schedule "xmem": that of Cheng and Schwing, "XMem" (ECCV 2022); the defaults are those of its stage 3.

    A batch is (image uint8 (B, T, H, W), labels uint8 (B, T, H, W)) with 0 for background and the same number for the
    same object on all slices; masks of 0 and 1 are one object. `frames` slices of a clip are used, in either direction.
    The first one comes with its true masks; every later one is predicted from the first and up to `references` - 1
    others, and enters memory with its prediction. Gradients run through the whole clip.

    The whole network stays in eval mode (batch statistics are those it came with), so start from a trained one.

    Attributes:
        frames: slices of a clip, at least 3.
        references: slices that a prediction reads at most.
        objects: objects of a clip at most.
        deep_update: how often a predicted slice refreshes the sensory state through its masks.
        skips: (share of the training, largest gap between slices) from there on.
        bootstrap: (first, last) share of it over which the cross entropy narrows to the hardest pixels.
        hardest: share of pixels that count in the end.
        memory_every: steps between memory slices in validation.

    Raises:
        InputError: fewer than 3 frames, or no objects or references.
    """

    learning_rate: float = 1e-5
    max_steps: int = 110_000
    drops: Sequence[float] = (80 / 110,)
    weight_decay: float = 0.05
    frames: int = 8
    references: int = 3
    objects: int = 3
    deep_update: float = 0.2
    skips: Sequence[Sequence[float]] = SKIPS
    bootstrap: Sequence[float] = (20 / 110, 70 / 110)
    hardest: float = 0.15
    memory_every: int = 5
    average_decay: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.frames < 3 or self.references < 1 or self.objects < 1:
            raise InputError(
                f"frames={self.frames}, references={self.references}, objects={self.objects}: give at least 3 frames, "
                "1 reference and 1 object"
            )
        for name in ("drops", "bootstrap"):  # plain lists: what checkpoints hold
            object.__setattr__(self, name, list(getattr(self, name)))
        object.__setattr__(self, "skips", [list(pair) for pair in self.skips])

    def check(self, network: Any) -> None:
        """Refuse (InputError) a network without XMem's interface."""
        if not hasattr(network, "encode_value"):
            raise InputError(f"the schedule xmem trains XMem, and the network is a {type(network).__name__}")

    def carry(
        self, network: Any, image: Tensor, prompt: Tensor, generator: torch.Generator
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Predict slices 1 .. T-1 from the true masks of slice 0, by the rules of training.

        Args:
            network: as XMem.
            image: (B, T, H, W) in [0, 1].
            prompt: bool (B, O, H, W); empty masks are no objects and stay empty.
            generator: draws of references and deep updates.

        Returns:
            For every slice logits and probabilities (B, O + 1, H, W), background first; and which objects there are,
            bool (B, O).
        """
        batch, length = image.shape[:2]
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
            read = draw_references(t, self.references, batch, generator).to(image.device)
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
                deep = float(torch.rand((), generator=generator)) < self.deep_update
                value, sensory = network.encode_value(frames[t], features[t], sensory, probability[:, 1:], deep)
                values = torch.cat([values, value[:, :, :, None]], 3)
        return outputs, present

    def loss(self, module: PropagationModule, batch: tuple[Tensor, ...], batch_index: int) -> tuple[Tensor, Any]:
        """Losses of the predicted slices of label clips, summed, and figures."""
        module.network.eval()
        generator = module.step_generator(batch_index)
        progress = module.global_step / max(self.max_steps, 1)
        skip = largest_skip(progress, self.skips)
        order = draw_frames(batch[0].shape[1], self.frames, skip, generator)
        if not bool(batch[1][:, order[0]].any()):
            order = order[::-1]  # no clip of the batch begins with an object
        masks = split_objects(batch[1][:, order], self.objects, generator)
        image, flat = augment_clips(batch[0][:, order], masks.flatten(1, 2), generator, scale=(0.85, 1.2))
        masks = flat.unflatten(1, masks.shape[1:3])
        outputs, present = self.carry(module.network, image, masks[:, 0], generator)
        masks = masks & present[:, None, :, None, None]
        begin, end = self.bootstrap
        share = hardest_share(progress, begin, end, self.hardest)
        entropy, dice = torch.zeros((), device=image.device), torch.zeros((), device=image.device)
        for t, (logits, probability) in enumerate(outputs, 1):
            entropy = entropy + bootstrapped_cross_entropy(logits, object_numbers(masks[:, t]), share)
            dice = dice + object_dice_loss(probability[:, 1:], masks[:, t], present)
        figures = {"cross_entropy": entropy.detach() / len(outputs), "dice": 1 - dice.detach() / len(outputs)}
        return entropy + dice, figures

    @torch.no_grad()
    def follow(self, network: Any, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Every clip (T, H, W) as in use (`Stream`), from the true masks of its first slice.

        Masks of every object, bool (N, T, H, W): predicted ones, and the true ones.
        """
        guesses, truths = [], []
        for clip, objects in zip(image, split_objects(labels, self.objects), strict=True):
            present = objects[0].flatten(1).any(1)
            objects = objects[:, present if bool(present.any()) else slice(0, 1)]
            stream, numbers = Stream(network, self.memory_every), []
            for t, grey in enumerate(clip):
                mask = objects[0].float() if t == 0 else None
                numbers.append(stream.step(grey[None], mask, end=t + 1 == len(clip)).argmax(0))
            ids = torch.arange(1, objects.shape[1] + 1, device=clip.device)
            guesses.append((torch.stack(numbers)[:, None] == ids[None, :, None, None]).transpose(0, 1))
            truths.append(objects.transpose(0, 1))
        return torch.cat(guesses), torch.cat(truths)


def largest_skip(progress: float, skips: Sequence[Sequence[float]] = SKIPS) -> int:
    """Largest gap at `progress` (0 to 1) of the training: the last entry (from, gap) that has begun."""
    return int([gap for begin, gap in skips if begin <= progress][-1])


def draw_frames(length: int, frames: int, skip: int, generator: torch.Generator) -> list[int]:
    """Strictly increasing or decreasing positions of `frames` slices out of `length`: neighbours are 1 to `skip` apart.

    Where the clip is too short for such gaps they shrink; a clip of `length` <= `frames` is taken whole.
    """
    if length <= frames:
        picks = list(range(length))
    else:
        most = min(skip, (length - 1) // (frames - 1))
        gaps = torch.randint(1, most + 1, (frames - 1,), generator=generator)
        start = int(torch.randint(0, length - int(gaps.sum()), (1,), generator=generator))
        picks = [start, *(start + gaps.cumsum(0)).tolist()]
    return picks[::-1] if float(torch.rand((), generator=generator)) < 0.5 else picks


def split_objects(labels: Tensor, most: int, generator: torch.Generator | None = None) -> Tensor:
    """Object masks of label clips: objects that the first slice shows, at most `most` of each clip.

    Labels uint8 (B, T, H, W), 0 background, have the same number for an object on all slices. Among more objects the
    generator draws; without one those with the lowest numbers are taken. bool (B, T, O, H, W), O the largest number of
    objects of a clip, at least 1; the spare ones are empty.
    """
    chosen = []
    for clip in labels:
        ids = clip[0].unique()
        ids = ids[ids > 0]
        if generator is not None and len(ids) > 1:
            ids = ids[torch.randperm(len(ids), generator=generator).to(ids.device)]
        chosen.append(ids[:most])
    count = max(1, *(len(ids) for ids in chosen))
    masks = torch.zeros((*labels.shape[:2], count, *labels.shape[2:]), dtype=torch.bool, device=labels.device)
    for b, ids in enumerate(chosen):
        for o, number in enumerate(ids):
            masks[b, :, o] = labels[b] == number
    return masks


def draw_references(step: int, most: int, batch: int, generator: torch.Generator) -> Tensor:
    """Which of the slices 0 .. step-1 each clip of a batch reads: all while they are few, else the first and others.

    int64 (batch, n), n at most `most`; the first column is 0 unless all are read.
    """
    if step <= most:
        return torch.arange(step).expand(batch, -1)
    rows = [torch.randperm(step - 1, generator=generator)[: most - 1] + 1 for _ in range(batch)]
    return torch.cat([torch.zeros(batch, 1, dtype=torch.int64), torch.stack(rows)], 1)
