"""Learning: some hundred steps on the prompt half of the click network, which then answers without a click.

The image half stays as it is, so that its cached features serve every object; what is learned is a few megabytes.
"""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from limnet.errors import Cancelled, InputError
from limnet.image.slice_view import SliceView
from limnet.interaction.window import SHARE, Window, fingerprint, mask_box, use_bf16, window_size
from limnet.learning.adapter import Adapter, checked_name, unprompted
from limnet.learning.muon import MuonAdam

_WITHOUT = 0.25  # share of slices beyond the object's ends: a proposal has to end, too
_BEYOND = 8  # that many slices beyond an end count as near it
_ONE_PIECE = 0.9  # share of the voxels in the largest component from which on an object counts as one piece


@dataclass(frozen=True)
class Example:
    """A finished case: its volume along the axis in the object's intensity window, and the mask (slices, H, W)."""

    view: SliceView
    mask: NDArray[np.bool_]
    modality: str | None

    def __post_init__(self) -> None:
        if not self.mask.any():
            raise InputError("a case without a mask teaches nothing: give cases whose object is marked")

    @property
    def side(self) -> float:
        """Side in mm of a window that shows the whole object at its scale."""
        box = mask_box(np.asarray(self.mask.any(axis=0)))
        assert box is not None
        rows, columns = self.view.spacing
        return max((box[1] - box[0]) * rows, (box[3] - box[2]) * columns) / SHARE

    @property
    def single(self) -> bool:
        """Whether the object is one piece, but for crumbs."""
        labels, _ = ndimage.label(self.mask, np.ones((3, 3, 3)))
        sizes = np.bincount(labels.ravel())[1:]
        return bool(sizes.max() >= _ONE_PIECE * sizes.sum())


