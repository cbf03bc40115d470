from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from limnet.errors import InputError
from limnet.simulation.corruption import corrupt
from limnet.simulation.corruption_draws import NEAR
from limnet.simulation.corruption_kinds import (
    AddShapes,
    DisplaceBoundary,
    MergeShapes,
    Morphology,
    RemoveParts,
    Smooth,
)
from limnet.simulation.corruption_shapes import Shape
from tests.helpers.blobs import blob, disk, iou, perimeter

EIGHT = np.ones((3, 3), bool)
SEEDS = range(40)


def distance_to(region: np.ndarray) -> np.ndarray:
    """Reference: distance of every pixel to the nearest pixel of a region, found in a search tree."""
    grid = np.indices(region.shape).reshape(2, -1).T
    return cKDTree(np.argwhere(region)).query(grid)[0].reshape(region.shape)


@pytest.mark.parametrize("distance", [1.0, 2.3, 5.0, 30.0])
def test_dilation_adds_all_within_the_distance_and_nothing_else(distance: float):
    mask = blob(1, (30, 34), 2, 0.1)
    grown = Morphology("dilate", 10, distance).apply(mask)
    np.testing.assert_array_equal(grown, distance_to(mask) <= distance)
    assert (grown & mask).sum() == mask.sum()
    assert grown.sum() > mask.sum()


@pytest.mark.parametrize("distance", [1.0, 2.3, 4.0])
def test_erosion_removes_all_within_the_distance_and_nothing_else(distance: float):
    mask = disk((36, 40), (17, 20), 11)
    shrunk = Morphology("erode", 10, distance).apply(mask)
    np.testing.assert_array_equal(shrunk, mask & (distance_to(~mask) > distance))
    assert not (shrunk & ~mask).any()
    assert 0 < shrunk.sum() < mask.sum()


def test_drawn_erosion_never_empties_and_drawn_dilation_only_adds():
    kinds = set()
    for seed in range(80):
        mask = blob(seed, (50, 60), 1 + seed % 4, 0.02 + 0.2 * (seed % 3))
        damaged, parameters = corrupt(mask, seed, {"morphology": 1})
        kinds.add(parameters.operation)
        if parameters.operation == "dilate":
            assert not (mask & ~damaged).any()
            assert damaged.sum() > mask.sum()
        else:
            assert not (damaged & ~mask).any()
            assert 0 < damaged.sum() < mask.sum()
    assert kinds == {"dilate", "erode"}


def test_an_object_at_the_edge_of_the_slice_is_not_eroded_from_there():
    mask = np.zeros((40, 40), bool)
    mask[:20] = True
    shrunk = Morphology("erode", 10, 5.0).apply(mask)
    assert shrunk[:15].all()
    assert not shrunk[15:].any()


def test_unknown_operation():
    with pytest.raises(InputError, match="dilate"):
        Morphology("open", 10, 2.0).apply(disk())


def test_the_border_moves_but_at_most_the_drawn_distance():
    for seed in SEEDS:
        mask = disk() if seed % 2 else blob(seed, (70, 80), 5, 0.2)
        damaged, parameters = corrupt(mask, seed, {"displace_boundary": 1})
        inner, outer = distance_to(~mask), distance_to(mask)
        assert (damaged & ~mask).any()  # somewhere out ...
        assert (mask & ~damaged).any()  # ... and somewhere in
        assert outer[damaged & ~mask].max() <= parameters.distance + 0.5
        assert inner[mask & ~damaged].max() <= parameters.distance + 0.5


def test_displacements_use_the_distance_and_leave_a_jagged_edge():
    mask = disk((160, 160), (80, 80), 40)
    reached = []
    for seed in range(10):
        damaged = DisplaceBoundary(12.0, 4.0, seed).apply(mask)
        reached.append(distance_to(mask)[damaged].max())
        assert perimeter(damaged) > 1.3 * perimeter(mask)
    assert max(reached) > 8
    fine, coarse = (np.mean([perimeter(DisplaceBoundary(12.0, c, s).apply(mask)) for s in range(8)]) for c in (3, 12))
    assert fine > coarse


def test_the_paper_displaces_by_10_to_30_pixels():
    mask = np.zeros((480, 480), bool)
    mask[180:300, 180:300] = True
    drawn = [corrupt(mask, s, {"displace_boundary": 1})[1].distance for s in range(60)]
    assert 10 <= min(drawn) < 13
    assert 27 < max(drawn) <= 30


