"""Session files: whole histories, damage, older versions; several writers of one, and files that are no session."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from limnet.case.case import Case, restore
from limnet.case.session import packed_voxels, read_session
from limnet.case.state import Book, ObjectState
from limnet.errors import ConflictError, InputError, MissingFileError, SaveError, SessionError
from limnet.image.volume import Selection, Volume
from limnet.settings import Settings
from tests.case.test_case import everything
from tests.helpers.fake_engine import fake_case, fake_engine, phantom


def worked_on(path: Path | None = None) -> Case:
    case = fake_case(axis=1, window=(-50, 300), settings=Settings(scope="interval", tau=0.4), autosave=path)
    case.click((6, 20, 24))
    case.scribble([(3, 20, 20), (3, 20, 28)], propagate=False)
    case.box((2, 12, 10), (9, 28, 40))
    case.lasso([(4, 22, 14), (4, 22, 30), (8, 22, 30)])
    plane = np.zeros((12, 48), bool)
    plane[4:8, 20:30] = True
    case.set_mask(plane, index=18)
    painted = np.zeros((12, 40, 48), bool)
    painted[5, 18, 21:25] = True
    case.scribble(painted, positive=False)
    case.object("other").click((6, 2, 2), positive=False)
    case.object("other").finish()
    case.object("empty")
    case.undo()
    case.object("object").undo()
    return case


def full_history(case: Case) -> list[object]:
    """The present state, and every state that undo and redo lead to."""
    seen = [everything(case), case.labels.tobytes(), case.objects]
    for _ in range(len(case._book.done)):
        case.undo()
        seen.append(everything(case))
    for _ in range(len(case._book.done) + len(case._book.undone)):
        case.redo()
        seen.append(everything(case))
    return seen


def test_round_trip_with_whole_history(tmp_path: Path) -> None:
    case = worked_on()
    path = case.save_session(tmp_path / "x.limnet")
    again = restore(read_session(path), fake_engine())
    assert (again.axis, again.settings, again.view.window) == (1, case.settings, (-50.0, 300.0))
    assert np.array_equal(again.volume.array, case.volume.array)
    assert again.volume.array.dtype == case.volume.array.dtype
    assert again.volume.spacing == case.volume.spacing
    assert again.session is None
    assert full_history(again) == full_history(case)


def test_the_same_case_gives_the_same_bytes(tmp_path: Path) -> None:
    first = worked_on().save_session(tmp_path / "a").read_bytes()
    assert first == worked_on().save_session(tmp_path / "b").read_bytes()


def test_autosave_after_every_step(tmp_path: Path) -> None:
    path = tmp_path / "x.limnet"
    case = fake_case(autosave=path)
    assert path.exists()
    for step in (lambda: case.click((6, 20, 24)), lambda: case.click((3, 20, 24)), case.undo, case.redo, case.reset):
        step()
        again = restore(read_session(path), fake_engine())
        assert everything(again) == everything(case)
    assert again.session == path
    again.undo()
    assert everything(restore(read_session(path), fake_engine())) == everything(again)


def test_volume_by_path(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", phantom())
    volume = Volume.read(tmp_path / "v.npy")
    case = Case(fake_engine(), volume)
    case.click((6, 20, 24))
    path = case.save_session(tmp_path / "x")
    assert "voxels.zlib" not in zipfile.ZipFile(path).namelist()
    assert everything(restore(read_session(path), fake_engine())) == everything(case)

    (tmp_path / "moved").mkdir()
    for name in ("v.npy", "x"):
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    path = tmp_path / "moved" / "x"
    assert everything(restore(read_session(path), fake_engine())) == everything(case), "moved together"

    (tmp_path / "moved" / "v.npy").rename(tmp_path / "elsewhere.npy")
    with pytest.raises(SessionError, match="volume="):
        read_session(path)
    assert everything(restore(read_session(path, tmp_path / "elsewhere.npy"), fake_engine())) == everything(case)
    assert everything(restore(read_session(path, phantom()), fake_engine())) == everything(case)
    with pytest.raises(SessionError, match="another volume"):
        read_session(path, phantom() + 1)


def test_another_model_is_reported(tmp_path: Path) -> None:
    path = worked_on().save_session(tmp_path / "x")
    engine = fake_engine()
    object.__setattr__(engine, "identity", {"name": "other", "sha256": "123"})
    with pytest.warns(UserWarning, match=r"'?fake.*other"):
        restore(read_session(path), engine)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restore(read_session(path), fake_engine())


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def rewritten(parts: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in parts.items():
            file.writestr(name, data)
    return buffer.getvalue()


def edited(path: Path, change: Callable[[dict[str, Any]], object], **manifest_entries: Any) -> Path:
    """The file with another `case.json`, and with the checksum that fits."""
    parts = members(path)
    content, manifest = json.loads(parts["case.json"]), json.loads(parts["manifest.json"])
    change(content)
    parts["case.json"] = json.dumps(content).encode()
    manifest["sha256"]["case.json"] = hashlib.sha256(parts["case.json"]).hexdigest()
    parts["manifest.json"] = json.dumps({**manifest, **manifest_entries}).encode()
    path.write_bytes(rewritten(parts))
    return path


def test_truncated_files(tmp_path: Path) -> None:
    good = worked_on().save_session(tmp_path / "good").read_bytes()
    path = tmp_path / "bad"
    step = max(len(good) // 40, 1)
    for cut in [0, 1, 4, *range(step, len(good), step), len(good) - 1]:
        path.write_bytes(good[:cut])
        with pytest.raises(SessionError, match=r"damaged|no session file"):
            read_session(path)


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content in (b"", b"hello", b"\x80\x04pickle", rewritten({"a": b"b"}), rewritten({"manifest.json": b"[]"})):
        path.write_bytes(content)
        with pytest.raises(SessionError):
            read_session(path)
    with pytest.raises(SessionError, match="directory"):
        read_session(tmp_path)
    with pytest.raises(MissingFileError, match="no session file"):
        read_session(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("change", "entries", "message"),
    [
        (lambda c: None, {"version": 99}, "newer"),
        (
            lambda c: c["settings"].update(look_around=True),
            {},
            r"written by a newer limnet.*setting look_around. Update limnet",
        ),
    ],
)
def test_what_only_a_newer_limnet_knows(tmp_path: Path, change: Any, entries: dict[str, int], message: str) -> None:
    path = edited(worked_on().save_session(tmp_path / "x"), change, **entries)
    with pytest.raises(SessionError, match=message):
        read_session(path)


def test_sessions_of_older_versions_open(tmp_path: Path) -> None:
    """With settings and fields that are gone, and without those that came later."""

    def older(content: dict[str, Any]) -> None:
        content["settings"].update(look_across=True, least_sure=0.6, most_growth=2.0)
        for state in content["book"]["states"]:
            state["reach"] = [3, 8]
            del state["name"], state["deleted"]
        for done in content["book"]["rounds"]:
            del done["reanswered"], done["accepted"], done["marks"]

    case = worked_on()
    again = restore(read_session(edited(case.save_session(tmp_path / "x"), older)), fake_engine())
    assert again.settings == case.settings
    assert full_history(again) == full_history(case)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.pop("axis"),
        lambda c: c.update(axis=7),
        lambda c: c["book"]["states"].pop(),
        lambda c: c["book"]["done"].append("nobody"),
        lambda c: c["book"]["done"].pop(),
        lambda c: c["book"]["objects"][0].update(position=99),
        lambda c: c["book"]["slices"].pop(),
        lambda c: c["book"]["slices"][0].__setitem__(4, 10**6),
        lambda c: c["book"]["rounds"][0]["prompt"].update(point=[99, 0, 0]),
        lambda c: c["volume"].update(shape=[1, 2, 3]),
        lambda c: c["volume"].update(dtype="O"),
        lambda c: c["settings"].update(tau=3),
        lambda c: c.update(book=[]),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, spoil: Any) -> None:
    path = edited(worked_on().save_session(tmp_path / "x"), spoil)
    with pytest.raises(SessionError):
        read_session(path)


def test_volumes_of_a_file_with_several(tmp_path: Path) -> None:
    several = np.stack([phantom(), phantom()[:, ::-1]], axis=-1).transpose(2, 1, 0, 3)
    nibabel.Nifti1Image(several, np.eye(4)).to_filename(tmp_path / "4d.nii.gz")
    for index in (1, np.int64(1)):
        volume = Volume.read(tmp_path / "4d.nii.gz", index=index)
        assert volume.selection == Selection(index=1)
        case = Case(fake_engine(), volume)
        case.click((6, 19, 24))
        path = case.save_session(tmp_path / f"{index!r}")
        assert everything(restore(read_session(path), fake_engine())) == everything(case)


@pytest.mark.parametrize("recorded", [r"C:\\Users\\me\\v.npy", r"\\\\server\\share\\v.npy", "/somewhere/else/v.npy"])
def test_a_session_from_another_system(tmp_path: Path, recorded: str) -> None:
    np.save(tmp_path / "v.npy", phantom())
    case = Case(fake_engine(), Volume.read(tmp_path / "v.npy"))
    case.click((6, 20, 24))
    case._about = ({**case._described()[0], "path": recorded}, None)
    path = case.save_session(tmp_path / "x")
    assert everything(restore(read_session(path), fake_engine())) == everything(case)
    (tmp_path / "v.npy").unlink()
    with pytest.raises(SessionError, match="nor beside the session file"):
        read_session(path)


def test_a_relative_session_stays_where_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    case = Case(fake_engine(), Volume.from_array(phantom()), autosave="kept.limnet")
    monkeypatch.chdir(tmp_path / "below")
    case.click((6, 20, 24))
    assert not list((tmp_path / "below").iterdir())
    again = restore(read_session(tmp_path / "kept.limnet"), fake_engine())
    assert everything(again) == everything(case)
    assert again.session == tmp_path / "kept.limnet"
    case.save_session(tmp_path / "kept.limnet")
    assert restore(read_session(tmp_path / "kept.limnet"), fake_engine()).session == tmp_path / "kept.limnet"


def test_voxels_are_packed_anew_for_the_first_saves_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, packed = fake_case(), []

    def pack(volume: Volume) -> bytes:
        packed.append(packed_voxels(volume))
        return packed[-1]

    monkeypatch.setattr("limnet.case.case.packed_voxels", pack)
    for number in range(4):
        case.click((6, 20 + number, 24))
        case.save_session(tmp_path / "x.limnet")
    assert len(packed) == 2
    assert members(tmp_path / "x.limnet")["voxels.zlib"] == packed[0] == packed[1]


# several writers of one session, and files that are no session


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
