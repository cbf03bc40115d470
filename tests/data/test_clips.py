from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limnet.data.clips import MIN_PIXELS, Source, blend, body, draw_clip, draw_pasted, random_window, whole_slice_crop


def source(shape: tuple[int, int, int] = (20, 60, 70), image: bool = True, **options: Any) -> Source:
    """A ball (1), a cylinder along axis 0 (2) and a speck (3)."""
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    labels = np.zeros(shape, np.uint8)
    centre = [s / 2 for s in shape]
    labels[(z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= (min(shape) / 3) ** 2] = 1
    labels[((y - shape[1] / 5) ** 2 + (x - shape[2] / 5) ** 2 <= (min(shape[1:]) / 8) ** 2) & (z >= 0)] = 2
    labels[0, -1, -1] = 3
    picture = (labels.astype(np.int16) * 300 - 200) if image else None
    return Source(labels, options.pop("spacing", (1.5, 1.0, 1.0)), picture, **options).with_ids()


def test_ids_of_some_size() -> None:
    assert source().ids == (1, 2)
    assert Source(np.zeros((3, 8, 8), np.uint8), (1, 1, 1)).with_ids().ids == ()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 4),
    st.sampled_from([32, 48]),
    st.sampled_from([(0,), (1,), (2,), (0, 0, 1, 2)]),
    st.sampled_from([(1.5, 1.0, 1.0), (6.0, 0.5, 0.5), (1.0, 2.0, 0.7)]),
    st.booleans(),
    st.sampled_from(["ct", "other"]),
)
def test_clips(
    seed: int,
    length: int,
    size: int,
    axes: tuple[int, ...],
    spacing: tuple[float, float, float],
    image: bool,
    kind: str,
) -> None:
    data = source(image=image, axes=axes, spacing=spacing, modality=kind)
    clip = draw_clip(np.random.default_rng(seed), data, length, size)
    again = draw_clip(np.random.default_rng(seed), data, length, size)
    if clip is None:
        assert again is None
        return
    assert again is not None
    picture, mask = clip
    assert picture.shape == mask.shape == (length, size, size)
    assert picture.dtype == np.uint8
    assert mask.dtype == bool
    assert mask[0].sum() >= MIN_PIXELS
    assert not mask[0].all()
    assert all(np.array_equal(a, b) for a, b in zip(clip, again, strict=True))


def test_most_draws_succeed() -> None:
    data = source()
    drawn = [draw_clip(np.random.default_rng(i), data, 1, 32) for i in range(60)]
    assert sum(d is not None for d in drawn) > 40
    masks = [d[1] for d in drawn if d is not None]
    assert len({m.tobytes() for m in masks}) == len(masks)


def test_image_and_mask_belong_together() -> None:
    data = source(modality="ct")
    for seed in range(40):
        clip = draw_clip(np.random.default_rng(seed), data, 2, 48, paint_probability=0.0)
        if clip is None or clip[1][0].sum() < 60:
            continue
        image, mask = clip[0][0].astype(float), clip[1][0]
        inside = image[mask]
        assert inside.std() <= 60
        assert abs(np.median(inside) - np.median(image[~mask])) > 10


def test_object_spans_what_was_asked_for() -> None:
    spans = []
    for seed in range(60):
        clip = draw_clip(np.random.default_rng(seed), source((20, 200, 200), axes=(0,)), 1, 64, (0.3, 0.5))
        if clip is not None:
            rows, columns = np.flatnonzero(clip[1][0].any(1)), np.flatnonzero(clip[1][0].any(0))
            spans.append(max(np.ptp(rows), np.ptp(columns)) + 1)
    spans_share = np.array(spans) / 64
    assert len(spans) > 20
    assert 0.28 < np.median(spans_share) < 0.55


