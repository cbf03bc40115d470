"""Learning: some dozens of steps on the prompt half of the click network, which then answers without a click.

The image half stays as it is, so that its cached features serve every object; what is learned is a few megabytes.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from limnet.blocks.fingerprint import fingerprint
from limnet.errors import Cancelled, InputError
from limnet.interaction.features import use_bf16, window_size
from limnet.learning.adapter import Adapter, checked_name, unprompted
from limnet.learning.samples import Example, draw_batch

MOST_CASES = 20
_BATCH = 8
_FIRST, _MORE, _MOST = 80, 40, 320  # steps of one case, of each further one, and in all
_RATE = 3e-4
_WARM_UP = 10
_CHECKED = 24  # windows on which the fit is measured
_POOR = 0.5  # fit below which cases probably contradict each other


def steps_for(cases: int) -> int:
    """Training steps for a number of cases."""
    return min(_FIRST + _MORE * (cases - 1), _MOST)


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
        UserWarning: if the cases seem to contradict each other.
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
    pupil = copy.deepcopy(network).to(device).eval()
    for weight in pupil.parameters():
        weight.requires_grad_(False)
    half = pupil.decoder
    assert isinstance(half, nn.Module)
    for weight in half.parameters():
        weight.requires_grad_(True)
    bf16 = use_bf16(precision, torch.device(device))
    size = window_size(network)
    optimizer = torch.optim.AdamW(half.parameters(), lr=_RATE, weight_decay=0.01)
    rng = np.random.default_rng(0)
    total = steps_for(len(examples))
    for step in range(total):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, (step + 1) / _WARM_UP) * (1 - step / total)
        image, mask = (t.to(device) for t in draw_batch(examples, _BATCH, size, rng))
        with torch.enable_grad():
            loss = _loss(_logits(pupil, image, bf16), mask)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(half.parameters(), 1.0)
        optimizer.step()
        if progress is not None and progress(step + 1, total) is False:
            raise Cancelled("learning was cancelled by the progress callback; nothing was written")
    fit = _fit(pupil, examples, size, bf16, torch.device(device))
    if fit < _POOR:
        warnings.warn(
            f"{name!r} fits its own cases with a Dice of {fit:.2f} only: do they show the same structure, all of it? "
            "Proposals will be poor",
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


def _logits(network: nn.Module, image: Tensor, bf16: bool) -> Tensor:
    channels = int(getattr(network, "image_channels", 1))
    with torch.autocast(image.device.type, torch.bfloat16, enabled=bf16):
        with torch.no_grad():
            features = network.encode_image(image.expand(-1, channels, -1, -1))  # type: ignore[operator]
        return unprompted(network, features, image.shape[-1]).float()


def _loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Twice the cross entropy and one minus the soft Dice, which counts 50 pixels more for small and empty masks."""
    p = logits.sigmoid()
    dice = (2 * (p * mask).sum((1, 2, 3)) + 50) / (p.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 50)
    return 2 * functional.binary_cross_entropy_with_logits(logits, mask) + 1 - dice.mean()


@torch.no_grad()
def _fit(network: nn.Module, examples: Sequence[Example], size: int, bf16: bool, device: torch.device) -> float:
    image, mask = (t.to(device) for t in draw_batch(examples, _CHECKED, size, np.random.default_rng(1)))
    found = (_logits(network, image, bf16) > 0).float()
    both = (found * mask).sum((1, 2, 3))
    dice = (2 * both + 1) / (found.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 1)
    return float(dice[mask.any(-1).any(-1).any(-1)].mean())
