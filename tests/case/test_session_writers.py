"""Several writers of one session, and files that are no session: nothing is lost without a word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from limnet.case.case import Case, restore
from limnet.case.session import read_session
from limnet.case.state import Book, ObjectState
from limnet.errors import ConflictError, InputError, SaveError
from limnet.image.volume import Volume
from tests.case.test_case import everything
from tests.helpers.fake_engine import fake_case, fake_engine, phantom

ROOT = Path(__file__).resolve().parents[2]


def resumed(path: Path) -> Case:
    return restore(read_session(path), fake_engine())


def test_the_second_writer_of_a_session_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.limnet"
    fake_case(autosave=path).click((6, 20, 24))
    first, second = resumed(path), resumed(path)
    first.click((3, 20, 24))
    held = path.read_bytes()
    with pytest.raises(ConflictError, match=r"kept in memory, but .*x\.limnet holds steps that this case has not seen"):
        second.click((8, 20, 24))
    assert path.read_bytes() == held
    assert everything(resumed(path)) == everything(first)
    assert second.prompted == (6, 8)  # in memory
    with pytest.raises(ConflictError, match="behind"):
        second.undo()
    kept = second.save_session(tmp_path / "y.limnet")
    assert everything(resumed(kept)) == everything(second)
    first.click((9, 20, 24))  # the first goes on undisturbed
    assert everything(resumed(path)) == everything(first)
    second.save_session(path, overwrite=True)  # said aloud
    with pytest.raises(ConflictError):
        first.undo()
    second.click((8, 20, 24))
    assert everything(resumed(path)) == everything(second)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.limnet", "y.limnet"]


def test_a_session_that_was_moved_away_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "x.limnet"
    case = fake_case(autosave=path)
    path.rename(tmp_path / "elsewhere")
    case.click((6, 20, 24))
    assert everything(resumed(path)) == everything(case)


def test_saving_by_hand_goes_by_the_same_rule(tmp_path: Path) -> None:
    path = tmp_path / "x.limnet"
    case = fake_case()
    case.save_session(path)
    case.click((6, 20, 24))
    case.save_session(path)
    (tmp_path / "link").symlink_to(path)
    case.click((3, 20, 24))
    assert case.save_session(tmp_path / "link") == path
    other = fake_case()
    with pytest.raises(ConflictError, match="another process or case"):
        other.save_session(path)
    with pytest.raises(ConflictError):
        fake_case(autosave=path)
    assert everything(resumed(path)) == everything(case)
    other.save_session(path, overwrite=True)
    assert everything(resumed(path)) == everything(other)


@pytest.mark.parametrize("content", [b"", b"notes", b"PK\x05\x06" + bytes(18), b"PK\x03\x04broken"])
def test_a_session_replaces_no_other_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"notes\.txt exists and is no session file"):
            fake_case().save_session(path, overwrite=overwrite)
    assert path.read_bytes() == content


def test_a_session_never_replaces_the_image(tmp_path: Path) -> None:
    np.savez(tmp_path / "scan.npz", image=phantom())  # a zip file, too
    nibabel.save(nibabel.Nifti1Image(phantom(), np.eye(4)), tmp_path / "scan.nii.gz")
    for name in ("scan.npz", "scan.nii.gz"):
        before = (tmp_path / name).read_bytes()
        case = Case(fake_engine(), Volume.read(tmp_path / name))
        with pytest.raises(InputError, match="no session file"):
            case.save_session(tmp_path / name, overwrite=True)
        with pytest.raises(InputError, match="no session file"):
            Case(fake_engine(), case.volume, autosave=tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


def test_a_file_that_takes_the_place_of_the_session(tmp_path: Path) -> None:
    path = tmp_path / "x.limnet"
    case = fake_case(autosave=path)
    path.write_text("notes")
    with pytest.raises(InputError, match="kept in memory"):
        case.click((6, 20, 24))
    assert path.read_text() == "notes"
    assert case.prompted == (6,)


def test_ctrl_c_right_after_the_file_was_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.limnet"
    case = fake_case(autosave=path)
    real = os.replace

    def replace(*names: object) -> None:
        real(*names)  # type: ignore[call-overload]
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        case.click((6, 20, 24))
    monkeypatch.undo()
    assert case.rounds == ()
    case.click((3, 20, 24))  # no conflict with itself
    assert everything(resumed(path)) == everything(case)


def test_threads_lose_no_step_of_a_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = fake_case(autosave=tmp_path / "x.limnet")
    push = Book.push

    def slow(book: Book, name: str, state: ObjectState) -> Book:
        time.sleep(0.002)  # long enough for the other threads to come in between
        return push(book, name, state)

    monkeypatch.setattr(Book, "push", slow)
    names = [f"object {n}" for n in range(6)]
    start = threading.Barrier(len(names))
    faults: list[BaseException] = []

    def work(name: str) -> None:
        try:
            start.wait()
            for z in range(4):
                case.object(name).click((z, 20, 24), propagate=False)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert sorted(case.objects) == names
    assert all(case.object(name).prompted == (0, 1, 2, 3) for name in names)
    assert everything(resumed(tmp_path / "x.limnet")) == everything(case)


WRITER = """
import sys
from pathlib import Path
from limnet.errors import ConflictError
from limnet.case.state import Book, ObjectState
from limnet.case.case import restore
from limnet.case.session import read_session
from tests.helpers.fake_engine import fake_engine
case = restore(read_session(Path(sys.argv[1])), fake_engine())
print("ready", flush=True)
sys.stdin.readline()
try:
    case.click((int(sys.argv[2]), 20, 24))
    print("saved", flush=True)
except ConflictError:
    print("told", flush=True)
"""


def test_of_two_processes_one_saves_and_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.limnet"
    fake_case(autosave=path).click((6, 20, 24))
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    pipe = subprocess.PIPE
    children = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, z], cwd=ROOT, stdin=pipe, stdout=pipe, text=True, env=env)
        for z in ("2", "9")
    ]
    for child in children:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [child.communicate()[0].strip() for child in children]
    assert sorted(said) == ["saved", "told"]
    assert resumed(path).prompted == ((2, 6) if said[0] == "saved" else (6, 9))
    assert [p.name for p in tmp_path.iterdir()] == ["x.limnet"]


def test_another_process_that_keeps_the_file_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    path = tmp_path / "x.limnet"
    case = fake_case(autosave=path)
    monkeypatch.setattr("limnet.case.session._PATIENCE", 0.05)
    with FileLock(tmp_path / ".x.limnet.lock"), pytest.raises(SaveError, match="another process has been writing it"):
        case.click((6, 20, 24))
    case.undo()
    assert everything(resumed(path)) == everything(case)


def test_names_of_labels_replace_no_other_json(tmp_path: Path) -> None:
    case = fake_case()
    case.click((6, 20, 24))
    for content in ('{"labels": [1]}', '{"labels": {}, "more": 1}', "[]", "no JSON", '{"SeriesDescription": "x"}'):
        (tmp_path / "scan.json").write_text(content)
        with pytest.raises(InputError, match=r"scan\.json, which exists and holds something else"):
            case.save_labels(tmp_path / "scan.nii.gz")
        assert (tmp_path / "scan.json").read_text() == content
        assert not (tmp_path / "scan.nii.gz").exists()
    for _ in range(2):  # its own are replaced
        image, names = case.save_labels(tmp_path / "mask.NII.GZ")
    assert (image.name, names.name) == ("mask.NII.GZ", "mask.json")
    assert json.loads(names.read_text()) == {"labels": {"1": "object"}}
