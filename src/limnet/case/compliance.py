"""What a user has marked holds: the last step after every prediction on a prompted slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limnet.interaction.raster import grow, prompt_pixels
from limnet.prompts import Prompt2D


def enforce(probability: NDArray[np.float32], prompts: Sequence[Prompt2D], radius: int = 2) -> NDArray[np.float32]:
    """Make a predicted slice obey its prompts.

    Clicked and scribbled pixels get their label; where two prompts disagree on a pixel the later one holds. Where the
    network did not obey, a small disc around the pixel follows too, never over pixels marked otherwise. A negative
    lasso empties its region. Outside the last box or positive lasso there is no object, unless something outside it was
    marked as object.

    Args:
        probability: (H, W) float32 in [0, 1], as predicted.
        prompts: Prompts of this slice in the order they were given.
        radius: Radius in pixels of the disc.

    Returns:
        (H, W) float32, a new array. Pixels are object where it is > 0.5.
    """
    shape = (int(probability.shape[0]), int(probability.shape[1]))
    wanted = np.zeros(shape, dtype=np.int8)
    lines = np.zeros(shape, dtype=bool)
    region: NDArray[np.bool_] | None = None
    for prompt in prompts:
        pixels = prompt_pixels(prompt, shape)
        if prompt.kind in ("click", "scribble"):
            wanted[pixels] = 1 if prompt.positive else -1
            lines |= pixels
        elif prompt.kind == "lasso" and not prompt.positive:
            wanted[pixels] = -1
        elif prompt.kind in ("box", "lasso"):
            region = pixels
    result = probability.copy()
    if region is not None and not (wanted[~region] == 1).any():
        result[~region] = 0.0
    missed = lines & (wanted == 1) & ~(result > 0.5)
    wrong = lines & (wanted == -1) & (result > 0.5)
    result[grow(missed, radius) & (wanted != -1)] = 1.0
    result[grow(wrong, radius) & (wanted != 1)] = 0.0
    result[(wanted == 1) & ~(result > 0.5)] = 1.0
    result[(wanted == -1) & (result > 0.5)] = 0.0
    return result
