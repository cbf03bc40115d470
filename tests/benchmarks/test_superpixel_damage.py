from __future__ import annotations

import numpy as np
import pytest

from benchmarks.analyses.superpixel_damage import apply_superpixels, damage_superpixels, superpixels
from limnet.errors import InputError
from tests.helpers.blobs import blob, disk, iou


def image_of(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    return mask * 80.0 + np.random.default_rng(seed).normal(0, 15, mask.shape) - 1000


@pytest.mark.parametrize(("low", "high"), [(0.75, 0.85), (0.4, 0.5), (0.9, 0.92)])
def test_the_iou_lies_in_the_range(low: float, high: float):
    for seed in range(12):
        mask = disk((90, 100), (45, 50), 9 + seed) if seed % 2 else blob(seed, (90, 100), 5, 0.15)
        image = image_of(mask, seed)
        damaged, parameters = damage_superpixels(mask, image, np.random.default_rng(seed), low, high)
        assert low <= iou(damaged, mask) <= high
        assert parameters.iou == pytest.approx(iou(damaged, mask), abs=1e-12)
        np.testing.assert_array_equal(apply_superpixels(mask, image, parameters), damaged)


def test_the_seed_decides():
    mask = disk()
    a, b, c = (damage_superpixels(mask, image_of(mask), np.random.default_rng(s)) for s in (1, 1, 2))
    assert a[1] == b[1]
    np.testing.assert_array_equal(a[0], b[0])
    assert a[1] != c[1]


def test_defects_are_whole_superpixels_on_both_sides_of_the_border():
    mask = disk()
    lost = added = 0
    for seed in range(20):
        damaged, parameters = damage_superpixels(mask, image_of(mask), np.random.default_rng(seed))
        lost += bool((mask & ~damaged).any())
        added += bool((damaged & ~mask).any())
        assert all(damaged[row, column] == value for row, column, value in parameters.changes)
        assert len(parameters.changes) <= 60
    assert lost > 5
    assert added > 5


def test_small_objects_fall_back_to_smaller_superpixels():
    mask = np.zeros((20, 20), bool)
    mask[8:12, 8:13] = True  # 20 pixels: within 0.75 to 0.85 only a handful may change
    for seed in range(10):
        damaged, _ = damage_superpixels(mask, image_of(mask), np.random.default_rng(seed))
        assert 0.75 <= iou(damaged, mask) <= 0.85


def test_what_cannot_be_met_is_told():
    mask = np.zeros((20, 20), bool)
    mask[8, 8] = True  # one pixel: 1, 1/2, 1/3 ... and nothing between
    damaged, parameters = damage_superpixels(mask, image_of(mask), np.random.default_rng(0))
    assert parameters.iou == iou(damaged, mask) == 1.0


def test_superpixels_follow_the_image():
    image = np.zeros((60, 60))
    image[:, 33:] = 100
    labels = superpixels(image, 10)
    assert labels.shape == image.shape
    assert 20 <= len(np.unique(labels)) <= 60
    left, right = np.unique(labels[:, :33]), np.unique(labels[:, 33:])
    assert not set(left) & set(right)  # none lies on both sides of the edge
    assert len(np.unique(superpixels(image[:7, :9], 1))) == 63


@pytest.mark.parametrize("bounds", [(0.9, 0.8), (0.0, 0.5), (0.5, 1.0)])
def test_bad_range(bounds: tuple[float, float]):
    with pytest.raises(InputError, match="IoU"):
        damage_superpixels(disk(), image_of(disk()), np.random.default_rng(0), *bounds)


def test_bad_arrays():
    with pytest.raises(InputError, match="H, W"):
        damage_superpixels(disk(), np.zeros((3, 3)), np.random.default_rng(0))
    with pytest.raises(InputError, match="empty"):
        damage_superpixels(np.zeros((9, 9)), np.zeros((9, 9)), np.random.default_rng(0))
