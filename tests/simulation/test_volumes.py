from __future__ import annotations

import numpy as np
import pytest

from limnet.simulation import volumes
from limnet.simulation.volumes import paint, smooth_noise, synthetic_labels


@pytest.mark.parametrize("shape", [(40,), (30, 44), (8, 33, 20), (1, 40, 40)])
@pytest.mark.parametrize("cells", [0.5, 4.0])
def test_smooth_noise(shape: tuple[int, ...], cells: float) -> None:
    field = smooth_noise(np.random.default_rng(0), shape, cells)
    assert field.shape == shape
    assert field.dtype == np.float32
    assert float(field.mean()) == pytest.approx(0, abs=1e-4)
    assert float(field.std()) == pytest.approx(1, abs=1e-3)
    assert float(np.abs(np.diff(field, axis=-1)).mean()) < 0.6  # neighbours are alike


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(16, 48, 40), (1, 48, 48), (3, 9, 64)])
def test_labels(seed: int, shape: tuple[int, int, int]) -> None:
    labels = synthetic_labels(np.random.default_rng(seed), shape)
    assert labels.shape == shape
    assert labels.dtype == np.int16
    assert labels.min() >= 0
    assert np.array_equal(labels, synthetic_labels(np.random.default_rng(seed), shape))
    assert not np.array_equal(labels, synthetic_labels(np.random.default_rng(seed + 100), shape))


def test_labels_hold_several_objects() -> None:
    numbers = [len(np.unique(synthetic_labels(np.random.default_rng(s), (16, 48, 48)))) for s in range(10)]
    assert min(numbers) >= 3
    assert len(set(numbers)) > 2


@pytest.mark.parametrize("shape", [(6, 40, 40), (1, 40, 40)])
def test_paint(shape: tuple[int, int, int]) -> None:
    labels = synthetic_labels(np.random.default_rng(3), shape)
    kept = labels.copy()
    images = [paint(np.random.default_rng(seed), labels) for seed in range(8)]
    assert np.array_equal(labels, kept)
    for image in images:
        assert image.shape == shape
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
    assert np.array_equal(images[0], paint(np.random.default_rng(0), labels))
    assert not np.array_equal(images[0], images[1])


def test_paint_shows_the_labels() -> None:
    labels = np.zeros((4, 40, 40), np.int32)
    labels[:, 10:30, 10:30] = 70000  # any ids
    gaps = []
    for seed in range(20):
        image = paint(np.random.default_rng(seed), labels)
        gaps.append(abs(float(image[labels > 0].mean() - image[labels == 0].mean())))
    assert np.median(gaps) > 0.1


def test_cells_fill_the_volume_and_are_compact() -> None:
    labels = volumes._cells(np.random.default_rng(0), (8, 48, 48))
    ids, counts = np.unique(labels, return_counts=True)
    assert ids.min() >= 1, "there is nothing between cells"
    assert len(ids) > 5
    largest = labels == ids[counts.argmax()]
    rows, columns = (np.flatnonzero(largest.any((0, axis))) for axis in (2, 1))
    assert largest.sum() > 0.1 * (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_outlines_lie_on_borders_only() -> None:
    labels = np.zeros((2, 30, 30), np.int16)
    labels[:, 10:20, 8:22] = 3
    image = np.full(labels.shape, 0.5, np.float32)
    outlined = volumes._outlined(np.random.default_rng(1), labels, image)
    changed = outlined != image
    assert changed.any()
    assert len(np.unique(outlined[changed])) == 1
    assert not changed[:, 12:18, 11:19].any()
    assert not changed[:, :8].any()
    assert np.array_equal(image, np.full(labels.shape, 0.5, np.float32))
