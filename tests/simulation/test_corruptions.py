from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree

from limnet.errors import InputError
from limnet.simulation.corruptions import (
    CORRUPTIONS,
    NEAR,
    PAPER,
    SHAPES,
    AddShapes,
    DisplaceBoundary,
    MergeShapes,
    Morphology,
    RemoveParts,
    Shape,
    Smooth,
    apply,
    corrupt,
    corrupt_batch,
    draw_corruption,
    from_json,
    kind_of,
    to_json,
)
from tests.helpers.blobs import blob, disk, iou, perimeter

KINDS = list(CORRUPTIONS)
EIGHT = np.ones((3, 3), bool)


def test_the_papers_six_kinds_and_probabilities():
    assert list(PAPER) == ["add_shapes", "morphology", "displace_boundary", "smooth", "remove_parts", "merge_shapes"]
    assert list(PAPER.values()) == [0.1, 0.1, 0.3, 0.2, 0.1, 0.2]


@pytest.mark.parametrize("chances", [PAPER, [0.0, 0.5, 0.0, 0.2, 0.3, 0.0], {"smooth": 0.25, "morphology": 0.75}])
def test_kinds_are_as_frequent_as_asked(chances):
    mask, count = disk((40, 40), (20, 20), 8), 800
    seen = [kind_of(draw_corruption(np.random.default_rng(s), mask, chances)) for s in range(count)]
    wanted = chances if hasattr(chances, "keys") else dict(zip(KINDS, chances, strict=True))
    for kind in KINDS:
        p = wanted.get(kind, 0.0)
        assert abs(seen.count(kind) / count - p) <= 4.5 * np.sqrt(p * (1 - p) / count)


def test_dilation_and_erosion_are_equally_frequent():
    mask = disk()
    drawn = [draw_corruption(np.random.default_rng(s), mask, {"morphology": 1}) for s in range(400)]
    share = sum(p.operation == "dilate" for p in drawn) / len(drawn)
    assert 0.4 < share < 0.6
    assert {p.iterations for p in drawn if p.operation == "dilate"} == set(range(10, 31))
    assert {p.iterations for p in drawn if p.operation == "erode"} == {10}


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind: str):
    mask = disk()
    before = mask.copy()
    results = [corrupt(mask, [7, 0, case, 3], {kind: 1}) for case in range(12)]
    again = [corrupt(mask, [7, 0, case, 3], {kind: 1}) for case in range(12)]
    for (a, p), (b, q) in zip(results, again, strict=True):
        assert p == q
        np.testing.assert_array_equal(a, b)
    assert len({str(p) for _, p in results}) > 1
    assert any((a != mask).any() for a, _ in results)
    np.testing.assert_array_equal(mask, before)  # the truth stays untouched


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_survive_json_and_give_the_identical_mask(kind: str):
    for seed in range(15):
        mask = blob(seed)
        damaged, parameters = corrupt(mask, seed, {kind: 1})
        record = json.loads(json.dumps(to_json(parameters)))
        assert record["kind"] == kind
        assert from_json(record) == parameters
        np.testing.assert_array_equal(apply(mask, from_json(record)), damaged)


@given(
    seed=st.integers(0, 2**20),
    kind=st.sampled_from(KINDS),
    roughness=st.floats(0.3, 8),
    share=st.floats(0.0005, 0.999),
    height=st.integers(2, 50),
    width=st.integers(2, 50),
)
@settings(max_examples=150, deadline=None)
def test_never_empty_and_never_the_whole_slice(seed, kind, roughness, share, height, width):
    mask = blob(seed, (height, width), roughness, share)
    if not mask.any() or mask.all():
        return
    damaged, _ = corrupt(mask, seed, {kind: 1})
    assert damaged.shape == mask.shape
    assert damaged.dtype == bool
    assert damaged.any()
    assert not damaged.all()


@given(seed=st.integers(0, 2**20), other=st.integers(0, 2**20), kind=st.sampled_from(KINDS))
@settings(max_examples=60, deadline=None)
def test_parameters_drawn_for_another_mask_are_safe(seed, other, kind):
    parameters = draw_corruption(np.random.default_rng(seed), blob(seed, (90, 80)), {kind: 1})
    damaged = apply(blob(other, (30, 33), 2), parameters)
    assert damaged.any()
    assert not damaged.all()


