from __future__ import annotations

import functools
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limnet.data.cache import (
    CaseCache,
    case_key,
    decode_case,
    few_bits,
    object_odds,
    objects_of,
    read_source,
    slice_axes,
)
from limnet.data.clips import draw_clip
from limnet.data.dataset import LabelledCase
from limnet.errors import FileFormatError, InputError, SaveError
from tests.helpers.fake_folders import body, load_image, saved_case


def three(folder: Path) -> list[LabelledCase]:
    return [saved_case(folder, f"c{i}", *(a.transpose(2, 1, 0) for a in body(i)), modality="ct") for i in range(3)]


def test_entries_are_read_through_memory_maps(tmp_path):
    cases, cache = three(tmp_path / "data"), CaseCache(tmp_path / "cache")
    assert cache.build(cases, progress=False) == 3
    source = cache.open(cases[1])
    assert isinstance(source.image, np.memmap)
    assert isinstance(source.labels, np.memmap)
    assert not source.image.flags.writeable
    assert source.labels.dtype == np.uint8
    assert source.image.dtype == np.int16
    assert np.array_equal(source.image, cases[1].read_image().array)
    assert np.array_equal(source.labels, cases[1].read_labels())
    assert (source.spacing, source.modality, source.ids) == ((2.5, 1.5, 1.0), "ct", (1, 2))


def test_interrupted_build_goes_on(tmp_path, monkeypatch):
    cases, cache = three(tmp_path / "data"), CaseCache(tmp_path / "cache")
    import limnet.data.cache as module

    decode, calls = module.decode_case, []

    def stopped(case):
        calls.append(case.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return decode(case)

    monkeypatch.setattr(module, "decode_case", stopped)
    with pytest.raises(KeyboardInterrupt):
        cache.build(cases, progress=False)
    assert [cache.has(c) for c in cases] == [True, False, False]
    calls.extend("x")
    first = cache.path(cases[0]).stat().st_mtime_ns
    assert cache.build(cases, progress=False) == 2
    assert cache.path(cases[0]).stat().st_mtime_ns == first
    assert cache.build(cases, progress=False) == 0


def test_death_while_writing_leaves_no_entry(tmp_path, monkeypatch):
    case, cache = three(tmp_path / "data")[0], CaseCache(tmp_path / "cache")
    save = np.save

    def dies(path, array):
        if Path(path).name == "labels.npy":
            raise KeyboardInterrupt
        save(path, array)

    monkeypatch.setattr(np, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        cache.add(case)
    assert not cache.has(case)
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == []


def test_damaged_entry_is_made_anew(tmp_path):
    case, cache = three(tmp_path / "data")[0], CaseCache(tmp_path / "cache")
    file = cache.add(case) / "image.npy"
    file.write_bytes(file.read_bytes()[:-100])
    assert not cache.has(case)
    with pytest.raises(FileFormatError, match="not in the cache"):
        cache.open(case)
    assert cache.build([case], progress=False) == 1
    assert np.array_equal(cache.open(case).image, case.read_image().array)


def test_changed_file_gets_another_entry(tmp_path):
    case = three(tmp_path / "data")[0]
    before = case_key(case)
    assert case_key(pickle.loads(pickle.dumps(case))) == before
    path = tmp_path / "data" / "c0_labels.npy"
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 10**9))
    assert case_key(case) != before


def test_key_sees_files_in_folders_and_arguments(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "1.png").write_bytes(b"1")

    def key(*extra):
        read = functools.partial(load_image, frames, *extra)
        return case_key(LabelledCase("a", "a", "video", {}, read, functools.partial(np.load, [frames / "1.png"])))

    first = key()
    assert key() == first
    assert key(3) != first
    (frames / "2.png").write_bytes(b"2")
    assert key() != first


def test_function_that_cannot_be_recognised(tmp_path):
    case = three(tmp_path)[0]
    for read in (lambda: None, functools.partial(lambda: None)):
        with pytest.raises(InputError, match=r"functools\.partial"):
            case_key(LabelledCase("a", "a", "ct", {}, case.read_image, read))


def test_broken_cases_are_named_and_the_others_kept(tmp_path):
    cases, cache = three(tmp_path / "data"), CaseCache(tmp_path / "cache")
    np.save(tmp_path / "data" / "c1_labels.npy", np.zeros((2, 2, 2), np.uint8))
    (tmp_path / "data" / "c2_image.npy").unlink()
    with pytest.raises(FileFormatError, match=r"(?s)2 of 3 cases could not be read.*c1: .*one grid.*c2: ") as error:
        cache.build(cases, progress=False)
    assert "c0" not in str(error.value)
    assert cache.has(cases[0])


def test_unwritable_cache(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(SaveError, match="could not save"):
        CaseCache(tmp_path / "cache").build(three(tmp_path / "data"), progress=False)


def test_leftovers_of_killed_builds_go(tmp_path):
    case, cache = three(tmp_path / "data")[0], CaseCache(tmp_path / "cache")
    old, new = (cache.path(case).with_name(f".{name}.tmp") for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    cache.add(case)
    assert not old.exists()
    assert new.exists()


def test_another_process_may_be_first(tmp_path, monkeypatch):
    case, cache = three(tmp_path / "data")[0], CaseCache(tmp_path / "cache")
    other = cache.add(case)
    saved = tmp_path / "saved"
    shutil.copytree(other, saved)
    shutil.rmtree(other)
    rename = os.rename

    def late(source, target):
        shutil.copytree(saved, target)
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert cache.add(case) == other
    assert cache.has(case)
    assert not list(other.parent.glob(".*"))


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMNET_CACHE", str(tmp_path / "mine"))
    assert CaseCache().folder == tmp_path / "mine" / "cases"
    monkeypatch.delenv("LIMNET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert CaseCache().folder == tmp_path / "limnet" / "cases"


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