def test_whole_slices_show_an_object_as_small_as_it_is() -> None:
    """Of XMem's crops, which hold .36 to 1 of a slice, and along the first axis only."""
    labels = np.zeros((30, 240, 240), np.uint8)
    labels[:, 100:124, 110:134] = 1
    thin = Source(labels, (1.0, 1.0, 1.0), labels.astype(np.int16), ids=(1,))
    sides = []
    for seed in range(80):
        clip = draw_clip(np.random.default_rng(seed), thin, 2, 96, (0.5, 0.6), whole_slices=True)
        if clip is not None and not clip[1][0][[0, -1]].any() and not clip[1][0][:, [0, -1]].any():
            sides.append(np.sqrt(clip[1][0].sum()) / 96)
    assert len(sides) > 50
    assert 0.095 < min(sides) < 0.115  # all of the slice: 24 of 240 pixels
    assert 0.14 < max(sides) < 0.175  # a crop of .6 of its side


@pytest.mark.parametrize("shape", [(100, 100), (80, 120), (30, 200)])
def test_crops_of_whole_slices(shape: tuple[int, int]) -> None:
    rng, areas, tops = np.random.default_rng(0), [], []
    for _ in range(200):
        rows, columns = whole_slice_crop(rng, shape)
        assert 0 <= rows.start < rows.stop <= shape[0]
        assert 0 <= columns.start < columns.stop <= shape[1]
        sides = rows.stop - rows.start, columns.stop - columns.start
        assert 0.72 < sides[1] / sides[0] < 1.39
        areas.append(sides[0] * sides[1] / (shape[0] * shape[1]))
        tops.append(rows.start / max(shape[0] - sides[0], 1))
    if shape[0] * 3 > shape[1]:
        assert min(areas) < 0.45
        assert max(areas) > 0.85 * min(1, 4 / 3 * shape[0] / shape[1])
        assert 0.35 < np.mean(tops) < 0.65


def test_failed_draws() -> None:
    rng = np.random.default_rng(0)
    assert draw_clip(rng, Source(np.zeros((4, 8, 8), np.uint8), (1, 1, 1)), 1, 32) is None
    assert draw_clip(rng, source((4, 40, 40), axes=(0,)), 5, 32) is None  # fewer slices than asked for
    speck = np.zeros((4, 20, 20), np.uint8)
    speck[1, 3, 3] = 1
    assert draw_clip(rng, Source(speck, (1, 1, 1), ids=(1,)), 1, 32) is None


def test_single_slices() -> None:
    data = source((1, 60, 60), axes=(0,))
    drawn = [draw_clip(np.random.default_rng(i), data, 1, 32) for i in range(10)]
    assert any(d is not None for d in drawn)


@pytest.mark.parametrize("modality", ["ct", "other"])
def test_windows_are_wide_enough(modality: str) -> None:
    data = source(modality=modality)
    assert data.image is not None
    image = data.image[10].astype(np.float32)
    for seed in range(50):
        low, high = random_window(np.random.default_rng(seed), data, data.labels[10] == 1, image)
        assert np.isfinite([low, high]).all()
        assert high > low


def test_constant_images_are_fine() -> None:
    data = source()
    blank = Source(data.labels, data.spacing, np.full(data.labels.shape, 7, np.int16), ids=data.ids)
    for seed in range(10):
        clip = draw_clip(np.random.default_rng(seed), blank, 1, 32, paint_probability=0.0)
        assert clip is None or clip[1][0].sum() >= MIN_PIXELS


def slope(shape: tuple[int, int, int] = (14, 50, 60), **options: object) -> Source:
    noise = np.random.default_rng(0).normal(100, 20, shape)
    image = (noise + np.arange(shape[2]) * 3).astype(np.int16)
    return Source(np.zeros(shape, np.uint8), (2.0, 1.0, 1.0), image, axes=(0,), **options)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_pasted_clips(seed: int, length: int) -> None:
    clip = draw_pasted(np.random.default_rng(seed), slope(), length, 48)
    again = draw_pasted(np.random.default_rng(seed), slope(), length, 48)
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


def test_most_bodies_can_be_pasted_and_differ_from_what_was_there() -> None:
    rng = np.random.default_rng(1)
    clips = [clip for clip in (draw_pasted(rng, slope(), 1, 48) for _ in range(60)) if clip is not None]
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
    assert draw_pasted(rng, slope((3, 40, 40)), 4, 32) is None


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
