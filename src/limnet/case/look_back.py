"""Looking back: a slice with one click beside the newest prompt is answered anew, from what the newest prompt says.

One click often says too little, and the answer to it stays in memory for all rounds to come. The next prompt on a slice
near by tells more of what was meant: its mask, carried to the older slice, is the start from which that slice's own
click is answered a second time. The answer counts only where both networks agree on it.
"""

from __future__ import annotations

from collections.abc import Mapping

from limnet.case.engine import Engine, Slice
from limnet.image.slice_view import SliceView
from limnet.interaction.agreement import agreement
from limnet.prompts import Prompt2D

AGREE = 0.8  # Dice of the carried mask and the second answer from which on the answer counts


def look_back(
    engine: Engine,
    view: SliceView,
    masks: Mapping[int, Slice],
    prompts: Mapping[int, tuple[Prompt2D, ...]],
    newest: int,
    farthest: int,
) -> dict[int, Slice]:
    """Second answers to the clicks of the prompted slices on both sides of the newest one.

    Slices on which the user did more than to click once (a second click, a scribble, a mask) are as she wants them and
    are never looked at, nor are slices without the object.

    Args:
        engine: the networks.
        view: volume along the case's axis, with the object's intensity window.
        masks: all prompted slices with their (H, W) float32 probabilities.
        prompts: prompts of those that may be answered anew.
        newest: slice prompted last; without the object on it there is nothing to look back with.
        farthest: slices between the newest prompt and one to look at, at most.

    Returns:
        Slice to its new (H, W) float32 probabilities, for those where both networks agree.
    """
    found: dict[int, Slice] = {}
    if not (masks[newest] > 0.5).any():
        return found
    for direction in (-1, 1):
        ahead = [index for index in masks if (index - newest) * direction > 0]
        index = min(ahead, key=lambda i: abs(i - newest), default=newest)
        if not 0 < abs(index - newest) <= farthest or not (masks[index] > 0.5).any():
            continue
        told = list(prompts.get(index, ()))
        if len(told) != 1 or told[0].kind != "click":
            continue
        others = {i: mask for i, mask in masks.items() if i != index}
        carried = engine.propagator.carry(view, others, newest, index)
        if carried is None or not (carried > 0.5).any():
            continue
        answer = engine.predictor.predict(view, index, told, carried)
        if agreement(answer > 0.5, carried > 0.5) >= AGREE:
            found[index] = answer
    return found
