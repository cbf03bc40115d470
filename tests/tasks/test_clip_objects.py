from __future__ import annotations

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limnet.tasks.xmem import draw_frames, draw_references, largest_skip, split_objects


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_curriculum_of_skips() -> None:
    assert [largest_skip(p) for p in (0, 0.09, 0.1, 0.3, 0.79, 0.8, 1.0)] == [5, 5, 10, 15, 15, 5, 5]


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 60), st.integers(3, 8), st.integers(1, 15), st.integers(0, 10**6))
def test_frames_lie_in_the_clip_and_near_each_other(length: int, frames: int, skip: int, seed: int) -> None:
    picks = draw_frames(length, frames, skip, generator(seed))
    gaps = [b - a for a, b in itertools.pairwise(picks)]
    assert len(picks) == min(length, frames)
    assert 0 <= min(picks) <= max(picks) < length
    assert all(1 <= g <= skip for g in gaps) or all(-skip <= g <= -1 for g in gaps)


def test_both_directions_and_many_gaps_occur() -> None:
    draws = [draw_frames(40, 4, 5, generator(s)) for s in range(60)]
    assert 15 < sum(p[0] < p[-1] for p in draws) < 45
    assert {abs(b - a) for p in draws for a, b in itertools.pairwise(p)} == {1, 2, 3, 4, 5}


def test_objects_are_those_of_the_first_slice() -> None:
    labels = torch.zeros(2, 3, 6, 6, dtype=torch.uint8)
    labels[0, :, 0], labels[0, :2, 2], labels[0, 1:, 4] = 3, 7, 9  # 7 ends, 9 begins later
    masks = split_objects(labels, 3)
    assert masks.shape == (2, 3, 2, 6, 6)
    assert torch.equal(masks[0, :, 0], labels[0] == 3)
    assert torch.equal(masks[0, :, 1], labels[0] == 7)
    assert not masks[1].any()
    assert split_objects(labels, 1).shape[2] == 1
    picked = {int(split_objects(labels, 1, generator(s))[0, 0].nonzero()[0, 1]) for s in range(20)}
    assert picked == {0, 2}


def test_references_always_hold_the_first_slice() -> None:
    assert draw_references(1, 3, 2, generator()).tolist() == [[0], [0]]
    assert draw_references(3, 3, 2, generator()).tolist() == [[0, 1, 2]] * 2
    many = draw_references(7, 3, 200, generator())
    assert many.shape == (200, 3)
    assert many[:, 0].eq(0).all()
    assert set(many[:, 1:].flatten().tolist()) == {1, 2, 3, 4, 5, 6}
    assert bool((many[:, 1] != many[:, 2]).all())
    assert draw_references(5, 1, 3, generator()).tolist() == [[0]] * 3
