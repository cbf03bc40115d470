"""SlicePredictor: prompts on one slice to its mask, in a window at the object's own scale.

The window is a second look, never an eraser: outside of it the mask so far stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limnet.image.slice_view import SliceView
from limnet.image.slices import Slice, SliceMask, depth_inside, is_empty, unpack
from limnet.interaction.prompt_maps import guidance_maps
from limnet.interaction.window import (
    Window,
    WindowEncoder,
    join,
    mask_box,
    window_around,
    window_of_side,
    window_size,
)
from limnet.prompts import Prompt2D

FIRST_SCALES = (1.0, 0.7, 0.5, 0.35, 0.25)  # windows of a first click, as shares of the slice's longer side
FINEST = 0.9  # slice pixels per network pixel: windows that magnify the slice show nothing new and see less around
_CLEAR = 1.0  # contrast at its border, in standard deviations, from which on an answer counts in full
_FAINT = 0.25  # contrast below which an answer has no border of an object in sight
_LOOKS = 3  # looks at a slice in one prediction, the first one included
CLOSE = 0.2  # of the object's width on a slice: so close to it the object has not ended
CRUMB = 0.4  # of the area taken away: a smaller rest without a positive prompt is a crumb
MOST = 0.4  # of a piece: a click off its middle may take away so much and no more from beyond its own side
MIDDLE = 0.65  # of the piece's greatest depth: a click less deep is off its middle


def agreement(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Dice of two answers, bool of one shape; 0 when both are empty, as two answers without object confirm nothing."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2.0 * np.count_nonzero(a & b) / total if total else 0.0


@dataclass(frozen=True, eq=False)
class Neighbour:
    """The nearest other prompted slice that holds the object, (H, W) bool, as seen from a slice.

    `surely` the object lies on the slice that is seen from, too: there are such slices on both sides of it, or the
    nearest one is closer than `CLOSE` of the width of its mask (the root of its area).
    """

    mask: NDArray[np.bool_]
    surely: bool = False


def neighbour(
    view: SliceView, slices: Sequence[SliceMask | None], prompted: Iterable[int], index: int
) -> Neighbour | None:
    """What the nearest other `prompted` slice tells about slice `index`; None if no other one holds the object."""
    held = [i for i in prompted if i != index and not is_empty(slices[i])]
    if not held:
        return None
    nearest = min(held, key=lambda i: abs(i - index))
    mask = unpack(slices[nearest], view.shape) > 0.5
    width = math.sqrt(np.count_nonzero(mask) * math.prod(view.spacing))
    surely = min(held) < index < max(held) or abs(nearest - index) * view.gap < CLOSE * width
    return Neighbour(mask, surely)


class SlicePredictor:
    """The interaction network at work.

    The encoder runs one with `encode_image`, `decode`, `prompt_channels` and `click_radius` on inputs of
    its `window_size`.
    """

    def __init__(self, encoder: WindowEncoder):
        self.encoder, network = encoder, encoder.source
        self.size = window_size(network)
        self.channels: tuple[str, ...] = tuple(network.prompt_channels)  # type: ignore[arg-type]
        self.click_radius = float(network.click_radius)  # type: ignore[arg-type]

    def predict(
        self,
        view: SliceView,
        index: int,
        prompts: Sequence[Prompt2D],
        previous: Slice | None,
        nearest: Neighbour | None = None,
    ) -> Slice:
        """Probabilities (H, W) float32 of one slice.

        Args:
            view: volume along the case's axis.
            index: slice.
            prompts: all prompts of this slice, oldest first.
            previous: (H, W) probabilities so far, None for none.
            nearest: the nearest other prompted slice that holds the object. Its mask tells the scale to look at where
                there is no mask so far; whether the object surely lies here, too, decides what a negative click may
                take away.
        """
        shape, spacing = view.shape, view.spacing
        base = np.zeros(shape, np.float32) if previous is None else previous
        old = None if previous is None else mask_box(previous > 0.5)
        marked = _prompt_box(prompts, shape)
        boxed = any(p.kind in ("box", "lasso") and p.positive for p in prompts)
        if old is None and not boxed and marked is not None:
            known = None if nearest is None else mask_box(nearest.mask)
            if known is None:
                window, logits = self._first_look(view, index, prompts, marked)
            else:  # a window that would suit the object as another slice shows it, around what is marked
                suited = window_around(known, shape, spacing, self.size)
                centre, least = _place(marked, spacing)
                side = max(suited.height * spacing[0], suited.width * spacing[1], least)
                window = window_of_side(side, centre, shape, spacing, self.size)
                logits = self._look(view, index, [window], prompts, None)
        else:
            focus = join(old, marked) or (0, shape[0], 0, shape[1])
            window = window_around(focus, shape, spacing, self.size)
            logits = self._look(view, index, [window], prompts, previous)
        result = window.paste(logits, base)
        for _ in range(_LOOKS - 1):
            found = join(mask_box(result > 0.5), marked)
            if found is None:
                break
            closer = window_around(found, shape, spacing, self.size)
            if closer == window or _similar(closer, window, found):
                break
            window = closer
            result = window.paste(self._look(view, index, [window], prompts, result), result)
        if previous is None:
            return result
        return settle_negative_click(previous, result, prompts, nearest is not None and nearest.surely)

    def prepare(self, view: SliceView, index: int, box: tuple[int, int, int, int] | None) -> None:
        """Compute the features that `predict` needs for a click within the box of the mask so far."""
        if box is not None:
            self.encoder.features(view, index, window_around(box, view.shape, view.spacing, self.size))

    def looks(self, view: SliceView, index: int, prompts: Sequence[Prompt2D], previous: Slice | None) -> list[Slice]:
        """What single looks at all scales show, where `predict` settles for one answer; arguments as there.

        (H, W) float32 probabilities each, those of the widest look first; none without marked pixels.
        """
        marked = _prompt_box(prompts, view.shape)
        if marked is None:
            return []
        base = np.zeros(view.shape, np.float32) if previous is None else previous
        windows = self._scales(view, marked)
        answers = self._look(view, index, windows, prompts, previous)
        return [window.paste(logits, base) for window, logits in zip(windows, answers.split(1), strict=True)]

    def _scales(self, view: SliceView, marked: tuple[int, int, int, int]) -> list[Window]:
        """Windows around what is marked, of `FIRST_SCALES`."""
        shape, spacing = view.shape, view.spacing
        longest = max(shape[0] * spacing[0], shape[1] * spacing[1])
        centre, least = _place(marked, spacing)
        sides = [max(scale * longest, least) for scale in FIRST_SCALES]
        windows = list(dict.fromkeys(window_of_side(side, centre, shape, spacing, self.size) for side in sides))
        return windows[:1] + [w for w in windows[1:] if max(w.height, w.width) >= FINEST * w.size]

    def _look(
        self,
        view: SliceView,
        index: int,
        windows: Sequence[Window],
        prompts: Sequence[Prompt2D],
        previous: Slice | None,
        pixels: Tensor | None = None,
    ) -> Tensor:
        """Logits (n, 1, size, size) of n windows (`pixels`, if known), computed as one batch."""
        size = (self.size, self.size)
        drawn = [guidance_maps(prompts, size, self.channels, self.click_radius, w.points) for w in windows]
        maps = torch.from_numpy(np.stack(drawn))
        if previous is not None:
            shown = torch.cat([window.crop(previous, edge=False) for window in windows])
            maps[:, self.channels.index("previous")] = shown[:, 0]
        features = self.encoder.features(view, index, *windows, pixels=pixels)
        with self.encoder.running():
            logits: Tensor = self.encoder.network.decode(features, maps.to(self.encoder.device))["instances"]  # type: ignore[operator]
        return logits.float()

    def _first_look(
        self, view: SliceView, index: int, prompts: Sequence[Prompt2D], marked: tuple[int, int, int, int]
    ) -> tuple[Window, Tensor]:
        """Choose the scale of an object nothing is known of: the window the others agree with most.

        Answers without contrast at their border count less: windows that lie inside a large object see nothing but its
        tissue, and agree on a dot around the click. A click at the border of the slice is easily answered by such a
        dot, too: where no contrast is found, windows that reach over the border are looked through as well.
        """
        windows = self._scales(view, marked)
        contrast, window, logits = self._best_look(view, index, prompts, windows)
        beyond = [moved for w in windows if (moved := w.moved_around(marked)) != w]
        if contrast < _FAINT and beyond:
            other = self._best_look(view, index, prompts, beyond)
            if other[0] > contrast:
                return other[1], other[2]
        return window, logits

    def _best_look(
        self, view: SliceView, index: int, prompts: Sequence[Prompt2D], windows: Sequence[Window]
    ) -> tuple[float, Window, Tensor]:
        """Contrast (0 to 1), window and logits of the answer that counts most among those of several windows."""
        nothing = np.zeros(view.shape, np.float32)
        pixels = self.encoder.image(view, index, *windows)
        answers = self._look(view, index, windows, prompts, None, pixels)
        masks = [window.paste(logits, nothing) > 0.5 for window, logits in zip(windows, answers.split(1), strict=True)]
        support = [sum(agreement(mask, other) for other in masks) for mask in masks]
        weight = np.minimum(1.0, _contrast(pixels, answers) / _CLEAR)
        best = int(np.argmax(np.multiply(support, weight)))
        return float(weight[best]), windows[best], answers[best : best + 1]


def _place(marked: tuple[int, int, int, int], spacing: Sequence[float]) -> tuple[tuple[float, float], float]:
    """Middle of what is marked (row, column), and the shortest side in millimetres of a window around it."""
    centre = ((marked[0] + marked[1]) / 2, (marked[2] + marked[3]) / 2)
    return centre, 2.0 * max(marked[1] - marked[0], marked[3] - marked[2]) * max(spacing)


def _contrast(images: Tensor, logits: Tensor) -> NDArray[np.float64]:
    """Difference of brightness between both sides of a mask's border, in standard deviations; 0 for an empty mask.

    Images (n, C, size, size) in [0, 1] and logits (n, 1, size, size) -> (n,).
    """
    reach = max(1, images.shape[-1] // 40)
    masks = (logits[:, 0] > 0).cpu().numpy()
    grays = images.float().mean(1).cpu().numpy()
    result = np.zeros(len(masks))
    for i, (gray, mask) in enumerate(zip(grays, masks, strict=True)):
        outside, inside = gray[_grown(mask, reach) & ~mask], gray[_grown(~mask, reach) & mask]
        if len(outside) and len(inside):
            result[i] = abs(inside.mean() - outside.mean()) / (inside.std() + outside.std() + 0.02)
    return result


def _grown(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Pixels (H, W) at most `reach` rows and columns from those of a mask."""
    from scipy.ndimage import maximum_filter

    return np.asarray(maximum_filter(mask, 2 * reach + 1, mode="constant"))


