"""Objects are deleted and renamed in steps like any other; labels and sessions stay sensible."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from limnet.case.case import Case, restore
from limnet.case.session import read_session, read_summary
from limnet.errors import ConflictError, HistoryError, InputError, InputTypeError
from tests.case.test_case import everything
from tests.helpers.fake_engine import fake_case, fake_engine

CENTRE = (6, 20, 24)


def three() -> Case:
    case = fake_case()
    for name, z in (("liver", 6), ("spleen", 4), ("kidney", 8)):
        case.object(name).click((z, 20, 24))
    return case


def present(case: Case) -> tuple[object, ...]:
    return (case.labels.tobytes(), case.objects, {name: case.object(name).rounds for name in case.objects})


def test_delete_and_undo(tmp_path: Path) -> None:
    case = three()
    case.object("liver").finish()
    before, handle = present(case), case.object("liver")
    hidden = case.object("spleen").mask  # the liver is finished and has its voxels
    case.delete("liver")
    assert case.objects == {"spleen": 2, "kidney": 3}  # labels of the others stay
    assert case.object("spleen").mask.sum() > hidden.sum()
    assert {*np.unique(case.labels).tolist()} <= {0, 2, 3}
    assert not handle.mask.any()
    for call in (lambda: handle.click(CENTRE), handle.reset, handle.finish, lambda: handle.save(tmp_path / "m.npy")):
        with pytest.raises(InputError, match=r"object 'liver' was deleted: undo\(\) brings it back"):
            call()
    _, names = case.save_labels(tmp_path / "l.npy")
    assert json.loads(names.read_text()) == {"labels": {"2": "spleen", "3": "kidney"}}
    case.undo()
    assert present(case) == before
    case.redo()
    assert list(case.objects) == ["spleen", "kidney"]
    handle.undo()
    assert present(case) == before
    with pytest.raises(InputError, match="there is no object 'lever': the objects are 'liver', 'spleen', 'kidney'"):
        case.delete("lever")


def test_a_name_that_is_free_again() -> None:
    case = three()
    case.delete("liver")
    new = case.object("liver")
    assert new.rounds == ()
    assert case.objects == {"spleen": 2, "kidney": 3, "liver": 4}  # label 1 is not given again
    new.click(CENTRE)
    case.undo()
    case.undo()  # the deletion
    assert case.objects == {"liver": 1, "spleen": 2, "kidney": 3, "liver (2)": 4}
    assert case.object("liver").rounds
    assert case.object("liver (2)").name == new.name == "liver (2)"


def test_rename_and_undo() -> None:
    case = three()
    handle, labels = case.object("spleen"), case.labels
    case.rename("spleen", "spleen, upper part")
    assert case.objects == {"liver": 1, "spleen, upper part": 2, "kidney": 3}
    assert handle.name == "spleen, upper part"
    assert repr(handle).startswith("<CaseObject 'spleen, upper part'")
    assert np.array_equal(case.labels, labels)
    handle.click((3, 20, 24))
    handle.reset()
    assert handle.name == "spleen, upper part"
    for _ in range(2):
        case.undo()
    assert handle.name == "spleen, upper part"
    case.undo()
    assert list(case.objects) == ["liver", "spleen", "kidney"]
    case.redo()
    case.rename("liver", "spleen")  # the name is free
    assert list(case.objects) == ["spleen", "spleen, upper part", "kidney"]
    assert len(case.object("spleen").rounds) == 1
    assert case.object("liver").rounds == ()  # a new one
    assert case.objects["liver"] == 4
    handle.undo()  # back to a name that the first one has now
    assert list(case.objects) == ["spleen", "spleen (2)", "kidney", "liver"]
    with pytest.raises(HistoryError, match="nothing to redo for object 'kidney'"):
        case.object("kidney").redo()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("spleen", "liver"), InputError, "there is an object 'liver' already"),
        (("spleen", " "), InputError, "must not be empty"),
        (("spleen", 3), InputTypeError, "is a string"),
        (("lung", "x"), InputError, "there is no object 'lung'"),
    ],
)
def test_names_that_cannot_be(arguments, error, words) -> None:
    case = three()
    before = present(case)
    with pytest.raises(error, match=words):
        case.rename(*arguments)
    assert present(case) == before


def test_the_default_object() -> None:
    case = fake_case()
    case.click(CENTRE)
    case.rename("object", "liver")
    case.click((3, 20, 24))
    assert case.object("liver") is case
    assert case.prompted == (3, 6)
    assert case.object("object") is not case
    case.delete("liver")
    with pytest.raises(InputError, match="object 'liver' was deleted"):
        case.click(CENTRE)
    assert case.object("liver") is not case
    case.undo()
    assert case.prompted == (3, 6)


def test_sessions_keep_them(tmp_path: Path) -> None:
    case = three()
    old = case.save_session(tmp_path / "old")
    case.rename("kidney", "left kidney")
    case.delete("liver")
    case.object("liver").click(CENTRE)
    case.undo()
    path = case.save_session(tmp_path / "new")
    again = restore(read_session(path), fake_engine())
    for _ in range(2):
        assert present(again) == present(case)
        assert everything(again) == everything(case)
        again.redo() if _ else again.undo()
        case.redo() if _ else case.undo()
    summary = read_summary(path)
    assert summary
    assert summary.objects == ("spleen", "left kidney", "liver")
    versions = [json.loads(zipfile.ZipFile(p).read("manifest.json"))["version"] for p in (old, path)]
    assert versions == [1, 2]  # older programs refuse what they would show under old names


@pytest.mark.parametrize(
    "step", [lambda case: case.finish(), lambda case: case.accept(6), lambda case: case.click((8, 20, 24))]
)
def test_a_step_that_another_thread_overtakes_is_told(step, monkeypatch: pytest.MonkeyPatch) -> None:
    case = fake_case()
    case.click(CENTRE)
    real = case._context

    def overtaken(key: str) -> object:
        monkeypatch.undo()
        case.click((3, 20, 24))  # as if by another thread, after this step has looked at the state
        return real(key)

    monkeypatch.setattr(case, "_context", overtaken)
    with pytest.raises(ConflictError, match="object 'object' was changed while this step was made"):
        step(case)
    assert case.prompted == (3, 6)
    assert not case.finished
