"""NSD and HD95 against slow references written from the definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from limnet.errors import InputError, InputTypeError
from limnet.metrics import hausdorff95, normalized_surface_dice

pytest.importorskip("monai")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

STEPS = {2: (2.3, 0.7), 3: (5.1, 0.7, 1.3)}


def nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of each point to the nearest of the others, pair by pair."""
    return np.array([min(math.dist(p, q) for q in others) for p in points])


def slow_hausdorff95(pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> float:
    sides = []
    for mask in (pred, truth):
        inside = {i for i, v in np.ndenumerate(mask) if v}
        border = [
            i
            for i in sorted(inside)
            if any((*i[:a], i[a] + d, *i[a + 1 :]) not in inside for a in range(mask.ndim) for d in (-1, 1))
        ]
        sides.append(np.array(border) * spacing)
    return max(np.percentile(nearest(*sides), 95), np.percentile(nearest(*sides[::-1]), 95))


def measure(corners: frozenset[tuple[int, ...]], spacing: tuple[float, ...]) -> float:
    """Size of the surface between voxel centres inside and outside, in one cell of 2 x 2 (x 2) centres.

    Worked out by hand for the cells that boxes have (3D) and for every cell in 2D.
    """
    dims, total = len(spacing), 2 ** len(spacing)
    if len(corners) in (0, total):
        return 0.0
    half = [s / 2 for s in spacing]
    if len(corners) > total // 2:
        corners = frozenset(itertools.product((0, 1), repeat=dims)) - corners
    shared = [a for a in range(dims) if len({c[a] for c in corners}) == 1]
    if dims == 2:
        if len(corners) == 1:
            return math.hypot(*half)  # a corner is cut off
        return spacing[1 - shared[0]] if shared else 2 * math.hypot(*half)  # a straight line, or two corners
    if len(corners) == 1:  # a triangle through the middles of three edges
        x, y, z = half
        return 0.5 * math.sqrt((x * y) ** 2 + (y * z) ** 2 + (z * x) ** 2)
    if len(corners) == 2 and len(shared) == 2:  # a bevel along an edge
        (along,) = set(range(3)) - set(shared)
        return spacing[along] * math.hypot(*(half[a] for a in shared))
    if len(corners) == 4 and len(shared) == 1:  # a face
        return math.prod(spacing[a] for a in range(3) if a != shared[0])
    raise NotImplementedError(corners)


def slow_surface_dice(pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> float:
    sides = []
    for mask in (pred, truth):
        padded = np.pad(mask, 1)
        cells, sizes = [], []
        for cell in np.ndindex(*(n - 1 for n in padded.shape)):
            corners = frozenset(
                d for d in itertools.product((0, 1), repeat=mask.ndim) if padded[tuple(np.add(cell, d))]
            )
            if size := measure(corners, spacing):
                cells.append(np.multiply(cell, spacing))
                sizes.append(size)
        sides.append((np.array(cells), np.array(sizes)))
    (one, areas), (other, others) = sides
    good = areas[nearest(one, other) <= tolerance].sum() + others[nearest(other, one) <= tolerance].sum()
    return good / (areas.sum() + others.sum())


@st.composite
def boxes(draw: st.DrawFn) -> np.ndarray:
    """One or two boxes in (8, 5, 5), the second too far away to share a cell, perhaps with a cavity."""
    mask = np.zeros((8, 5, 5), bool)
    for lo, hi in ((0, 3), (5, 8))[: draw(st.integers(1, 2))]:
        bounds = [sorted(draw(st.tuples(*[st.integers(0, n - 1)] * 2))) for n in (hi - lo, 5, 5)]
        box = tuple(slice(a, b + 1) for a, b in bounds)
        mask[lo:hi][box] = True
    if draw(st.booleans()):
        mask[:3] = True
        mask[1, 2:3, 1:4] = False
    return mask


masks_2d = arrays(bool, (6, 7))
masks_3d = arrays(bool, (3, 4, 5))


@settings(max_examples=15, deadline=None)
@given(st.one_of(st.tuples(masks_2d, masks_2d), st.tuples(masks_3d, masks_3d)))
def test_hausdorff95_against_all_pairs(pair):
    pred, truth = pair
    assume(pred.any() and truth.any())
    spacing = STEPS[pred.ndim]
    assert hausdorff95(pred, truth, spacing) == pytest.approx(slow_hausdorff95(pred, truth, spacing), rel=1e-5)


@settings(max_examples=15, deadline=None)
@given(masks_2d, masks_2d, st.sampled_from([0.0, 0.6, 1.234, 3.45]))
def test_surface_dice_against_all_pairs_2d(pred, truth, tolerance):
    assume(pred.any() and truth.any())
    slow = slow_surface_dice(pred, truth, STEPS[2], tolerance)
    assert normalized_surface_dice(pred, truth, STEPS[2], tolerance) == pytest.approx(slow, rel=1e-5, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(boxes(), boxes(), st.sampled_from([0.0, 0.65, 1.234, 5.3]))
def test_surface_dice_against_all_pairs_3d(pred, truth, tolerance):
    slow = slow_surface_dice(pred, truth, STEPS[3], tolerance)
    assert normalized_surface_dice(pred, truth, STEPS[3], tolerance) == pytest.approx(slow, rel=1e-5, abs=1e-6)


def test_by_hand():
    one, other = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    one[2:5, 4] = True
    other[2:5, 6] = True
    assert hausdorff95(one, other, (1.0, 1.5)) == pytest.approx(3.0)
    assert normalized_surface_dice(one, other, (1.0, 1.5), 2.9) < 1
    assert normalized_surface_dice(one, other, (1.0, 1.5), 3.0) == 1  # a distance equal to the tolerance is accepted
    assert normalized_surface_dice(one, other, (1.0, 1.5), 1.0) == 0
    one[2, 8] = True
    assert hausdorff95(one, other, (1.0, 1.5)) == pytest.approx(3.0)


@settings(max_examples=15, deadline=None)
@given(masks_3d, masks_3d, st.permutations(range(3)), st.sampled_from([0.0, 0.9, 1.5]))
def test_properties(pred, truth, order, tolerance):
    spacing = STEPS[3]
    nsd, far = normalized_surface_dice(pred, truth, spacing, tolerance), hausdorff95(pred, truth, spacing)
    assert 0 <= nsd <= 1
    assert far >= 0
    assert normalized_surface_dice(truth, pred, spacing, tolerance) == pytest.approx(nsd, rel=1e-6)
    assert hausdorff95(truth, pred, spacing) == far
    assert normalized_surface_dice(pred, pred, spacing, tolerance) == 1
    assert hausdorff95(pred, pred, spacing) == 0
    assert normalized_surface_dice(pred, truth, spacing, tolerance + 2) >= nsd
    turned = [np.transpose(m, order) for m in (pred, truth)]
    steps = [spacing[a] for a in order]
    assert normalized_surface_dice(*turned, steps, tolerance) == pytest.approx(nsd, rel=1e-5, abs=1e-6)
    assert hausdorff95(*turned, steps) == pytest.approx(far, rel=1e-6)
    if pred.any() and truth.any():
        assert far <= math.dist((0, 0, 0), np.multiply(pred.shape, spacing))
        assert hausdorff95(pred, truth, [10 * s for s in spacing]) == pytest.approx(10 * far, rel=1e-5)


@pytest.mark.parametrize("offset", [(0, 0, 0), (5, 9, 2), (16, 17, 9)])
def test_cropping_changes_nothing(offset):
    """Equal to MONAI on the whole grid, also where the object touches the border of the image."""
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    rng = np.random.default_rng(3)
    pred, truth = np.zeros((2, 20, 22, 13), bool)
    box = tuple(slice(o, o + n) for o, n in zip(offset, (4, 5, 4), strict=True))
    pred[box], truth[box] = rng.random((2, 4, 5, 4)) > 0.4
    one, other = torch.from_numpy(pred)[None, None], torch.from_numpy(truth)[None, None]
    steps = list(STEPS[3])
    whole = compute_surface_dice(one, other, [1.0], include_background=True, spacing=steps, use_subvoxels=True)
    assert normalized_surface_dice(pred, truth, steps, 1.0) == float(whole)
    far = compute_hausdorff_distance(one, other, include_background=True, percentile=95, spacing=steps)
    assert hausdorff95(pred, truth, steps) == float(far)


@pytest.mark.parametrize("shape", [(5, 6), (1, 5, 6), (3, 5, 6), (1, 1, 1)])
def test_empty(shape):
    spacing = STEPS[len(shape)]
    empty, full = np.zeros(shape, bool), np.ones(shape, bool)
    assert normalized_surface_dice(empty, empty, spacing, 1.0) == 1
    assert normalized_surface_dice(full, full, spacing, 0) == 1
    assert hausdorff95(empty, empty, spacing, empty=7.0) == 0
    for pair in ((empty, full), (full, empty)):
        assert normalized_surface_dice(*pair, spacing, 1e6) == 0
        assert hausdorff95(*pair, spacing) == math.inf
        assert hausdorff95(*pair, spacing, empty=7.0) == 7


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, math.nan), (1, -1, 1), "123", None, (1, 1, "x")])
def test_bad_spacing(spacing):
    mask = np.ones((2, 3, 4), bool)
    with pytest.raises(InputError, match=r"3 (positive )?numbers"):
        hausdorff95(mask, mask, spacing)
    with pytest.raises(InputError, match=r"3 (positive )?numbers"):
        normalized_surface_dice(mask, mask, spacing, 1.0)


def test_bad_masks_and_tolerance():
    mask = np.ones((2, 3, 4), bool)
    for tolerance in (-1, math.nan, math.inf):
        with pytest.raises(InputError, match="tolerance"):
            normalized_surface_dice(mask, mask, (1, 1, 1), tolerance)
    with pytest.raises(InputTypeError):
        hausdorff95(mask.astype(float), mask, (1, 1, 1))
    with pytest.raises(InputError, match="grid"):
        hausdorff95(mask, mask[:1], (1, 1, 1))