def _similar(closer: Window, window: Window, focus: tuple[int, int, int, int]) -> bool:
    return window.holds(focus, 0.08) and 0.7 < closer.height / window.height < 1.3


def _prompt_box(prompts: Sequence[Prompt2D], shape: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Pixel box around everything the user marked on the slice."""
    boxes = []
    for prompt in prompts:
        if prompt.mask is not None:
            boxes.append(mask_box(prompt.mask.array()))
        elif len(prompt.points):
            low, high = np.floor(np.min(prompt.points, 0)), np.ceil(np.max(prompt.points, 0))
            boxes.append((int(low[0]), int(high[0]) + 1, int(low[1]), int(high[1]) + 1))
    box = join(*boxes)
    if box is None:
        return None
    return max(box[0], 0), min(box[1], shape[0]), max(box[2], 0), min(box[3], shape[1])


# negative clicks


def settle_negative_click(before: Slice, after: Slice, prompts: Sequence[Prompt2D], surely: bool = False) -> Slice:
    """Correct the answer `after` a negative click, the last of the prompts: what it may take away from `before`.

    Both are (H, W) probabilities; the answer comes back as it is where there is nothing to correct. People click in the
    middle of what is wrong. A click deep inside a mask therefore means that all of it is wrong, and no crumbs of it
    should stay; a click off its middle means that a part is wrong, and the rest should not go with it. Where the object
    is known to lie on this slice (`surely`), every click means a part. Other large pieces of the slice's mask stay
    whatever the network says.
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
    before: Slice,
    after: Slice,
    click: tuple[int, int],
    wanted: list[tuple[int, int]],
    surely: bool,
) -> Slice:
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
    depth = depth_inside(piece)
    part = surely or depth[click] < MIDDLE * depth.max()
    if part and not any(piece[w] for w in wanted):
        large = taken.sum() > MOST * piece.sum()
        return _keep_far_part(before, after, piece, click, depth) if large else after
    return _without_crumbs(after, piece, int(taken.sum()), wanted)


def _keep_far_part(
    before: Slice,
    after: Slice,
    piece: NDArray[np.bool_],
    click: tuple[int, int],
    depth: NDArray[np.float64],
) -> Slice:
    """Take away only what lies nearer to the click than to the middle of the piece."""
    middle = np.unravel_index(int(depth.argmax()), depth.shape)
    rows, columns = np.indices(piece.shape)
    near = (rows - click[0]) ** 2 + (columns - click[1]) ** 2 <= (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2
    result = after.copy()
    result[piece & ~near] = np.maximum(after, before)[piece & ~near]
    result[piece & near] = np.minimum(after, 0.5)[piece & near]
    return result


def _without_crumbs(after: Slice, piece: NDArray[np.bool_], taken: int, wanted: list[tuple[int, int]]) -> Slice:
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
