from __future__ import annotations

import functools
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from limnet.data.cache import CaseCache, case_key, default_cache
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
    assert default_cache() == tmp_path / "mine"
    monkeypatch.delenv("LIMNET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert CaseCache().folder == tmp_path / "limnet" / "cases"