def test_smoothing_shortens_the_outline_and_keeps_the_object():
    for seed in SEEDS:
        rough = DisplaceBoundary(6.0, 2.0, seed).apply(disk())
        damaged, parameters = corrupt(rough, seed, {"smooth": 1})
        assert perimeter(damaged) < 0.9 * perimeter(rough)
        assert iou(damaged, rough) > 0.6
        assert abs(damaged.sum() / rough.sum() - 1) < 0.25
        assert parameters.sigma > 0


def test_smoothing_takes_thin_parts_first():
    mask = disk((100, 100), (50, 40), 20)
    mask[49:51, 60:90] = True  # a whisker
    damaged = Smooth(4.0).apply(mask)
    assert not damaged[:, 70:].any()
    assert iou(damaged[:, :60], mask[:, :60]) > 0.95


def test_removing_takes_a_part_and_adds_nothing():
    for seed in SEEDS:
        mask = disk() if seed % 2 else blob(seed, (70, 80), 5, 0.2)
        damaged, _ = corrupt(mask, seed, {"remove_parts": 1})
        assert not (damaged & ~mask).any()
        assert 0.2 * mask.sum() <= damaged.sum() < mask.sum() or ndimage.label(mask, EIGHT)[1] > 1
        assert 0 < damaged.sum() < mask.sum()


def test_whole_pieces_are_removed_from_an_object_of_several():
    mask = np.zeros((60, 60), bool)
    corners = [(5, 5), (5, 40), (40, 5), (40, 40)]
    for row, column in corners:
        mask[row : row + 12, column : column + 12] = True
    counts = set()
    for seed in range(60):
        damaged, parameters = corrupt(mask, seed, {"remove_parts": 1})
        if parameters.pieces:
            assert not parameters.shapes
            left = [damaged[r : r + 12, c : c + 12] for r, c in corners]
            assert all(piece.all() or not piece.any() for piece in left)
            counts.add(sum(bool(piece.any()) for piece in left))
            assert len(parameters.pieces) + sum(bool(piece.any()) for piece in left) == 4
    assert counts == {1, 2, 3}
    np.testing.assert_array_equal(
        RemoveParts(pieces=((5, 5),)).apply(mask)[:20, :20], np.zeros((20, 20), bool)
    )  # the piece that was named


def test_added_shapes_lie_in_or_near_the_object_and_take_nothing_away():
    for seed in SEEDS:
        mask = disk() if seed % 2 else blob(seed, (70, 80), 5, 0.1)
        damaged, parameters = corrupt(mask, seed, {"add_shapes": 1})
        assert not (mask & ~damaged).any()
        assert damaged.sum() > mask.sum()
        assert 1 <= len(parameters.shapes) <= 3
        away, side = distance_to(mask), np.sqrt(mask.sum())
        for shape in parameters.shapes:
            assert away[shape.centre] <= NEAR * side + 1
            alone = AddShapes((shape,)).apply(np.zeros_like(mask))
            assert alone.sum() <= 0.5 * mask.sum() * 1.15 + 8
        far = damaged & (away > 1.9 * side)  # middle at most .75 sides away, the shape itself about one more
        assert not far.any()


def test_added_shapes_are_of_all_kinds_both_apart_and_attached():
    mask = disk()
    kinds, counts = set(), set()
    for seed in range(60):
        damaged, parameters = corrupt(mask, seed, {"add_shapes": 1})
        kinds |= {shape.kind for shape in parameters.shapes}
        counts.add(min(ndimage.label(damaged, EIGHT)[1], 2))
    assert kinds == {"rectangle", "triangle", "polygon"}
    assert counts == {1, 2}


def test_merging_adds_a_connected_region_at_the_border():
    for seed in SEEDS:
        mask = disk() if seed % 2 else blob(seed, (70, 80), 5, 0.15)
        damaged, parameters = corrupt(mask, seed, {"merge_shapes": 1})
        assert not (mask & ~damaged).any()
        assert damaged.sum() > mask.sum()
        labels, count = ndimage.label(damaged, EIGHT)
        assert all((mask & (labels == i)).any() for i in range(1, count + 1))  # no piece without the object
        border = mask & ndimage.binary_dilation(~mask)
        assert all(border[shape.centre] for shape in parameters.shapes)


def test_merging_drops_what_does_not_hang_together_with_the_object():
    far = Shape("rectangle", (10, 100), ((5.0, 95.0), (5.0, 105.0), (15.0, 105.0), (15.0, 95.0)))
    mask = disk()
    np.testing.assert_array_equal(MergeShapes((far,)).apply(mask), mask)
    assert AddShapes((far,)).apply(mask).sum() > mask.sum()