def test_amounts_follow_the_size_of_the_object():
    def dilations(mask: np.ndarray) -> dict[int, float]:
        drawn = (draw_corruption(np.random.default_rng(s), mask, {"morphology": 1}) for s in range(60))
        return {p.iterations: p.distance for p in drawn if p.operation == "dilate"}

    typical = np.zeros((480, 480), bool)
    typical[180:300, 180:300] = True  # a sixteenth of the slice: the paper's numbers as they are
    assert all(distance == iterations for iterations, distance in dilations(typical).items())
    half = np.zeros((480, 480), bool)
    half[180:240, 180:240] = True
    assert all(distance == iterations / 2 for iterations, distance in dilations(half).items())
    window = np.zeros((160, 160), bool)
    window[50:110, 50:110] = True  # the same object in a small window is damaged the same
    assert dilations(window) == dilations(half)
    thin = np.zeros((480, 480), bool)
    thin[238:242, :360] = True  # 4 pixels wide: the area says 10 to 30 pixels, the width 1 to 1.5
    assert max(dilations(thin).values()) <= 2


@pytest.mark.parametrize("kind", KINDS)
def test_damage_of_a_small_object_is_in_proportion(kind: str):
    small = disk((256, 256), (128, 128), 6)
    for seed in range(40):
        damaged, _ = corrupt(small, seed, {kind: 1})
        assert 0.1 * small.sum() <= damaged.sum() <= 4 * small.sum()


def test_what_would_vanish_or_fill_everything_keeps_its_middle():
    mask = disk((60, 60), (30, 30), 10)
    emptied = apply(mask, Morphology("erode", 10, 50.0))
    assert emptied.sum() == 1
    assert emptied[30, 30]
    filled = apply(mask, Morphology("dilate", 30, 500.0))
    assert not filled.all()
    assert not filled[[0, 0, -1, -1], [0, -1, 0, -1]].all()
    assert filled.sum() >= filled.size - 4
    pieces = tuple((int(r), int(c)) for r, c in np.argwhere(mask)[:1])
    assert apply(mask, RemoveParts(pieces=pieces)).any()


@pytest.mark.parametrize(
    ("probabilities", "word"),
    [
        ([0.5, 0.5], "6"),
        ([0.5, 0.5, 0.5, 0, 0, 0], "sum to 1"),
        ([1.5, -0.5, 0, 0, 0, 0], "0 or more"),
        ({"blur": 1.0}, "blur"),
        ([np.nan, 1, 0, 0, 0, 0], "sum to 1"),
    ],
)
def test_bad_probabilities(probabilities, word: str):
    with pytest.raises(InputError, match=word):
        corrupt(disk(), 0, probabilities)


def test_bad_masks():
    for mask, word in ((np.zeros((9, 9)), "empty"), (np.ones((9, 9)), "whole slice"), (np.ones((3, 9, 9)), "H, W")):
        with pytest.raises(InputError, match=word):
            corrupt(mask, 0)
        with pytest.raises(InputError, match=word):
            apply(mask, Smooth(2.0))
    with pytest.raises(InputError, match="B, 1, H, W"):
        corrupt_batch(torch.ones(2, 8, 8, dtype=torch.bool), torch.Generator())


def test_bad_records():
    with pytest.raises(InputError, match="known kinds"):
        from_json({"kind": "blur"})
    with pytest.raises(InputError, match="sigma"):
        from_json({"kind": "smooth", "width": 3})
    with pytest.raises(InputError, match="cannot be read"):
        from_json({"kind": "add_shapes", "shapes": [{"kind": "star"}]})
    with pytest.raises(InputError, match="no corruption"):
        to_json("smooth")  # type: ignore[arg-type]


def drawn(kind: str, share: float = 0.2, seeds: range = range(40)):
    """Disks and random objects in turns, damaged by one kind: truth, result, parameters."""
    for seed in seeds:
        mask = disk() if seed % 2 else blob(seed, (70, 80), 5, share)
        yield mask, *corrupt(mask, seed, {kind: 1})


def distance_to(region: np.ndarray) -> np.ndarray:
    """Reference: distance of every pixel to the nearest pixel of a region, found in a search tree."""
    grid = np.indices(region.shape).reshape(2, -1).T
    return cKDTree(np.argwhere(region)).query(grid)[0].reshape(region.shape)


@pytest.mark.parametrize("distance", [1.0, 2.3, 4.0, 30.0])
def test_the_border_moves_by_the_distance_and_nothing_else_changes(distance: float):
    mask = blob(1, (30, 34), 2, 0.1)
    grown = Morphology("dilate", 10, distance).apply(mask)
    np.testing.assert_array_equal(grown, distance_to(mask) <= distance)
    assert grown.sum() > mask.sum()
    mask = disk((36, 40), (17, 20), 11)
    shrunk = Morphology("erode", 10, distance).apply(mask)
    np.testing.assert_array_equal(shrunk, mask & (distance_to(~mask) > distance))
    assert (shrunk.sum() > 0) == (distance < 11)


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
    for mask, damaged, parameters in drawn("displace_boundary"):
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
    for seed in range(40):
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
    for mask, damaged, _ in drawn("remove_parts"):
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
    for mask, damaged, parameters in drawn("add_shapes", 0.1):
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
    for mask, damaged, parameters in drawn("merge_shapes", 0.15):
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


