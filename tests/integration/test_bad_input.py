"""Bad input through the public face: the builtin error a caller expects, a message to act on, and nothing changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limnet import InteractiveSegmenter
from limnet.case.case import Case
from limnet.errors import LimnetError, SaveError
from tests.helpers.fake_engine import phantom

SHAPE = (6, 24, 24)
NAN = float("nan")
FLAT = np.zeros((24, 24), bool)
FULL = np.ones(SHAPE, bool)


def ball() -> np.ndarray:
    return phantom(SHAPE) > 100


@pytest.fixture(scope="module")
def case(segmenter: InteractiveSegmenter) -> Case:
    case = segmenter.open(phantom(SHAPE))
    case.set_mask(ball()[2], index=2)
    case.click((4, 12, 12))
    case.click((5, 12, 12))
    case.undo()
    return case


def state(case: Case) -> tuple[Any, ...]:
    """Results, and how many steps can be undone and redone."""
    book = case._book
    arrays = (case.mask, case.probability, case.quality)
    return (*(a.tobytes() for a in arrays), case.prompted, case.rounds, len(book.done), len(book.undone), case.objects)


CALLS: dict[str, tuple[Callable[[Case], Any], type[Exception]]] = {
    "click below": (lambda c: c.click((-1, 0, 0)), IndexError),
    "click beyond": (lambda c: c.click((0, 24, 0)), IndexError),
    "click far away": (lambda c: c.click((10**30, 0, 0)), IndexError),
    "click with a float": (lambda c: c.click((1.0, 2, 3)), TypeError),
    "click with numpy floats": (lambda c: c.click(np.array([1.0, 2.0, 3.0])), TypeError),
    "click with NaN": (lambda c: c.click((NAN, 2, 3)), ValueError),
    "click with infinity": (lambda c: c.click((float("inf"), 2, 3)), ValueError),
    "click on two axes": (lambda c: c.click((1, 2)), ValueError),
    "click on four axes": (lambda c: c.click((1, 2, 3, 4)), ValueError),
    "click on nothing": (lambda c: c.click(None), TypeError),
    "click on a text": (lambda c: c.click("1,2,3"), TypeError),
    "click on texts": (lambda c: c.click(("1", "2", "3")), TypeError),
    "click on a flag": (lambda c: c.click((True, 2, 3)), TypeError),
    "click on a number": (lambda c: c.click(3), TypeError),
    "click on a set": (lambda c: c.click({1, 2, 3}), TypeError),
    "click on a dictionary": (lambda c: c.click({1: 1, 2: 2, 3: 3}), TypeError),
    "click on points": (lambda c: c.click(np.zeros((1, 3), int)), ValueError),
    "sign as a number": (lambda c: c.click((1, 2, 3), positive=1), TypeError),
    "sign as a text": (lambda c: c.click((1, 2, 3), positive="-"), TypeError),
    "propagate as a text": (lambda c: c.click((1, 2, 3), propagate="no"), TypeError),
    "unknown scope": (lambda c: c.click((1, 2, 3), scope="all"), ValueError),
    "progress no function": (lambda c: c.click((1, 2, 3), progress=5), TypeError),
    "empty scribble": (lambda c: c.scribble([]), ValueError),
    "empty scribble array": (lambda c: c.scribble(np.zeros((0, 3), int)), ValueError),
    "empty scribble mask": (lambda c: c.scribble(~FULL), ValueError),
    "scribble mask of another shape": (lambda c: c.scribble(np.ones((2, 2, 2), bool)), ValueError),
    "2-D scribble mask": (lambda c: c.scribble(~FLAT), ValueError),
    "scribble outside": (lambda c: c.scribble([(1, 2, 3), (1, 2, 99)]), IndexError),
    "scribble with a float": (lambda c: c.scribble([(1.5, 2, 3)]), TypeError),
    "ragged scribble": (lambda c: c.scribble([(1, 2, 3), (1, 2)]), ValueError),
    "scribble of nothing": (lambda c: c.scribble(None), TypeError),
    "box lo > hi": (lambda c: c.box((3, 3, 3), (2, 5, 5)), ValueError),
    "box outside": (lambda c: c.box((0, 0, 0), (6, 5, 5)), IndexError),
    "box with a float": (lambda c: c.box((0, 0, 0), (2.5, 5, 5)), TypeError),
    "box with NaN": (lambda c: c.box((0, 0, NAN), (2, 5, 5)), ValueError),
    "box on two axes": (lambda c: c.box((0, 0), (2, 5)), ValueError),
    "lasso of two points": (lambda c: c.lasso([(1, 2, 3), (1, 5, 6)]), ValueError),
    "lasso on a line": (lambda c: c.lasso([(1, 2, 3), (1, 5, 6), (1, 8, 9)]), ValueError),
    "lasso over slices": (lambda c: c.lasso([(1, 2, 3), (1, 9, 3), (2, 9, 9)]), ValueError),
    "lasso outside": (lambda c: c.lasso([(1, 2, 3), (1, 9, 3), (1, 99, 9)]), IndexError),
    "empty lasso": (lambda c: c.lasso([]), ValueError),
    "lasso of nothing": (lambda c: c.lasso(None), TypeError),
    "mask of another shape": (lambda c: c.set_mask(FULL[:, :, 1:]), ValueError),
    "slice mask without its slice": (lambda c: c.set_mask(FLAT), ValueError),
    "slice mask of another shape": (lambda c: c.set_mask(FLAT[1:], index=2), ValueError),
    "slice mask outside": (lambda c: c.set_mask(FLAT, index=6), IndexError),
    "slice mask at a float": (lambda c: c.set_mask(FLAT, index=2.0), TypeError),
    "mask of floats": (lambda c: c.set_mask(FULL * 0.5), TypeError),
    "mask of 255": (lambda c: c.set_mask(FULL.astype(np.uint8) * 255), TypeError),
    "mask of objects": (lambda c: c.set_mask(FULL.astype(object)), TypeError),
    "mask that is not there": (lambda c: c.set_mask("mask.nii.gz"), FileNotFoundError),
    "empty mask": (lambda c: c.set_mask(~FULL), ValueError),
    "4-D mask": (lambda c: c.set_mask(FULL[None]), ValueError),
    "ragged mask": (lambda c: c.set_mask([[1, 0], [1]]), TypeError),
    "propagation in an unknown scope": (lambda c: c.propagate(scope="x"), ValueError),
    "a prompt that is none": (lambda c: c.prompt((1, 2, 3)), TypeError),
    "object without a name": (lambda c: c.object(" "), ValueError),
    "object named by a number": (lambda c: c.object(3), TypeError),
    "save without a known suffix": (lambda c: c.save("mask.xyz"), ValueError),
    "save over a directory": (lambda c: c.save("/"), OSError),
    "save into a missing folder": (lambda c: c.save("/not/there/mask.nii.gz"), OSError),
    "session over a directory": (lambda c: c.save_session("/"), OSError),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_of_a_case(case: Case, name: str) -> None:
    call, expected = CALLS[name]
    before = state(case)
    with pytest.raises(expected) as caught:
        call(case)
    assert isinstance(caught.value, LimnetError)
    assert len(str(caught.value)) > 25
    assert "\n" not in str(caught.value)
    assert state(case) == before


VOLUME = phantom(SHAPE)
OPENINGS: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "2-D": ({"volume": VOLUME[0]}, ValueError),
    "5-D": ({"volume": VOLUME[None, None]}, ValueError),
    "4-D": ({"volume": VOLUME[None]}, ValueError),
    "no voxels": ({"volume": VOLUME[:0]}, ValueError),
    "objects": ({"volume": VOLUME.astype(object)}, TypeError),
    "texts": ({"volume": np.array([[["a"]]])}, TypeError),
    "complex": ({"volume": VOLUME.astype(complex)}, TypeError),
    "None": ({"volume": None}, TypeError),
    "zero spacing": ({"spacing": (0, 1, 1)}, ValueError),
    "negative spacing": ({"spacing": (1, -1, 1)}, ValueError),
    "NaN spacing": ({"spacing": (1, NAN, 1)}, ValueError),
    "two spacings": ({"spacing": (1, 1)}, ValueError),
    "one spacing": ({"spacing": 1.0}, TypeError),
    "spacing as text": ({"spacing": "123"}, TypeError),
    "axis 3": ({"axis": 3}, ValueError),
    "axis -1": ({"axis": -1}, ValueError),
    "axis 1.0": ({"axis": 1.0}, TypeError),
    "axis True": ({"axis": True}, ValueError),
    "window upside down": ({"window": (3, 1)}, ValueError),
    "flat window": ({"window": (5, 5)}, ValueError),
    "window with NaN": ({"window": (NAN, 1)}, ValueError),
    "index for an array": ({"index": 0}, ValueError),
    "settings": ({"settings": {"tau": NAN}}, ValueError),
    "unknown setting": ({"settings": {"tua": 0.2}}, ValueError),
    "missing file": ({"volume": "not/there.nii.gz"}, FileNotFoundError),
    "session is a directory": ({"session": "/"}, OSError),
}


@pytest.mark.parametrize("name", OPENINGS)
def test_openings(segmenter: InteractiveSegmenter, name: str) -> None:
    arguments, expected = OPENINGS[name]
    with pytest.raises(expected) as caught:
        segmenter.open(**{"volume": VOLUME, **arguments})
    assert isinstance(caught.value, LimnetError)
    assert len(str(caught.value)) > 25


def test_an_empty_folder(segmenter: InteractiveSegmenter, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no images"):
        segmenter.open(tmp_path)


def test_nothing_to_undo(segmenter: InteractiveSegmenter) -> None:
    case = segmenter.open(VOLUME)
    for step in (case.undo, case.redo, case.object("liver").undo):
        with pytest.raises(IndexError, match="nothing to"):
            step()
    with pytest.raises(ValueError, match="mark the object first"):
        case.propagate()
    with pytest.raises(ValueError, match="no object is marked"):
        case.save_labels("labels.nii.gz")
    with pytest.raises(ValueError, match="mark it first"):
        case.object("liver").finish()


@pytest.mark.filterwarnings("ignore")
def test_a_full_disk_leaves_every_file_as_it_was(segmenter: InteractiveSegmenter, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # a limit on file sizes fails like a full disk, in the middle of writing
    noise = np.random.default_rng(0).random((12, 64, 64)) > 0.5
    case = segmenter.open(phantom(noise.shape), session=tmp_path / "auto.limnet")
    case.set_mask(noise, propagate=False)
    names = ["m.nii", "m.nii.gz", "m.nrrd", "m.mha", "m.npy", "m.npz"]
    actions: list[Callable[[], Any]] = [lambda name=name: case.save(tmp_path / name) for name in names]
    actions += [lambda: case.save_session(tmp_path / "s.limnet"), lambda: case.save_labels(tmp_path / "labels.nii.gz")]
    for action in actions:
        action()

    def content() -> dict[str, str]:
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.iterdir()}

    before = content()
    actions += [
        lambda: case.set_mask(~noise, propagate=False),  # kept in memory, the session file is behind
        lambda: segmenter.save_pretrained(tmp_path / "model"),
    ]
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, usual[1]))
    errors = []
    try:
        for action in actions:
            try:
                action()
            except SaveError as error:
                errors.append(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert len(errors) == len(actions)
    assert content() == before
    assert np.array_equal(case.mask, ~noise)
    case.undo()
    assert np.array_equal(segmenter.resume(tmp_path / "auto.limnet").mask, noise)
