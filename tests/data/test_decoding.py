from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limnet.data.cache import decode_case, few_bits, object_odds, objects_of, read_source, slice_axes
from limnet.data.clips import draw_clip
from limnet.errors import FileFormatError
from tests.helpers.fake_folders import body, saved_case


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([0, 200], np.uint8), np.uint8),
        (np.array([0.0, 200.0]), np.uint8),
        (np.array([-1000.0, 3000.0], np.float32), np.int16),
        (np.array([0, 40000], np.int32), np.uint16),
    ],
)
def test_whole_numbers_are_kept(values, dtype):
    found, scale, offset = few_bits(values.reshape(1, 1, -1))
    assert found.dtype == dtype
    assert (scale, offset) == (1.0, 0.0)
    assert np.array_equal(found.ravel(), values)


def test_hounsfield_units_are_rounded_and_cut():
    found, *units = few_bits(np.array([[[-1000.4, 12.6, 1e6, np.nan]]]), keep_units=True)
    assert found.tolist() == [[[-1000, 13, 32767, -1000]]]
    assert units == [1.0, 0.0]


@given(low=st.floats(-1e6, 1e6), spread=st.floats(1e-6, 1e9), seed=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_fractions_are_stretched(low, spread, seed):
    values = low + spread * np.random.default_rng(seed).random((3, 5, 7))
    found, scale, offset = few_bits(values)
    assert found.dtype in (np.int16, np.uint8, np.uint16)
    step = max(scale, np.spacing(abs(low) + spread) * 4)
    assert np.abs(found * scale + offset - values).max() <= step
    assert scale <= max(np.ptp(values) / 60000, 1.0 if np.array_equal(values, np.rint(values)) else 0)


def test_lone_extremes_leave_levels_to_the_rest():
    values = np.random.default_rng(0).normal(0, 1, (20, 20, 20))
    values[0, 0, 0] = 1e9
    found, scale, offset = few_bits(values)
    rest = values.ravel()[1:]
    assert np.abs(found.ravel()[1:] * scale + offset - rest).max() < 0.02


@pytest.mark.parametrize("ids", [(1, 2, 3), (5, 70000), (3, 2**40), (7,)])
def test_objects_and_their_boxes(ids):
    labels = np.zeros((6, 20, 22), np.uint64)
    for number, i in enumerate(ids):
        labels[number : number + 2, 3:11, 2 * number : 2 * number + 9] = i
    labels[5, 19, 21] = 9  # one voxel: no object
    found = {o["id"]: o for o in objects_of(labels)}
    assert sorted(found) == sorted(i for i in ids if (labels == i).sum() >= 40)
    for i, known in found.items():
        where = np.nonzero(labels == i)
        assert known["box"] == [[int(w.min()), int(w.max()) + 1] for w in where]
        assert known["count"] == len(where[0])
    assert objects_of(np.full((4, 4, 4), 8)) == [{"id": 8, "count": 64, "box": [[0, 4]] * 3}]
    assert objects_of(np.zeros((4, 4, 4), int)) == []


def test_small_objects_are_drawn_more_often(tmp_path):
    assert object_odds([1600, 100, 1600]) == (1.0, 2.0, 1.0)
    assert object_odds([10**9, 1])[1] == 4.0
    assert object_odds([]) == ()
    image, labels = (a.transpose(2, 1, 0) for a in body(0))
    source = read_source(saved_case(tmp_path, "a", image, labels))
    sizes = [int((labels == i).sum()) for i in source.ids]
    share = source.odds[1] / sum(source.odds)
    assert share == pytest.approx((sizes[0] / sizes[1]) ** 0.25 / (1 + (sizes[0] / sizes[1]) ** 0.25))
    drawn = []
    for seed in range(150):
        clip = draw_clip(np.random.default_rng(seed), source, 1, 32, part_probability=0.0)
        drawn.append(clip is not None)
    assert np.mean(drawn) > 0.8


def test_colours_become_gray_and_windows_follow(tmp_path):
    image = np.zeros((1, 30, 30, 3), np.uint8)
    image[..., 1] = 100
    labels = np.zeros((1, 30, 30), np.uint8)
    labels[:, 5:20, 5:20] = 1
    found, _, about = decode_case(saved_case(tmp_path, "p", image, labels, modality="photo", window=(0.0, 255.0)))
    assert found.shape == (1, 30, 30)
    assert np.unique(found).tolist() == [59]
    assert about["window"] == [0.0, 255.0]
    values = np.random.default_rng(0).random((1, 30, 30)) * 1e-3
    found, _, about = decode_case(saved_case(tmp_path, "m", values, labels, modality="mr", window=(2e-4, 8e-4)))
    share = [(w - found.min()) / (int(found.max()) - int(found.min())) for w in about["window"]]
    assert np.allclose(share, (0.2, 0.8), atol=0.01)


def test_hounsfield_units_are_recognised(tmp_path):
    image, labels = (a.transpose(2, 1, 0) for a in body(0))
    assert read_source(saved_case(tmp_path, "a", image, labels)).modality == "ct"
    assert read_source(saved_case(tmp_path, "b", image, labels, modality="mr")).modality == "other"
    assert read_source(saved_case(tmp_path, "c", image + 1000, labels)).modality == "other"


@pytest.mark.parametrize(
    ("shape", "spacing", "modality", "axes"),
    [
        ((50, 60, 70), (1.0, 1.0, 1.0), "mr", (0, 0, 1, 2)),
        ((50, 60, 70), (5.0, 0.8, 0.8), "ct", (0,)),
        ((50, 60, 70), (0.8, 5.0, 0.8), "mr", (1,)),
        ((1, 60, 70), (1.0, 1.0, 1.0), "other", (0,)),
        ((90, 60, 70), (1.0, 1.0, 1.0), "video", (0,)),
    ],
)
def test_axes(shape, spacing, modality, axes):
    assert slice_axes(shape, spacing, modality) == axes


def test_labels_that_are_none(tmp_path):
    with pytest.raises(FileFormatError, match="one grid"):
        decode_case(saved_case(tmp_path, "a", np.zeros((3, 4, 5), np.int16), np.zeros((3, 5, 4), np.uint8)))
    with pytest.raises(FileFormatError, match="whole numbers"):
        decode_case(saved_case(tmp_path, "b", np.zeros((3, 4, 5), np.int16), np.zeros((3, 4, 5))))
