"""What a negative click may take away, beyond what the network says.

People click in the middle of what is wrong. A click deep inside a mask therefore means that all of it is wrong, and no
crumbs of it should stay; a click off its middle means that a part is wrong, and the rest should not go with it. Where
prompted slices say that the object lies on this slice, too, every click means a part. Other large pieces of the slice's
mask stay whatever the network says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limnet.interaction.window import mask_box
from limnet.prompts import Prompt2D

CRUMB = 0.4  # of the area taken away: a smaller rest without a positive prompt is a crumb
MOST = 0.4  # of a piece: a click off its middle may take away so much and no more from beyond its own side
MIDDLE = 0.65  # of the piece's greatest depth: a click less deep is off its middle


def settle_negative_click(
    before: NDArray[np.float32], after: NDArray[np.float32], prompts: Sequence[Prompt2D], surely: bool = False
) -> NDArray[np.float32]:
    """Correct the network's answer to a negative click.

    Args:
        before: (H, W) probabilities before the click.
        after: (H, W) probabilities the network gave.
        prompts: prompts of the slice, oldest first; only a last one that is a negative click matters.
        surely: the object is known to lie on this slice: what is far from the click stays, wherever in it the click is.

    Returns:
        (H, W) probabilities; `after` itself when there is nothing to correct.
    """
    last = prompts[-1] if prompts else None
    if last is None or last.kind != "click" or last.positive or not before[last.points[0]] > 0.5:
        return after
    box = mask_box(before > 0.5)
    assert box is not None  # it holds the click
    part, corner = (slice(box[0], box[1]), slice(box[2], box[3])), (box[0], box[2])
    wanted = [p.points[0] for p in prompts if p.kind == "click" and p.positive]
    inside = [(y - corner[0], x - corner[1]) for y, x in wanted if box[0] <= y < box[1] and box[2] <= x < box[3]]
    click = last.points[0][0] - corner[0], last.points[0][1] - corner[1]
    settled = _settled(before[part], after[part], click, inside, surely)
    if np.array_equal(settled, after[part]):
        return after
    result = after.copy()
    result[part] = settled
    return result


def _settled(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    click: tuple[int, int],
    wanted: list[tuple[int, int]],
    surely: bool,
) -> NDArray[np.float32]:
    """`settle_negative_click` on the part of the slice that held the mask: the click, and the positive ones there."""
    from scipy import ndimage

    pieces, _ = ndimage.label(before > 0.5, np.ones((3, 3)))
    piece = pieces == pieces[click]
    sizes = np.bincount(pieces.ravel())
    others = (sizes >= CRUMB * sizes[pieces[click]])[pieces] & (pieces > 0) & ~piece
    if (after[others] <= 0.5).any():  # nobody pointed at them
        after = after.copy()
        after[others] = np.maximum(after, before)[others]
    taken = piece & ~(after > 0.5)
    depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
    part = surely or depth[click] < MIDDLE * depth.max()
    if part and not any(piece[w] for w in wanted):
        large = taken.sum() > MOST * piece.sum()
        return _keep_far_part(before, after, piece, click, depth) if large else after
    return _without_crumbs(after, piece, int(taken.sum()), wanted)


def _keep_far_part(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    piece: NDArray[np.bool_],
    click: tuple[int, int],
    depth: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Take away only what lies nearer to the click than to the middle of the piece."""
    middle = np.unravel_index(int(depth.argmax()), depth.shape)
    rows, columns = np.indices(piece.shape)
    near = (rows - click[0]) ** 2 + (columns - click[1]) ** 2 <= (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2
    result = after.copy()
    result[piece & ~near] = np.maximum(after, before)[piece & ~near]
    result[piece & near] = np.minimum(after, 0.5)[piece & near]
    return result


def _without_crumbs(
    after: NDArray[np.float32], piece: NDArray[np.bool_], taken: int, wanted: list[tuple[int, int]]
) -> NDArray[np.float32]:
    """Drop what is left of the clicked piece where it is small beside what went."""
    from scipy import ndimage

    rests, number = ndimage.label((after > 0.5) & piece, np.ones((3, 3)))
    result = after
    for rest in range(1, number + 1):
        region = rests == rest
        if region.sum() < CRUMB * taken and not any(region[w] for w in wanted):
            if result is after:
                result = after.copy()
            result[region] = 0.0
    return result
