"""Synthetic labelled volumes, and random appearances painted on any label map (domain randomisation).

Shapes come from thresholded 3-D noise, deformed ellipsoids, tubes, shells and nested bodies; appearances from
label-wise intensities with texture, bias field, blur and noise, in the spirit of SynthSeg (Billot et al., 2023).
"""

from __future__ import annotations

import numpy as np


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], cells: float) -> np.ndarray:
    """Smooth random field, float32 of unit standard deviation, with about `cells` bumps along the longest axis."""
    from scipy import ndimage

    longest = max(shape)
    coarse = tuple(max(2, round(cells * s / longest) + 2) if s > 1 else 1 for s in shape)
    field = rng.standard_normal(coarse).astype(np.float32)
    zoom = [s / c for s, c in zip(shape, coarse, strict=True)]
    field = ndimage.zoom(field, zoom, order=1, mode="nearest", grid_mode=True)
    field = field[tuple(slice(0, s) for s in shape)]
    return (field - field.mean()) / (field.std() + 1e-6)


def _grid(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    axes = [np.linspace(-1, 1, s, dtype=np.float32) if s > 1 else np.zeros(1, np.float32) for s in shape]
    return tuple(np.meshgrid(*axes, indexing="ij", sparse=True))  # type: ignore[return-value]


def _ellipsoid(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    z, y, x = _grid(shape)
    centre = rng.uniform(-0.6, 0.6, 3)
    radius = np.exp(rng.uniform(np.log(0.08), np.log(0.6), 3))
    angle = rng.uniform(0, np.pi)
    tilt = rng.uniform(-0.6, 0.6, 2)
    u = np.cos(angle) * (y - centre[1] - tilt[0] * z) + np.sin(angle) * (x - centre[2] - tilt[1] * z)
    v = -np.sin(angle) * (y - centre[1] - tilt[0] * z) + np.cos(angle) * (x - centre[2] - tilt[1] * z)
    distance = ((z - centre[0]) / radius[0]) ** 2 + (u / radius[1]) ** 2 + (v / radius[2]) ** 2
    wobble = smooth_noise(rng, shape, rng.uniform(2, 7)) * rng.uniform(0.0, 0.35)
    return distance < 1 + wobble


def _tube(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    z, y, x = _grid(shape)
    t = z.ravel()
    phase, bend = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.0, 0.5, 2)
    start, slope = rng.uniform(-0.6, 0.6, 2), rng.uniform(-0.5, 0.5, 2)
    speed = rng.uniform(0.5, 3.0, 2)
    path = [start[i] + slope[i] * t + bend[i] * np.sin(speed[i] * t + phase[i]) for i in range(2)]
    radius = np.exp(rng.uniform(np.log(0.04), np.log(0.3))) * (1 + 0.4 * np.sin(rng.uniform(0, 4) * t + phase[0]))
    cy, cx, r = (a.reshape(-1, 1, 1).astype(np.float32) for a in (path[0], path[1], radius))
    body = (y - cy) ** 2 + (x - cx) ** 2 < r**2
    if rng.random() < 0.4:  # a branch that leaves the trunk
        away = rng.uniform(-0.8, 0.8, 2)
        grow = np.clip(t - rng.uniform(-0.5, 0.5), 0, None).reshape(-1, 1, 1)
        body = body | ((y - cy - away[0] * grow) ** 2 + (x - cx - away[1] * grow) ** 2 < (0.7 * r) ** 2)
    if rng.random() < 0.5:  # ends inside the volume
        low, high = np.sort(rng.uniform(-1, 1, 2))
        body = body & (z > low) & (z < max(high, low + 0.3))
    return body


def synthetic_labels(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Label map int16 (D, H, W) with nested, touching, thin and branching bodies over a cellular background.

    0 is background, every other id one structure.
    """
    from scipy import ndimage

    if rng.random() < 0.12:
        return _cells(rng, shape)
    labels = np.zeros(shape, np.int16)
    count = 1
    if rng.random() < 0.7:  # background tissue in large patches, so that objects lie on something
        field = smooth_noise(rng, shape, rng.uniform(2, 6))
        for level in np.sort(rng.uniform(-1.2, 1.2, rng.integers(1, 4))):
            labels[field > level] = count
            count += 1
    for _ in range(int(rng.integers(3, 11))):
        kind = rng.random()
        if kind < 0.45:
            body = _ellipsoid(rng, shape)
        elif kind < 0.75:
            body = _tube(rng, shape)
        else:
            body = smooth_noise(rng, shape, rng.uniform(2, 9)) > rng.uniform(0.8, 1.8)
        labels[body] = count
        count += 1
        if rng.random() < 0.3:  # a core or a shell: nested bodies
            steps = int(rng.integers(1, 5))
            core = ndimage.binary_erosion(body, iterations=steps)
            if core.any():
                labels[core] = count
                count += 1
    return labels


def _cells(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Label map of cells that fill the volume, as in tissue under a microscope; int16 (D, H, W)."""
    from scipy import spatial

    count = int(np.exp(rng.uniform(np.log(15), np.log(250))))
    grid = np.stack(np.broadcast_arrays(*_grid(shape)), -1).astype(np.float32)
    for axis in range(3):
        grid[..., axis] += smooth_noise(rng, shape, rng.uniform(2, 8)) * rng.uniform(0, 0.06)
    seeds = rng.uniform(-1, 1, (count, 3)) * (rng.uniform(0.3, 1.0), 1, 1)
    nearest = spatial.cKDTree(seeds).query(grid.reshape(-1, 3))[1]
    return (nearest.reshape(shape) + 1).astype(np.int16)


def _outlined(rng: np.random.Generator, labels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The image with a line of one brightness along all borders: membranes, capsules, walls."""
    from scipy import ndimage

    border = np.zeros(labels.shape, bool)
    for axis in (1, 2):
        low = tuple(slice(None, -1) if i == axis else slice(None) for i in range(3))
        high = tuple(slice(1, None) if i == axis else slice(None) for i in range(3))
        border[high] |= labels[high] != labels[low]
    if rng.random() < 0.5:
        border = ndimage.binary_dilation(border, np.ones((1, 2, 2)))
    return np.where(border, np.float32(rng.uniform(-0.2, 1.2)), image).astype(np.float32)


def paint(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Random appearance for a label map (D, H, W): the same anatomy in a look never seen before.

    float32, about 0..1 before windowing.
    """
    from scipy import ndimage

    ids, inverse = np.unique(labels, return_inverse=True)
    inverse = inverse.reshape(labels.shape)
    means = rng.uniform(0, 1, len(ids)).astype(np.float32)
    if rng.random() < 0.5:  # few distinct looks: neighbours may share an intensity
        looks = rng.uniform(0, 1, int(rng.integers(2, 7)))
        means = (rng.choice(looks, len(ids)) + rng.normal(0, 0.03, len(ids))).astype(np.float32)
    image = means[inverse]
    spread = (rng.uniform(0, 0.12) * rng.uniform(0.2, 1.5, len(ids))).astype(np.float32)
    texture = rng.standard_normal(labels.shape).astype(np.float32)
    if rng.random() < 0.7:
        sigma = rng.uniform(0.4, 2.0)
        texture = ndimage.gaussian_filter(texture, (sigma if labels.shape[0] > 1 else 0, sigma, sigma))
        texture /= texture.std() + 1e-6
    image = image + texture * spread[inverse]
    if rng.random() < 0.12:
        image = _outlined(rng, labels, image)
    blur = rng.uniform(0.2, 1.3)
    image = ndimage.gaussian_filter(image, (blur * 0.6 if labels.shape[0] > 1 else 0, blur, blur))
    if rng.random() < 0.6:
        image = image * np.exp(rng.uniform(0, 0.35) * smooth_noise(rng, labels.shape, rng.uniform(0.5, 2.5)))
    if rng.random() < 0.15:  # speckle, as in ultrasound
        image = image * rng.rayleigh(1.0, labels.shape).astype(np.float32) ** rng.uniform(0.3, 0.8)
    return (image + rng.normal(0, rng.uniform(0.0, 0.08), labels.shape)).astype(np.float32)
