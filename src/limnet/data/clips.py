"""Clips: k neighbouring slices of one object, cut out in a window at the object's own scale.

The common currency of training: one slice trains the interaction network, several train propagation. A clip is drawn
from an image with its label map, or from a label map alone that gets a random appearance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from limnet.simulation.volumes import paint, smooth_noise

WHOLE_AREA, WHOLE_RATIO = (0.36, 1.0), 4 / 3  # of the crops of XMem's training on videos
SMALLEST, LARGEST = 5.0, 0.4  # extent of a pasted body: least pixels, largest share of the slice
MIN_PIXELS = 12  # a smaller cross-section is no target to train on
Box = tuple[tuple[int, int], ...]  # (first, one past the last) index along each axis


@dataclass(frozen=True)
class Source:
    """A labelled volume to draw clips from.

    Attributes:
        labels: int (D, H, W).
        spacing: mm along each axis.
        image: (D, H, W) raw intensities, or None for a label map that must be painted.
        modality: "ct", or anything else (percentile windows).
        weight: relative frequency with which it is drawn.
        axes: axes along which slices may be taken; one named twice is drawn twice as often.
        ids: labels that may be drawn (`with_ids`), equally often or by `odds`.
        boxes: where each of `ids` lies, if known: labels are then read there only.
        window: customary display window in units of `image`, used now and then.
        includes: label -> other labels that are part of its object.
    """

    labels: np.ndarray
    spacing: tuple[float, float, float]
    image: np.ndarray | None = None
    modality: str = "other"
    weight: float = 1.0
    axes: tuple[int, ...] = (0, 1, 2)
    name: str = ""
    ids: tuple[int, ...] = ()
    odds: tuple[float, ...] = ()
    boxes: Mapping[int, Box] = field(default_factory=dict)
    window: tuple[float, float] | None = None
    includes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def with_ids(self, smallest: int = 40) -> Source:
        """The same source with the list of ids that have at least `smallest` voxels."""
        ids, counts = np.unique(self.labels, return_counts=True)
        keep = tuple(int(i) for i, c in zip(ids, counts, strict=True) if i != 0 and c >= smallest)
        return replace(self, ids=keep)


def random_window(
    rng: np.random.Generator, source: Source, target: np.ndarray, image: np.ndarray
) -> tuple[float, float]:
    """Random display window (lo, hi) of a crop, as a reader or the automatic windowing might choose it."""
    inside = image[target] if target.any() else image
    if source.window is not None and rng.random() < 0.4:
        lo, hi = source.window
        width = hi - lo
        return lo + rng.normal(0, 0.06) * width, hi + rng.normal(0, 0.06) * width
    if source.modality == "ct":
        centre = float(np.median(inside))
        kind = rng.random()
        if kind < 0.6:  # a customary window for this tissue
            if centre < -350:
                lo, hi = -1000.0, 400.0
            elif centre > 350:
                lo, hi = -200.0, 1300.0
            else:
                lo, hi = -160.0, 240.0
            width = hi - lo
            return lo + rng.normal(0, 0.06) * width, hi + rng.normal(0, 0.06) * width
        if kind < 0.85:
            width = np.exp(rng.uniform(np.log(150), np.log(1500)))
            start = centre - width * rng.uniform(0.2, 0.8)
            return start, start + width
    low, high = np.percentile(image, [rng.uniform(0, 3), rng.uniform(97, 100)])
    spread = max(float(high - low), 1e-3)
    return float(low) - rng.uniform(-0.05, 0.15) * spread, float(high) + rng.uniform(-0.15, 0.25) * spread


def _place(source: Source, chosen: list[int], axis: int) -> tuple[slice, slice, slice]:
    """Box of the chosen labels with `axis` in front; the whole volume where it is not known."""
    order = (axis, *(i for i in range(3) if i != axis))
    boxes = [source.boxes.get(i, tuple((0, n) for n in source.labels.shape)) for i in chosen]
    first, second, third = (slice(min(b[i][0] for b in boxes), max(b[i][1] for b in boxes)) for i in order)
    return first, second, third


def _any_of(labels: np.ndarray, chosen: list[int]) -> np.ndarray:
    found = labels == chosen[0]
    for other in chosen[1:]:
        found |= labels == other
    return found


def resize_stack(stack: np.ndarray, size: int) -> np.ndarray:
    """Slices (T, H, W) resampled to float32 (T, size, size), averaged where they shrink."""
    import torch
    import torch.nn.functional as functional

    tensor = torch.from_numpy(np.ascontiguousarray(stack, np.float32))[:, None]
    return functional.interpolate(tensor, (size, size), mode="bilinear", antialias=True, align_corners=False)[
        :, 0
    ].numpy()


def whole_slice_crop(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Part of a slice (H, W) as XMem is trained on: .36 to 1 of its area, sides of 3:4 to 4:3, anywhere.

    The distribution is that of torchvision's `RandomResizedCrop`; where ten draws do not fit, the largest such part in
    the middle.
    """
    for _ in range(10):
        area, ratio = rng.uniform(*WHOLE_AREA) * shape[0] * shape[1], np.exp(rng.uniform(-1, 1) * np.log(WHOLE_RATIO))
        sides = round(np.sqrt(area / ratio)), round(np.sqrt(area * ratio))
        if all(0 < side <= limit for side, limit in zip(sides, shape, strict=True)):
            lows = [int(rng.integers(limit - side + 1)) for side, limit in zip(sides, shape, strict=True)]
            break
    else:
        sides = min(shape[0], round(shape[1] * WHOLE_RATIO)), min(shape[1], round(shape[0] * WHOLE_RATIO))
        lows = [(limit - side) // 2 for side, limit in zip(sides, shape, strict=True)]
    return slice(lows[0], lows[0] + sides[0]), slice(lows[1], lows[1] + sides[1])


def _object_window(
    rng: np.random.Generator, mask: np.ndarray, spacing: tuple[float, ...], span: tuple[float, float]
) -> tuple[tuple[slice, slice], list[tuple[int, int]]] | None:
    """A square window of a clip's slices in mm that its object (T, H, W) spans a share of; what lies off the slice.

    None where the window would lie off the slice altogether.
    """
    rows, columns = (np.flatnonzero(mask.any((0, 2 - i))) for i in (0, 1))
    box = np.array([[rows[0], rows[-1] + 1], [columns[0], columns[-1] + 1]], float)
    extent = max((box[0, 1] - box[0, 0]) * spacing[0], (box[1, 1] - box[1, 0]) * spacing[1])
    side = extent / np.exp(rng.uniform(np.log(span[0]), np.log(span[1])))
    side = max(side, 16 * min(spacing[0], spacing[1]))
    longest = max(mask.shape[1] * spacing[0], mask.shape[2] * spacing[1])
    side = min(side, longest * rng.uniform(0.9, 1.15))  # little of the window lies off the volume
    shift = rng.uniform(-0.5, 0.5, 2) * max(side - extent, 0.0) * rng.choice((0.4, 1.0))
    cut, pads = [], []
    for i in (0, 1):
        centre = box[i].mean() + shift[i] / spacing[i]
        half, limit = side / spacing[i] / 2, mask.shape[i + 1]
        if rng.random() < 0.7:  # as the predictor does: keep the window on the volume where it fits
            centre = min(max(centre, half), limit - half) if 2 * half < limit else limit / 2
        low = round(centre - half)
        high = low + max(8, round(side / spacing[i]))
        cut.append((max(low, 0), min(high, limit)))
        pads.append((max(-low, 0), max(high - limit, 0)))
        if cut[-1][0] >= cut[-1][1]:
            return None
    return (slice(*cut[0]), slice(*cut[1])), pads


def draw_clip(
    rng: np.random.Generator,
    source: Source,
    length: int,
    size: int,
    span: tuple[float, float] = (0.1, 0.7),
    paint_probability: float = 0.3,
    part_probability: float = 0.2,
    gaps: tuple[int, ...] = (1, 1, 1, 2),
    whole_slices: bool = False,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Draw one object and cut a clip around it.

    Args:
        length: slices in the clip; the first one always shows the object, later ones may not.
        size: side of the square window in network pixels.
        span: the object's larger side as a share of the window, drawn log-uniformly.
        paint_probability: how often a source with an image is painted anew all the same.
        part_probability: how often a target in several pieces is cut down to one of them.
        gaps: slice steps to draw from where slices lie closer than 2 mm; elsewhere every slice is taken.
        whole_slices: neighbouring slices of the first axis in a crop of the slice (`whole_slice_crop`) that shows the
            object, at whatever size it has; `span` and `gaps` do not count.

    Returns:
        image uint8 (length, size, size) and mask bool of the same shape, or None when the draw failed: draw again.
    """
    if not source.ids:
        return None
    axis = source.axes[0] if whole_slices else int(rng.choice(source.axes))
    labels = np.moveaxis(source.labels, axis, 0)
    gap = (source.spacing[axis], *(s for i, s in enumerate(source.spacing) if i != axis))
    step = int(rng.choice(gaps)) if length > 1 and gap[0] < 2.0 and not whole_slices else 1
    if labels.shape[0] < (length - 1) * step + 1:
        if labels.shape[0] < length:
            return None
        step = 1
    odds = np.array(source.odds) / sum(source.odds) if source.odds else None
    wanted = int(rng.choice(source.ids, p=odds))
    chosen = [wanted, int(rng.choice(source.ids))] if rng.random() < 0.05 else [wanted]
    chosen = list(dict.fromkeys(label for i in chosen for label in (i, *source.includes.get(i, ()))))
    inside = _place(source, chosen, axis)
    areas = np.zeros(labels.shape[0], int)
    areas[inside[0]] = _any_of(labels[inside], chosen).sum((1, 2))
    slices = np.flatnonzero(areas >= MIN_PIXELS)
    if not len(slices):
        return None
    first = int(rng.choice(slices))
    forward = bool(rng.random() < 0.5)
    picks = first + np.arange(length) * (step if forward else -step)
    if picks[-1] < 0 or picks[-1] >= labels.shape[0]:
        picks = first - np.arange(length) * (step if forward else -step)
        if picks[-1] < 0 or picks[-1] >= labels.shape[0]:
            return None
    part = _any_of(labels[picks][:, inside[1], inside[2]], chosen)
    if rng.random() < part_probability:  # one part of it only
        from scipy import ndimage

        parts, number = ndimage.label(part)
        if number > 1:
            present = np.unique(parts[0][parts[0] > 0])
            part = parts == int(rng.choice(present))
            if part[0].sum() < MIN_PIXELS:
                return None
    mask = np.zeros((length, *labels.shape[1:]), bool)
    mask[:, inside[1], inside[2]] = part
    pads: list[tuple[int, int]] = [(0, 0), (0, 0)]
    if whole_slices:
        window = whole_slice_crop(rng, (mask.shape[1], mask.shape[2]))
    else:
        placed = _object_window(rng, mask, gap[1:], span)
        if placed is None:
            return None
        window, pads = placed
    mask = mask[:, window[0], window[1]]
    if mask[0].sum() < MIN_PIXELS // 2:
        return None
    if source.image is None or rng.random() < paint_probability:
        image = paint(rng, labels[picks][:, window[0], window[1]])
        low, high = random_window(rng, Source(labels, source.spacing), mask, image)
    else:
        image = np.moveaxis(source.image, axis, 0)[picks][:, window[0], window[1]].astype(np.float32)
        low, high = random_window(rng, source, mask, image)
    image = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    pad = ((0, 0), *pads)
    if any(p > 0 for pair in pads for p in pair):
        image, mask = np.pad(image, pad, mode="edge" if rng.random() < 0.5 else "constant"), np.pad(mask, pad)
    image, soft = resize_stack(image, size), resize_stack(mask, size)
    mask = soft > 0.5
    if mask[0].sum() < MIN_PIXELS:
        return None
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8), mask


def draw_pasted(
    rng: np.random.Generator, source: Source, length: int, size: int, span: tuple[float, float] = (0.1, 0.7)
) -> tuple[np.ndarray, np.ndarray] | None:
    """Cut a clip out of an image and blend a body into it: a lesion that was never there, of known outline.

    Args and result as of `draw_clip`; the body lies on the first slice, `span` is its diameter in shares of the window.
    None where there is no image, too few slices, no contrast, or too small a body.
    """
    if source.image is None:
        return None
    axis = int(rng.choice(source.axes))
    volume = np.moveaxis(source.image, axis, 0)
    gap = (source.spacing[axis], *(s for i, s in enumerate(source.spacing) if i != axis))
    if len(volume) < length:
        return None
    finest, longest = min(gap[1:]), max(volume.shape[1] * gap[1], volume.shape[2] * gap[2])
    if SMALLEST * finest >= LARGEST * longest:
        return None
    extent = float(np.exp(rng.uniform(np.log(SMALLEST * finest), np.log(LARGEST * longest))))
    side = min(extent / float(np.exp(rng.uniform(*np.log(span)))), longest)
    first = int(rng.integers(0, len(volume) - length + 1))
    stack = volume[first : first + length]
    if rng.random() < 0.5:
        stack = stack[::-1]
    cut = []
    for i in (1, 2):
        pixels = min(max(8, round(side / gap[i])), volume.shape[i])
        start = int(rng.integers(0, volume.shape[i] - pixels + 1))
        cut.append(slice(start, start + pixels))
    shown = resize_stack(stack[:, cut[0], cut[1]].astype(np.float32), size)
    low, high = np.percentile(shown, (5, 95))
    if high - low < 1e-3:
        return None
    mask = body(rng, length, size, extent / side * size, gap[0] / side * size)
    if mask[0].sum() < MIN_PIXELS:
        return None
    shown = blend(rng, shown, mask, float(high - low))
    low, high = random_window(rng, source, mask, shown)
    return np.clip((shown - low) / max(high - low, 1e-6) * 255 + 0.5, 0, 255).astype(np.uint8), mask


def body(rng: np.random.Generator, length: int, size: int, diameter: float, step: float) -> np.ndarray:
    """A deformed ellipsoid somewhere in the window, on the first slice in any case, bool (length, size, size).

    `diameter` of its larger in-plane axis and `step` between neighbouring slices are in pixels.
    """
    radius = diameter / 2
    away = rng.uniform(-0.5, 0.5, 2) * max(size - diameter, 0)
    z = np.arange(length, dtype=np.float32)[:, None, None] * step + rng.uniform(-0.7, 0.7) * radius
    y, x = (np.arange(size, dtype=np.float32) - size / 2 - a for a in away)
    drift = rng.uniform(-0.4, 0.4, 2)
    y, x = y[None, :, None] - drift[0] * z, x[None, None, :] - drift[1] * z
    angle = rng.uniform(0, np.pi)
    u, v = np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
    flat, deep = rng.uniform(0.4, 1.0), rng.uniform(0.6, 1.6)
    distance = np.sqrt((u / radius) ** 2 + (v / (radius * flat)) ** 2 + (z / (radius * deep)) ** 2)
    wobble = smooth_noise(rng, (length, size, size), rng.uniform(2, 4) * size / max(diameter, 1.0))
    return distance + wobble * rng.uniform(0, 0.25) < 1


def blend(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray, contrast: float) -> np.ndarray:
    """Blend a body (T, H, W), not empty, into a float32 image: brighter or darker, more or less sharp, textured.

    `contrast` is the range of gray values that counts as full contrast.
    """
    from scipy import ndimage

    soft = ndimage.gaussian_filter(mask.astype(np.float32), (0, *[rng.uniform(0.4, 2.0)] * 2))
    opaque = soft * rng.uniform(0.5, 1.0)
    away = rng.uniform(0.1, 0.7) * contrast * rng.choice((-1.0, 1.0))
    texture = smooth_noise(rng, image.shape, rng.uniform(8, 40)) * rng.uniform(0, 0.12) * contrast
    inside = float(image[mask].mean()) + away + texture
    return np.asarray(image * (1 - opaque) + inside * opaque, np.float32)
