"""NSD and HD95, which MONAI computes, with its arguments as we mean them; by hand, and the empty cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from limnet.errors import InputError, InputTypeError
from limnet.metrics import hausdorff95, normalized_surface_dice

pytest.importorskip("monai")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

STEPS = {2: (2.3, 0.7), 3: (5.1, 0.7, 1.3)}


masks_3d = arrays(bool, (3, 4, 5))


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


@pytest.mark.parametrize("offset", [(0, 0, 0), (5, 9, 2), (16, 17, 9), (0, 3), (16, 17)])
@pytest.mark.parametrize("tolerance", [0.0, 0.65, 1.234])
def test_equal_to_monai_on_the_whole_grid(offset: tuple[int, ...], tolerance: float):
    """In 2-D and 3-D, also where the object touches the border of the image."""
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    rng, dims = np.random.default_rng(3), len(offset)
    pred, truth = np.zeros((2, *(20, 22, 13)[:dims]), bool)
    box = tuple(slice(o, o + n) for o, n in zip(offset, (4, 5, 4), strict=False))
    pred[box], truth[box] = rng.random((2, *(4, 5, 4)[:dims])) > 0.4
    one, other = torch.from_numpy(pred)[None, None], torch.from_numpy(truth)[None, None]
    steps = list(STEPS[dims])
    whole = compute_surface_dice(one, other, [tolerance], include_background=True, spacing=steps, use_subvoxels=True)
    assert normalized_surface_dice(pred, truth, steps, tolerance) == float(whole)
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
