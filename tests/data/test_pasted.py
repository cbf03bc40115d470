from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limnet.data.clips import MIN_PIXELS, Source, blend, body, draw_pasted


def source(shape: tuple[int, int, int] = (14, 50, 60), **options: object) -> Source:
    noise = np.random.default_rng(0).normal(100, 20, shape)
    image = (noise + np.arange(shape[2]) * 3).astype(np.int16)
    return Source(np.zeros(shape, np.uint8), (2.0, 1.0, 1.0), image, axes=(0,), **options)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_pasted_clips(seed: int, length: int) -> None:
    clip = draw_pasted(np.random.default_rng(seed), source(), length, 48)
    again = draw_pasted(np.random.default_rng(seed), source(), length, 48)
    assert (clip is None) == (again is None)
    if clip is None or again is None:
        return
    image, mask = clip
    assert image.shape == mask.shape == (length, 48, 48)
    assert image.dtype == np.uint8
    assert mask.dtype == bool
    assert mask[0].sum() >= MIN_PIXELS
    assert not mask.all()
    assert np.array_equal(image, again[0])
    assert np.array_equal(mask, again[1])


def test_most_draws_succeed_and_bodies_differ_from_what_was_there() -> None:
    rng = np.random.default_rng(1)
    clips = [clip for clip in (draw_pasted(rng, source(), 1, 48) for _ in range(60)) if clip is not None]
    assert len(clips) > 40
    gaps = []
    for image, mask in clips:
        if (~mask).any():
            gaps.append(abs(float(image[mask].mean()) - float(image[~mask].mean())))
    assert np.median(gaps) > 10


def test_nothing_to_paste_into() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((3, 40, 40), np.uint8)
    assert draw_pasted(rng, Source(labels, (1.0, 1.0, 1.0)), 1, 32) is None
    flat = Source(labels, (1.0, 1.0, 1.0), np.zeros((3, 40, 40), np.int16), axes=(0,))
    assert draw_pasted(rng, flat, 1, 32) is None
    assert draw_pasted(rng, source((3, 40, 40)), 4, 32) is None


@pytest.mark.parametrize("diameter", [8.0, 20.0])
def test_a_body_has_the_size_asked_for_and_ends(diameter: float) -> None:
    for seed in range(20):
        found = body(np.random.default_rng(seed), 30, 64, diameter, 1.5)
        rows, columns = (np.flatnonzero(found[0].any(axis)) for axis in (1, 0))
        extent = max(np.ptp(rows), np.ptp(columns)) + 1 if len(rows) else 0
        assert extent <= 1.8 * diameter
        assert not found[-1].any()  # 30 slices of 1.5 pixels are longer than any body


def test_blending_leaves_what_is_far_away() -> None:
    image = np.random.default_rng(0).normal(0, 1, (2, 40, 40)).astype(np.float32)
    mask = np.zeros(image.shape, bool)
    mask[:, 5:12, 5:12] = True
    mixed = blend(np.random.default_rng(3), image, mask, 4.0)
    assert np.array_equal(mixed[:, 25:, 25:], image[:, 25:, 25:])
    assert abs(float(mixed[mask].mean() - image[mask].mean())) > 0.1
