"""Clips of lesions that were never there: bodies of random shape and brightness blended into real images.

Real texture around a target of known outline, as often as one likes; the label map of the image plays no part.
"""

from __future__ import annotations

import numpy as np

from limnet.data.clips import MIN_PIXELS, Source, random_window, resize_stack
from limnet.simulation.volumes import smooth_noise

SMALLEST, LARGEST = 5.0, 0.4  # extent of a body: least pixels of the finer in-plane axis, largest share of the slice


def draw_pasted(
    rng: np.random.Generator, source: Source, length: int, size: int, span: tuple[float, float] = (0.1, 0.7)
) -> tuple[np.ndarray, np.ndarray] | None:
    """Cut a clip out of an image and blend a body into it.

    Args:
        source: a volume with an image.
        length: slices in the clip; the body lies on the first one.
        size: side of the square window in network pixels.
        span: the body's diameter as a share of the window, drawn log-uniformly.

    Returns:
        As `draw_clip`: image uint8 (length, size, size) and mask bool of the same shape, or None when the draw failed:
        no image, too few slices, a window without contrast, or too small a body.
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
    """A deformed ellipsoid somewhere in the window, on the first slice in any case.

    Args:
        diameter: of its larger in-plane axis, in pixels.
        step: distance of neighbouring slices, in pixels.

    Returns:
        bool (length, size, size).
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
    """Blend a body into an image: brighter or darker, more or less sharp, opaque and textured.

    Args:
        image: float32 (T, H, W).
        mask: bool (T, H, W), not empty.
        contrast: range of gray values that counts as full contrast.

    Returns:
        float32 (T, H, W).
    """
    from scipy import ndimage

    soft = ndimage.gaussian_filter(mask.astype(np.float32), (0, *[rng.uniform(0.4, 2.0)] * 2))
    opaque = soft * rng.uniform(0.5, 1.0)
    away = rng.uniform(0.1, 0.7) * contrast * rng.choice((-1.0, 1.0))
    texture = smooth_noise(rng, image.shape, rng.uniform(8, 40)) * rng.uniform(0, 0.12) * contrast
    inside = float(image[mask].mean()) + away + texture
    return np.asarray(image * (1 - opaque) + inside * opaque, np.float32)
