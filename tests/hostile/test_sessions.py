"""Sessions of killed processes, and on disks, folders and clocks that misbehave."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from limnet.case.case import Case, restore
from limnet.case.session import read_session
from limnet.errors import SaveError
from tests.case.test_case import everything
from tests.helpers.fake_engine import fake_case, fake_engine
from tests.helpers.small_segmenter import small_segmenter
from tests.hostile import kills, soak

resource = pytest.importorskip("resource", reason="limits of POSIX")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_killed_sessions_hold_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "SEQUENCES", 1)
    assert kills.run(4, seed=1000)["kills"] == 4


def resumed(path: Path) -> Case:
    return restore(read_session(path), fake_engine())


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writing beyond so many bytes fails in the middle of the file, as on a full disk (EFBIG in place of ENOSPC)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    path = tmp_path / "x.limnet"
    case = fake_case(autosave=path)
    case.click((6, 20, 24))
    before = everything(case)
    with file_size_limit(path.stat().st_size // 2):
        for z in (3, 8):
            with pytest.raises(SaveError, match="kept in memory"):
                case.click((z, 20, 24))
        for name in ("mask.nii.gz", "mask.nrrd", "mask.mha", "mask.npy"):
            with file_size_limit(20), pytest.raises(SaveError):
                case.save(tmp_path / name)
    assert everything(resumed(path)) == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.limnet"]
    case.click((9, 20, 24))  # there is room again
    assert everything(resumed(path)) == everything(case)
    assert case.prompted == (3, 6, 8, 9)


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Root may write anywhere: be nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")
def test_a_folder_that_becomes_read_only() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "x.limnet"
        case = fake_case(autosave=path)
        case.click((6, 20, 24))
        before = everything(case)
        folder.chmod(0o555)
        with ordinary_user(), pytest.raises(SaveError, match=r"kept in memory.*permission denied"):
            case.click((3, 20, 24))
        folder.chmod(0o755)
        assert everything(resumed(path)) == before
        case.click((8, 20, 24))
        assert everything(resumed(path)) == everything(case)
        assert [p.name for p in folder.iterdir()] == ["x.limnet"]


def test_a_folder_that_vanishes(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    case = fake_case(autosave=folder / "x.limnet")
    case.click((6, 20, 24))
    shutil.rmtree(folder)
    with pytest.raises(SaveError, match=r"kept in memory.*does not exist"):
        case.click((3, 20, 24))
    assert not folder.exists()
    folder.mkdir()
    case.click((8, 20, 24))
    assert everything(resumed(folder / "x.limnet")) == everything(case)
    assert case.prompted == (3, 6, 8)


def test_a_clock_that_moves_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.limnet"
    case = fake_case(autosave=path)
    case.click((6, 20, 24))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3e8)
    future = real() + 3e8
    os.utime(path, (future, future))
    case.click((3, 20, 24))
    os.utime(path, (0, 0))
    again = resumed(path)
    assert everything(again) == everything(case)
    again.click((8, 20, 24))
    assert everything(resumed(path)) == everything(again)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_a_few_cases_leave_no_file_open() -> None:
    noted = soak.soak(small_segmenter(), minutes=0, seed=2, side=48, most=8)
    assert len(noted["memory"]) == 3
    assert noted["files"][-1] <= noted["files"][0]


def test_what_counts_as_flat() -> None:
    flat = {"memory": [2**30 + n for n in range(90)], "files": [9] * 90, "steps": [1] * 90}
    assert soak.verdict(flat)[0]
    assert not soak.verdict({**flat, "memory": [2**30 + n * 2**20 for n in range(90)]})[0]
    assert not soak.verdict({**flat, "files": [9] * 89 + [10]})[0]