def covered(shape: Shape, size: tuple[int, int]) -> np.ndarray:
    """Slow reference: winding number of the outline around every pixel centre."""
    corners = np.array(shape.vertices)
    out = np.zeros(size, bool)
    for pixel in np.ndindex(*size):
        rays = corners - pixel
        angles = np.arctan2(rays[:, 0], rays[:, 1])
        turns = (np.diff(np.append(angles, angles[0])) + np.pi) % (2 * np.pi) - np.pi
        out[pixel] = abs(turns.sum()) > np.pi
    out[shape.centre] = True
    return out


@pytest.mark.parametrize("seed", range(12))
def test_painting_equals_the_winding_number(seed: int):
    rng = np.random.default_rng(seed)
    shape = Shape.draw(rng, (int(rng.integers(24)), int(rng.integers(28))), float(rng.uniform(1, 200)))
    canvas = np.zeros((24, 28), bool)
    shape.paint(canvas)
    np.testing.assert_array_equal(canvas, covered(shape, canvas.shape))
    full = np.ones((24, 28), bool)
    shape.paint(full, False)
    np.testing.assert_array_equal(full, ~canvas)


def test_shapes_have_the_area_asked_for_and_every_kind_appears():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(90):
        area = float(rng.uniform(200, 3000))
        shape = Shape.draw(rng, (150, 150), area)
        canvas = np.zeros((300, 300), bool)
        shape.paint(canvas)
        assert canvas.sum() == pytest.approx(area, rel=0.12)
        assert canvas[150, 150]
        seen.add((shape.kind, len(shape.vertices)))
    assert {kind for kind, _ in seen} == set(SHAPES)
    assert {n for kind, n in seen if kind == "rectangle"} == {4}
    assert {n for kind, n in seen if kind == "triangle"} == {3}
    assert {n for kind, n in seen if kind == "polygon"} == {5, 6, 7, 8, 9}


def test_a_shape_smaller_than_a_pixel_paints_its_centre():
    canvas = np.zeros((5, 5), bool)
    Shape("triangle", (2, 3), ((2.1, 3.1), (2.2, 3.2), (2.1, 3.2))).paint(canvas)
    assert np.argwhere(canvas).tolist() == [[2, 3]]
    outside = Shape("triangle", (9, 9), ((8.0, 8.0), (9.0, 9.5), (9.5, 8.0)))
    outside.paint(canvas)
    assert canvas.sum() == 1


def batch() -> torch.Tensor:
    masks = np.stack([disk((64, 64), (30, 30), 12), *(blob(s, (64, 64)) for s in range(3))])
    return torch.from_numpy(masks)[:, None]


def test_every_sample_is_the_numpy_form_with_its_own_seed():
    target = batch()
    damaged = corrupt_batch(target, torch.Generator().manual_seed(3))
    seeds = torch.randint(0, 2**62, (4,), generator=torch.Generator().manual_seed(3)).tolist()
    assert damaged.shape == target.shape
    assert damaged.dtype == torch.float32
    for i, seed in enumerate(seeds):
        np.testing.assert_array_equal(damaged[i, 0].numpy(), corrupt(target[i, 0].numpy(), seed)[0].astype(np.float32))
    assert (damaged != target.float()).flatten(1).any(1).sum() >= 3


def test_empty_and_full_masks_come_back_and_use_up_the_same_draws():
    target = batch()
    mixed = target.clone()
    mixed[0], mixed[1] = False, True
    a, b = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    whole, part = corrupt_batch(target, a), corrupt_batch(mixed, b)
    assert not part[0].any()
    assert part[1].all()
    assert torch.equal(whole[2:], part[2:])
    assert torch.equal(a.get_state(), b.get_state())


def test_pixels_as_the_paper_prints_them():
    target = torch.from_numpy(disk((160, 160), (80, 80), 12))[None, None].repeat(40, 1, 1, 1)

    def growth(literal: bool) -> np.ndarray:
        damaged = corrupt_batch(target, torch.Generator().manual_seed(2), {"morphology": 1}, literal).numpy() > 0
        reach = [np.flatnonzero(mask[0, 80]).max() - 92 for mask in damaged]
        return np.array([r for r in reach if r > 0])  # the dilated ones

    assert growth(True).min() >= 9
    assert growth(True).max() <= 30
    assert growth(False).max() < 9
    with_object = corrupt_batch(target, torch.Generator().manual_seed(2), {"morphology": 1}, True)
    assert with_object.flatten(1).any(1).all(), "an erosion of 10 leaves something"