def draw_batch(examples: Sequence[Example], count: int, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Windows of slices with and without the object.

    Their side lies between the object's scale and the whole slice (a proposal looks from wide to near); place,
    brightness, contrast and gamma vary, for the next patient differs in them. Nothing is mirrored: left and
    right may matter.

    Returns:
        Images (B, 1, size, size) in [0, 1] and masks (B, 1, size, size), 0 or 1, float32.
    """
    drawn = [_draw(examples[int(rng.integers(len(examples)))], size, rng) for _ in range(count)]
    images, masks = zip(*drawn, strict=True)
    return torch.cat(images), torch.cat(masks)


def _draw(example: Example, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    view, mask = example.view, example.mask
    holding = np.flatnonzero(mask.any((1, 2)))
    if rng.random() < _WITHOUT:
        first, end = max(int(holding[0]) - _BEYOND, 0), min(int(holding[-1]) + _BEYOND + 1, len(view))
        index = int(rng.integers(first, end))
    else:
        index = int(rng.choice(holding))
    low, high = view.window
    width = high - low
    view = view.with_window((low + width * rng.normal(0, 0.05), high + width * rng.normal(0, 0.08)))
    box = mask_box(mask[index]) or mask_box(np.asarray(mask.any(axis=0)))
    assert box is not None
    window = _window(box, view.shape, view.spacing, size, rng)
    image = window.crop(view.gray(index)).clamp(1e-4, 1.0) ** float(np.exp(rng.normal(0, 0.2)))
    image = image + float(rng.normal(0, 0.02))
    return image.clamp(0.0, 1.0), (window.crop(mask[index].astype(np.float32), edge=False) > 0.5).float()


def _window(
    box: tuple[int, int, int, int],
    shape: tuple[int, int],
    spacing: tuple[float, float],
    size: int,
    rng: np.random.Generator,
) -> Window:
    longest = max(shape[0] * spacing[0], shape[1] * spacing[1])
    near = max((box[1] - box[0]) * spacing[0], (box[3] - box[2]) * spacing[1]) / SHARE
    side = float(np.exp(rng.uniform(np.log(min(0.8 * near, longest)), np.log(longest))))
    centre = ((box[0] + box[1]) / 2, (box[2] + box[3]) / 2)
    extent = [max(4, round(side / step)) for step in spacing]
    corner = [round(c + rng.normal(0, 0.12) * n - n / 2) for c, n in zip(centre, extent, strict=True)]
    return Window(corner[0], corner[1], extent[0], extent[1], size)


MOST_CASES = 20
_BATCH = 8
_RATE = 2e-3  # of Muon; 1e-3 learned less in as many steps, 4e-3 no more (docs/training-log.md)
_WARM_UP = 10
_AVERAGED = 20  # steps over which weights are averaged: single ones swing at this rate
_MOST = 320  # steps; a minute on two cores
_ALONE = 60  # steps of a single case, which no other one can tell when to stop
_EVERY, _PATIENCE = 20, 60  # steps between looks at cases held out, and without a better one until learning ends
_HELD_OUT = 4  # every fourth case is held out, at least one
_CHECKED = 48  # windows on which the fit is measured
_POOR = 0.5  # fit below which cases contradict each other, or differ too much


def learn(
    network: nn.Module,
    examples: Sequence[Example],
    name: str,
    *,
    device: torch.device | str = "cpu",
    precision: str = "auto",
    progress: Callable[[int, int], object] | None = None,
) -> Adapter:
    """Learn a task from finished cases; the network itself is not changed.

    How long to learn differs: structures that look alike in everybody gain for hundreds of steps, those that do not are
    learned by heart after some dozen. So some cases are held out first, to see when what the others teach stops to help
    them; then all are learned for so many steps. A single case is learned for a few.

    Args:
        network: Click network with `encode_image`, `decode` and a `decoder` (`TinyInteraction`).
        examples: 1 to 20 finished cases of one task.
        name: Name of the task.
        device: Where to compute.
        precision: "fp32", "bf16" or "auto".
        progress: Told (done, total) steps; returning False cancels.

    Raises:
        InputError: for no or too many cases, modalities that differ, or a network that cannot learn this way.
        Cancelled: if `progress` returned False.

    Warns:
        UserWarning: if the cases seem to contradict each other, or differ too much.
    """
    checked_name(name)
    if not 1 <= len(examples) <= MOST_CASES:
        raise InputError(f"{len(examples)} cases came: give 1 to {MOST_CASES} finished ones")
    modalities = {example.modality for example in examples}
    if len(modalities - {None}) > 1:
        raise InputError(
            f"the cases are of several modalities ({', '.join(sorted(m for m in modalities if m))}): "
            "learn one task for each"
        )
    if not isinstance(getattr(network, "decoder", None), nn.Module) or not hasattr(network, "decode"):
        raise InputError(f"{type(network).__name__} has no prompt half of its own: learning works with limnet-tiny")
    place, size = torch.device(device), window_size(network)
    pupil = copy.deepcopy(network).to(place).eval().requires_grad_(False)
    bf16 = use_bf16(precision, place)

    def tell(done: int) -> None:
        if progress is not None and progress(done, 2 * _MOST) is False:
            raise Cancelled("learning was cancelled by the progress callback; nothing was written")

    best, steps = 0.0, min(_ALONE, _MOST)
    if len(examples) > 1:
        held, steps = len(examples) // _HELD_OUT or 1, 0
        for step, half in enumerate(_lessons(pupil, examples[:-held], size, bf16), 1):
            tell(step)
            if step % _EVERY == 0 or step == _MOST:
                if (fit := _fit(pupil, half, examples[-held:], size, bf16)) > best:
                    best, steps = fit, step
                if step in (steps + _PATIENCE, _MOST):
                    break
    tell(_MOST)
    lessons = _lessons(pupil, examples, size, bf16)
    for step in range(1, steps + 1):
        half = next(lessons)
        tell(_MOST + step * _MOST // steps)
    fit = best if len(examples) > 1 else _fit(pupil, half, examples, size, bf16)
    if fit < _POOR:
        warnings.warn(
            f"what the cases teach of {name!r} fits {'those held out' if len(examples) > 1 else 'its own case'} with a "
            f"Dice of {fit:.2f} only: do they show the same structure, all of it? If it looks different in everybody, "
            "clicks alone may be better",
            stacklevel=3,
        )
    window = examples[0].view.window if modalities == {"CT"} else None
    return Adapter(
        name,
        fingerprint(network),
        len(examples),
        next(iter(modalities)) if len(modalities) == 1 else None,
        window,
        float(np.exp(np.mean([np.log(example.side) for example in examples]))),
        all(example.single for example in examples),
        fit,
        {key: value.detach().cpu() for key, value in half.state_dict().items()},
    )


def _lessons(network: nn.Module, examples: Sequence[Example], size: int, bf16: bool) -> Iterator[nn.Module]:
    """Train a copy of the network's prompt half; after every step its average over recent steps."""
    half = copy.deepcopy(network.decoder)
    assert isinstance(half, nn.Module)
    half.requires_grad_(True)
    average = copy.deepcopy(half).requires_grad_(False)
    place = next(half.parameters()).device
    optimizer = MuonAdam(half, lr=_RATE)
    rng = np.random.default_rng(0)
    for step in itertools.count(1):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, step / _WARM_UP)
        image, mask = (t.to(place) for t in draw_batch(examples, _BATCH, size, rng))
        with torch.enable_grad():
            loss = _loss(_logits(network, half, image, bf16), mask)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(half.parameters(), 1.0)
        optimizer.step()
        share = max(1 / _AVERAGED, 10 / (step + 9))
        for mean, value in zip(average.parameters(), half.parameters(), strict=True):
            mean.data.lerp_(value.data, share)
        yield average


def _logits(network: nn.Module, half: nn.Module, image: Tensor, bf16: bool) -> Tensor:
    channels = int(getattr(network, "image_channels", 1))
    with torch.autocast(image.device.type, torch.bfloat16, enabled=bf16):
        with torch.no_grad():
            features = network.encode_image(image.expand(-1, channels, -1, -1))  # type: ignore[operator]
        return unprompted(network, features, image.shape[-1], half).float()


def _loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Twice the cross entropy and one minus the soft Dice, which counts 50 pixels more for small and empty masks."""
    p = logits.sigmoid()
    dice = (2 * (p * mask).sum((1, 2, 3)) + 50) / (p.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 50)
    return 2 * functional.binary_cross_entropy_with_logits(logits, mask) + 1 - dice.mean()


@torch.no_grad()
def _fit(network: nn.Module, half: nn.Module, examples: Sequence[Example], size: int, bf16: bool) -> float:
    """Dice over windows of the examples, with and without the object, taken together."""
    place = next(half.parameters()).device
    image, mask = (t.to(place) for t in draw_batch(examples, _CHECKED, size, np.random.default_rng(1)))
    found = (_logits(network, half, image, bf16) > 0).float()
    return float((2 * (found * mask).sum() + 1) / (found.sum() + mask.sum() + 1))
