from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from limnet.case.case import Case
from limnet.errors import InputError
from limnet.image.volume import Volume
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
