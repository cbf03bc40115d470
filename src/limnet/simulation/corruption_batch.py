"""Defective masks for a batch in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from limnet.errors import InputError
from limnet.simulation.corruption import PAPER, corrupt


def corrupt_batch(
    target: Tensor,
    generator: torch.Generator,
    probabilities: Mapping[str, float] | Sequence[float] = PAPER,
    literal: bool = False,
) -> Tensor:
    """One defective mask for every sample of a batch.

    Args:
        target: bool (B, 1, H, W), any device; non-zero is the object.
        generator: of the CPU; exactly B numbers are drawn from it, whatever the masks are.
        probabilities: of the six kinds, see `draw_corruption`.
        literal: see `draw_corruption`.

    Returns:
        float32 (B, 1, H, W) of 0 and 1 on the device of `target`. Empty and full masks come back as they are.

    Raises:
        InputError: a batch of another shape, or bad probabilities.
    """
    if target.ndim != 4 or target.shape[1] != 1:
        raise InputError(f"target has shape {tuple(target.shape)}; give (B, 1, H, W)")
    seeds = torch.randint(0, 2**62, (len(target),), generator=generator).tolist()
    masks = target.detach().cpu().numpy()[:, 0] != 0
    result = np.empty(masks.shape, np.float32)
    for i, (mask, seed) in enumerate(zip(masks, seeds, strict=True)):
        result[i] = corrupt(mask, seed, probabilities, literal)[0] if mask.any() and not mask.all() else mask
    return torch.from_numpy(result[:, None]).to(target.device)
