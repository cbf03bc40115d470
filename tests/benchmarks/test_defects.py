from __future__ import annotations

import numpy as np
import pytest

from benchmarks.analyses.defects import damage_superpixels, neighbour_slice, superpixels
from limnet.errors import InputError
from tests.helpers.blobs import blob, disk, iou


def image_of(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    return mask * 80.0 + np.random.default_rng(seed).normal(0, 15, mask.shape) - 1000


@pytest.mark.parametrize(("low", "high"), [(0.75, 0.85), (0.4, 0.5), (0.9, 0.92)])
def test_the_iou_lies_in_the_range(low: float, high: float):
    for seed in range(12):
        mask = disk((90, 100), (45, 50), 9 + seed) if seed % 2 else blob(seed, (90, 100), 5, 0.15)
        image = image_of(mask, seed)
        found, again = (damage_superpixels(mask, image, np.random.default_rng(seed), low, high) for _ in range(2))
        assert low <= iou(found.mask, mask) <= high
        assert found.iou == pytest.approx(iou(found.mask, mask), abs=1e-12)
        np.testing.assert_array_equal(found.mask, again.mask)


def test_defects_are_on_both_sides_of_the_border():
    mask = disk()
    found = [damage_superpixels(mask, image_of(mask), np.random.default_rng(seed)) for seed in range(20)]
    assert sum(bool((mask & ~f.mask).any()) for f in found) > 5
    assert sum(bool((f.mask & ~mask).any()) for f in found) > 5
    assert max(f.changes for f in found) <= 60


def test_small_objects_fall_back_to_smaller_superpixels():
    mask = np.zeros((20, 20), bool)
    mask[8:12, 8:13] = True  # 20 pixels: within 0.75 to 0.85 only a handful may change
    for seed in range(10):
        assert 0.75 <= iou(damage_superpixels(mask, image_of(mask), np.random.default_rng(seed)).mask, mask) <= 0.85
    mask[:] = False
    mask[8, 8] = True  # one pixel: 1, 1/2, 1/3 ... and nothing between
    found = damage_superpixels(mask, image_of(mask), np.random.default_rng(0))
    assert found.iou == iou(found.mask, mask) == 1.0


def test_superpixels_follow_the_image():
    image = np.zeros((60, 60))
    image[:, 33:] = 100
    labels = superpixels(image, 10)
    assert labels.shape == image.shape
    assert 20 <= len(np.unique(labels)) <= 60
    left, right = np.unique(labels[:, :33]), np.unique(labels[:, 33:])
    assert not set(left) & set(right)  # none lies on both sides of the edge
    assert len(np.unique(superpixels(image[:7, :9], 1))) == 63


@pytest.mark.parametrize(
    ("mask", "image", "bounds", "message"),
    [
        (disk(), image_of(disk()), (0.9, 0.8), "IoU"),
        (disk(), image_of(disk()), (0.0, 0.5), "IoU"),
        (disk(), image_of(disk()), (0.5, 1.0), "IoU"),
        (disk(), np.zeros((3, 3)), (0.7, 0.8), "H, W"),
        (np.zeros((9, 9)), np.zeros((9, 9)), (0.7, 0.8), "empty"),
    ],
)
def test_bad_input(mask: np.ndarray, image: np.ndarray, bounds: tuple[float, float], message: str):
    with pytest.raises(InputError, match=message):
        damage_superpixels(mask, image, np.random.default_rng(0), *bounds)


def test_a_slice_within_reach_that_shows_the_object():
    volume = np.zeros((12, 20, 20), bool)  # slices 2 to 9 show squares of different size
    for i in range(2, 10):
        volume[i, 10 - i : 10 + i, 10 - i : 10 + i] = True
    offsets = set()
    for seed in range(60):
        mask, offset = neighbour_slice(volume, 8, np.random.default_rng(seed))
        np.testing.assert_array_equal(mask, volume[8 + offset])
        offsets.add(offset)
    assert offsets == {-3, -2, -1, 1}  # 10 and 11 are empty, 8 is the slice itself
    assert neighbour_slice(volume, 10, np.random.default_rng(0), reach=1)[1] == -1, "an empty slice"
    alone = volume[4:5].copy()
    mask, offset = neighbour_slice(alone, 0, np.random.default_rng(0))
    assert offset == 0
    mask[:] = False
    assert alone.any(), "a copy"
