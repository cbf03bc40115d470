from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from limnet.case.case import Case, restore
from limnet.case.session import read_session, read_summary
from limnet.errors import ConflictError, HistoryError, InputError, InputTypeError
from limnet.image.volume import Volume
from tests.case.test_case import everything
from tests.helpers.fake_engine import fake_case, fake_engine, phantom

CENTRE = (6, 20, 24)


def test_objects_on_one_case() -> None:
    case = fake_case()
    core = case.object("core")
    blob = case.object("blob")
    core.click(CENTRE, propagate=False)
    blob.click((6, 20, 36))
    assert case.objects == {"core": 1, "blob": 2}
    assert not case.mask.any(), "the default object is another one"
    assert case.object("core").mask[CENTRE]
    labels = case.labels
    assert labels.dtype == np.uint16
    assert set(np.unique(labels)) == {0, 1, 2}


def test_finished_objects_are_never_overwritten() -> None:
    case = fake_case()
    core, blob = case.object("core"), case.object("blob")
    case._engine.propagator.threshold = 240.0
    core.click(CENTRE)
    done = core.finish()
    case._engine.propagator.threshold = 100.0
    blob.click((6, 20, 34))
    assert np.array_equal(core.mask, done)
    assert not (core.mask & blob.mask).any()
    assert blob.mask.any()
    assert not (blob.probability[done] > 0).any()
    assert (case.labels[done] == 1).all()
    before = blob.mask
    with pytest.raises(InputError, match="finished"):
        blob.click(CENTRE)
    with pytest.raises(InputError, match="reopen"):
        core.click(CENTRE)
    assert np.array_equal(blob.mask, before)
    core.reopen()
    core.click((6, 20, 25))
    blob.click((6, 20, 24))


def test_finishing_later_takes_voxels_from_open_objects_only() -> None:
    case = fake_case()
    first, second = case.object("first"), case.object("second")
    first.click(CENTRE)
    second.click(CENTRE)
    both = second.mask
    first.finish()
    assert not second.mask[CENTRE]
    assert not second.finish().any()
    case.undo()
    case.undo()
    assert np.array_equal(second.mask, both)


def test_more_probable_object_wins_where_open_objects_overlap() -> None:
    case = fake_case()
    weak, strong = case.object("weak"), case.object("strong")
    weak.click(CENTRE)  # propagated slices have 0.8
    plane = np.zeros((40, 48), bool)
    plane[20, 24] = True
    strong.set_mask(plane, index=7, propagate=False)
    assert case.labels[7, 20, 24] == 2
    assert case.labels[7, 20, 25] == 1


def test_save_labels(tmp_path: Path) -> None:
    case = fake_case()
    with pytest.raises(InputError, match="no object"):
        case.save_labels(tmp_path / "l.npy")
    case.object("core of it").click(CENTRE)
    with pytest.raises(InputError, match="save_labels"):
        case.save(tmp_path / "mask.npy")
    image, names = case.save_labels(tmp_path / "l.npy")
    assert np.array_equal(np.load(image), case.labels)
    assert json.loads(names.read_text()) == {"labels": {"1": "core of it"}}


def test_objects_choose_their_own_window() -> None:
    ct = phantom().astype(np.float32) - 1000  # air around, soft values inside
    ct[5:8, 10:32, 12:36] = 900
    case = fake_case(ct)
    case.object("bone").click((6, 20, 22))
    case.object("lung").click((6, 2, 2))
    windows = {name: case._state_of(name).window for name in case.objects}
    assert windows["bone"] != windows["lung"]
    fixed = fake_case(ct, window=(-160, 240))
    fixed.click((6, 20, 22))
    assert fixed._state.window is None
    assert fixed.view.window == (-160.0, 240.0)


def test_a_mask_never_replaces_the_image(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", phantom())
    (tmp_path / "link.npy").symlink_to(tmp_path / "scan.npy")
    case = Case(fake_engine(), Volume.read(tmp_path / "scan.npy"))
    case.click((6, 20, 24))
    for name in ("scan.npy", "link.npy"):
        for save in (case.save, case.save_labels):
            with pytest.raises(InputError, match="is the image itself"):
                save(tmp_path / name)
    assert np.array_equal(np.load(tmp_path / "scan.npy"), phantom())
    assert case.save(tmp_path / "mask.npy").exists()
    case.save(tmp_path / "mask.npy")


# deleted and renamed


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
