from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limnet.errors import InputError
from limnet.simulation.corruption import PAPER, apply, corrupt, draw_corruption, from_json, to_json
from limnet.simulation.corruption_kinds import CORRUPTIONS, Morphology, RemoveParts, Smooth, kind_of
from tests.helpers.blobs import blob, disk

KINDS = list(CORRUPTIONS)


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


def test_bad_records():
    with pytest.raises(InputError, match="known kinds"):
        from_json({"kind": "blur"})
    with pytest.raises(InputError, match="sigma"):
        from_json({"kind": "smooth", "width": 3})
    with pytest.raises(InputError, match="cannot be read"):
        from_json({"kind": "add_shapes", "shapes": [{"kind": "star"}]})
    with pytest.raises(InputError, match="no corruption"):
        to_json("smooth")  # type: ignore[arg-type]
