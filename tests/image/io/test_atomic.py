from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from limnet.errors import SaveError
from limnet.image.io.atomic import atomic_write


def _full(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    assert atomic_write(path, lambda p: p.write_bytes(b"one") and None) == path
    atomic_write(str(path), lambda p: p.write_bytes(b"two") and None)
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize(
    ("name", "suffix"), [("m.nii.gz", ".nii.gz"), ("a.b.npz", ".npz"), ("plain", ""), ("v.1.2.mha", ".mha")]
)
def test_temporary_keeps_the_suffix_and_folder(tmp_path: Path, name: str, suffix: str) -> None:
    seen: list[Path] = []

    def write(path: Path) -> None:
        seen.append(path)
        path.write_bytes(b"x")

    atomic_write(tmp_path / name, write)
    assert seen[0].parent == tmp_path
    assert seen[0].name.endswith(suffix)
    assert seen[0].name != name


def test_keeps_mode_and_follows_links(tmp_path: Path) -> None:
    real = tmp_path / "real.bin"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link = tmp_path / "link.bin"
    link.symlink_to(real)
    atomic_write(link, lambda p: p.write_bytes(b"new") and None)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert real.stat().st_mode & 0o777 == 0o640


def test_directory_target(tmp_path: Path) -> None:
    folder = tmp_path / "out.nii.gz"
    folder.mkdir()
    with pytest.raises(SaveError, match="is a directory"):
        atomic_write(folder, lambda p: p.write_bytes(b"x") and None)
    assert os.listdir(tmp_path) == ["out.nii.gz"]


def test_missing_parent(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="does not exist") as info:
        atomic_write(tmp_path / "no" / "a.bin", lambda p: p.write_bytes(b"x") and None)
    assert isinstance(info.value, OSError)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SaveError, match="is a file, not a folder"):
        atomic_write(tmp_path / "file" / "a.bin", lambda p: p.write_bytes(b"x") and None)


@pytest.mark.parametrize("where", ["fsync", "replace", "write"])
def test_disk_full_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        if where == "write":
            _full()

    if where != "write":
        monkeypatch.setattr(os, where, _full)
    with pytest.raises(SaveError, match="disk is full") as info:
        atomic_write(path, write)
    assert info.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_other_errors_and_interrupts_pass_through_and_clean_up(tmp_path: Path) -> None:
    for error in (ValueError("mine"), KeyboardInterrupt()):

        def write(temporary: Path, error: BaseException = error) -> None:
            temporary.write_bytes(b"half")
            raise error

        with pytest.raises(type(error)):
            atomic_write(tmp_path / "a.bin", write)
        assert os.listdir(tmp_path) == []


def test_writer_that_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="could not save"):
        atomic_write(tmp_path / "a.bin", lambda p: None)


KILLED = """
import os, sys
from limnet.image.io.atomic import atomic_write
def write(path):
    path.write_bytes(b"half")
    print(path.name, flush=True)
    if sys.argv[2] == "die":
        os._exit(9)
    sys.stdin.read()
atomic_write(sys.argv[1], write)
"""


def test_leftovers_of_killed_processes_go_and_others_stay(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a.nii.gz")]
    with subprocess.Popen([*command, "live"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        alive = process.stdout.readline().strip()
        dead = subprocess.run([*command, "die"], capture_output=True, text=True, check=False).stdout.strip()
        elsewhere = tmp_path / ".0123456789ab-00000000-1-tmp.npz"  # of another computer
        elsewhere.write_bytes(b"half")
        (tmp_path / ".mine-tmp.npz").write_bytes(b"no file of ours")
        assert dead in os.listdir(tmp_path)
        atomic_write(tmp_path / "b.bin", lambda p: p.write_bytes(b"x") and None)
        assert sorted(os.listdir(tmp_path)) == sorted([".mine-tmp.npz", elsewhere.name, alive, "b.bin"])
        os.utime(elsewhere, (1, 1))
        atomic_write(tmp_path / "b.bin", lambda p: p.write_bytes(b"x") and None)
        assert sorted(os.listdir(tmp_path)) == sorted([".mine-tmp.npz", alive, "b.bin"])
        process.communicate("")
    assert sorted(os.listdir(tmp_path)) == [".mine-tmp.npz", "a.nii.gz", "b.bin"]
