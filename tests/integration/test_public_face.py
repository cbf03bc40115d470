"""limnet as a user meets it: the calls of the documentation on every kind of volume, with untrained networks."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from tests.helpers.fake_engine import phantom
from tests.helpers.grids import ORIENTATIONS, grid
from tests.helpers.small_segmenter import small_segmenter

from limnet import InteractiveSegmenter
from limnet.case import Case
from limnet.errors import Cancelled, ConflictError, HistoryError

SHAPE = (8, 32, 40)
CENTRE = (4, 16, 20)


@pytest.fixture(scope="module")
def segmenter() -> InteractiveSegmenter:
    return small_segmenter()


def blob(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """The bright part of `phantom(shape)`."""
    return phantom(shape) > 100


def seen(case: Case) -> tuple[Any, ...]:
    """What a user can see of a case."""
    arrays = (case.mask, case.probability, case.quality, case.labels)
    return (*(a.tobytes() for a in arrays), case.prompted, case.rounds, case.bounds, case.finished, case.objects)


def test_the_documented_example(tmp_path: Path) -> None:
    small_segmenter().save_pretrained(tmp_path / "model")
    segmenter = InteractiveSegmenter.from_pretrained(str(tmp_path / "model"), precision="fp32")
    volume, truth = phantom(SHAPE), blob()
    case = segmenter.open(volume, spacing=(5.0, 0.57, 0.57), axis=0)
    z, y, x = CENTRE
    mask = case.click((z, y, x), positive=True)
    assert (mask.dtype, mask.shape, bool(mask[z, y, x])) == (bool, SHAPE, True)
    stroke = case.scribble([(4, 10, 12), (4, 14, 16)], positive=True)
    assert stroke[4, 10, 12]
    assert stroke[4, 14, 16]
    painted = np.zeros(SHAPE, bool)
    painted[3, 8, 8:12] = True
    assert not case.scribble(painted, positive=False)[painted].any()
    boxed = case.box((1, 8, 8), (6, 24, 30))
    assert not boxed[[0, 7]].any()
    case.lasso([(5, 6, 6), (5, 6, 34), (5, 26, 34), (5, 26, 6)])
    assert np.array_equal(case.set_mask(truth)[truth.any(axis=(1, 2))], truth[truth.any(axis=(1, 2))])
    half = case.click((2, 16, 22), positive=True, propagate=False)
    assert half[2, 16, 22]
    told: list[tuple[int, int]] = []
    case.propagate(progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 0
    assert [d for d, _ in told] == sorted(d for d, _ in told)
    assert (case.mask.dtype, case.mask.shape) == (bool, SHAPE)
    assert (case.probability.dtype, case.probability.shape) == (np.float32, SHAPE)
    assert (case.quality.dtype, case.quality.shape) == (np.float32, SHAPE[:1])
    assert np.array_equal(case.probability > 0.5, case.mask)
    assert 0 <= case.quality.min() <= case.quality.max() <= 1
    case.undo()
    case.undo()
    advice = case.suggest()
    assert 0 <= advice.index < SHAPE[0]
    assert advice.index not in case.prompted
    assert advice.reason
    case.redo()
    before = seen(case)
    assert not case.reset().any()
    case.undo()
    assert seen(case) == before
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(case.save(tmp_path / "mask.nii.gz"))
    assert np.array_equal(np.asarray(image.dataobj).transpose(2, 1, 0) > 0, case.mask)
    np.testing.assert_allclose(image.header.get_zooms(), (0.57, 0.57, 5.0), rtol=1e-6)
    case.save_session(tmp_path / "x.limnet")
    again = segmenter.resume(tmp_path / "x.limnet")
    assert seen(again) == before
    assert np.array_equal(again.click((6, 16, 20)), case.click((6, 16, 20)))


def test_the_bundled_model() -> None:
    from limnet.hub.locate import list_zoo

    if "limnet-tiny" not in list_zoo():
        pytest.skip("limnet-tiny is not in the zoo")
    segmenter = InteractiveSegmenter.from_pretrained("limnet-tiny", local_files_only=True)
    shape, point = (8, 64, 64), (4, 32, 32)
    volume, truth = np.minimum(phantom(shape), 200), blob(shape)
    case = segmenter.open(volume, spacing=(3.0, 1.0, 1.0), axis=0)
    mask = case.click(point, positive=True)
    assert 2 * (mask & truth).sum() > 0.8 * (mask.sum() + truth.sum())
    again = segmenter.open(volume, spacing=(3.0, 1.0, 1.0))
    again.click((3, 2, 2), positive=False, propagate=False)
    again.box((0, 8, 8), (7, 56, 56), propagate=False)
    mask = again.propagate()
    assert 2 * (mask & truth).sum() > 0.8 * (mask.sum() + truth.sum())


@pytest.mark.parametrize("scope", ["volume", "interval"])
@pytest.mark.parametrize("seed", [0, 1])
def test_rules_hold_with_real_networks(segmenter: InteractiveSegmenter, scope: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = segmenter.open(phantom(SHAPE), spacing=(4.0, 1.0, 1.0), settings={"scope": scope})
    frozen: dict[int, bytes] = {}
    history = [seen(case)]
    for _ in range(7):
        point = tuple(int(rng.integers(0, n)) for n in SHAPE)
        positive = bool(rng.random() < 0.6)
        mask = case.click(point, positive, propagate=bool(rng.random() < 0.8))
        assert mask[point] == positive
        frozen[point[0]] = case.probability[point[0]].tobytes()
        assert {i: case.probability[i].tobytes() for i in frozen} == frozen
        history.append(seen(case))
    for expected in reversed(history[:-1]):
        case.undo()
        assert seen(case)[:-1] == expected[:-1]
    with pytest.raises(HistoryError):
        case.undo()
    for expected in history[1:]:
        case.redo()
        assert seen(case) == expected


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_axis(segmenter: InteractiveSegmenter, axis: int) -> None:
    truth = blob()
    case = segmenter.open(phantom(SHAPE), spacing=(4.0, 1.0, 1.0), axis=axis)
    mask = case.set_mask(np.take(truth, CENTRE[axis], axis), index=CENTRE[axis])
    assert np.array_equal(np.take(mask, CENTRE[axis], axis), np.take(truth, CENTRE[axis], axis))
    assert case.rounds[-1].computed > 0
    assert mask.sum() > np.take(mask, CENTRE[axis], axis).sum(), "the mask reaches neighbouring slices"
    assert len(case.quality) == SHAPE[axis]
    assert (case.suggest().axis, case.prompted) == (axis, (CENTRE[axis],))


@pytest.mark.parametrize(
    "point",
    [
        list(CENTRE),
        np.array(CENTRE),
        np.array(CENTRE, np.uint8),
        (np.int64(4), np.uint16(16), np.int8(20)),
        torch.tensor(CENTRE),
        tuple(torch.tensor(CENTRE).numpy()),
    ],
)
def test_coordinates_of_any_integer_type(segmenter: InteractiveSegmenter, point: Any) -> None:
    case = segmenter.open(phantom(SHAPE))
    assert case.click(point, propagate=False)[CENTRE]
    assert case.scribble([point, point], propagate=False)[CENTRE]


def test_labels_of_the_same_voxel_follow_the_last_click(segmenter: InteractiveSegmenter) -> None:
    case = segmenter.open(phantom(SHAPE))
    for point in (CENTRE, (0, 3, 3), (7, 31, 39)):
        for positive in (True, False, True):
            assert case.click(point, positive)[point] == positive


def test_a_negative_click_alone_marks_nothing(segmenter: InteractiveSegmenter) -> None:
    case = segmenter.open(phantom(SHAPE))
    assert not case.click(CENTRE, positive=False).any()
    assert case.prompted == (4,)
    case.click((6, 16, 20))
    assert not case.mask[:5].any(), "the object ends at a slice without it"


def test_a_negative_click_does_not_choose_the_window(segmenter: InteractiveSegmenter) -> None:
    ct = np.full(SHAPE, 40, np.int16)
    ct[:, :, :20] = -850
    ct[0, 0, 0] = -1000
    first = segmenter.open(ct)
    first.click((4, 16, 32), positive=False, propagate=False)
    first.click((4, 16, 8), propagate=False)
    direct = segmenter.open(ct)
    direct.click((4, 16, 8), propagate=False)
    assert first._state.window == direct._state.window == (-1000.0, 400.0)


@pytest.mark.parametrize("scope", ["volume", "interval"])
def test_an_empty_prompt_ends_the_object(segmenter: InteractiveSegmenter, scope: str) -> None:
    case = segmenter.open(phantom(SHAPE), settings={"scope": scope})
    case.set_mask(blob()[4], index=4)
    assert case.mask[1].any()
    case.set_mask(np.zeros(SHAPE[1:], bool), index=2)
    assert not case.mask[:3].any()
    assert case.mask[3].any()


def _noise(shape: tuple[int, ...], dtype: Any = np.int16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def _with_holes() -> np.ndarray:
    array = phantom((4, 24, 24)).astype(np.float64)
    array[1], array[2, :4], array[2, 4:8] = np.nan, np.inf, -np.inf
    return array


VOLUMES: dict[str, Callable[[], Any]] = {
    "one voxel": lambda: _noise((1, 1, 1)),
    "one slice": lambda: _noise((1, 30, 20)),
    "tiny": lambda: _noise((3, 8, 8)),
    "one row": lambda: _noise((2, 1, 40)),
    "long": lambda: _noise((3, 4, 300)),
    "constant": lambda: np.full((3, 20, 20), 7.5),
    "all NaN": lambda: np.full((3, 20, 20), np.nan),
    "all infinite": lambda: np.full((3, 20, 20), np.inf),
    "holes": _with_holes,
    "huge values": lambda: _noise((3, 20, 20), float) * 1e300,
    "uint8": lambda: _noise((3, 20, 20), np.uint8),
    "uint16": lambda: _noise((3, 20, 20), np.uint16) * 300,
    "uint64": lambda: _noise((3, 20, 20), np.uint64),
    "float16": lambda: _noise((3, 20, 20), np.float16),
    "big-endian": lambda: _noise((3, 20, 20), ">i2"),
    "big-endian floats": lambda: _noise((3, 20, 20), ">f8"),
    "not contiguous": lambda: _noise((20, 20, 3)).transpose(2, 0, 1)[::-1, :, ::-1],
    "lists": lambda: _noise((3, 10, 10)).tolist(),
    "tensor": lambda: torch.from_numpy(_noise((3, 20, 20))),
    "video": lambda: _noise((3, 20, 24, 3), np.uint8),
    "video of floats": lambda: _noise((3, 20, 24, 3)) / 255.0,
}


@pytest.mark.parametrize("name", VOLUMES)
@pytest.mark.filterwarnings("error")
def test_any_volume(segmenter: InteractiveSegmenter, name: str) -> None:
    case = segmenter.open(VOLUMES[name]())
    shape = case.volume.shape
    point, last = tuple(n // 2 for n in shape), tuple(n - 1 for n in shape)
    assert case.click(point)[point]
    assert not case.click(last, positive=False)[last]
    assert case.click((0, 0, 0))[0, 0, 0]
    assert case.mask.shape == shape
    assert np.isfinite(case.quality).all()


def test_read_only_and_mapped_arrays(segmenter: InteractiveSegmenter, tmp_path: Path) -> None:
    array = phantom(SHAPE)
    expected = segmenter.open(array.copy()).click(CENTRE)
    array.flags.writeable = False
    np.save(tmp_path / "v.npy", array)
    for volume in (array, np.load(tmp_path / "v.npy", mmap_mode="r"), tmp_path / "v.npy", str(tmp_path / "v.npy")):
        assert np.array_equal(segmenter.open(volume).click(CENTRE), expected)


@pytest.mark.parametrize("spacing", [(100, 0.1, 0.1), (0.01, 50, 0.01), (1e3, 1e-3, 1e-3), (1e-6, 1e-6, 1e-6)])
@pytest.mark.parametrize("axis", [0, 1])
def test_any_spacing(segmenter: InteractiveSegmenter, spacing: tuple[float, ...], axis: int) -> None:
    case = segmenter.open(phantom((6, 12, 12)), spacing=spacing, axis=axis)
    assert case.click((3, 6, 6))[3, 6, 6]
    windows = [key[-1] for key in case._engine.predictor.encoder.cache._items]  # type: ignore[attr-defined]
    assert max(max(w.height, w.width) for w in windows) <= 8 * 12, "no window is far larger than the slice"


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_masks_lie_on_the_grid_of_their_file(
    segmenter: InteractiveSegmenter, tmp_path: Path, name: str, tilt: float
) -> None:
    nibabel = pytest.importorskip("nibabel")
    array, affine = phantom((6, 18, 14)), grid(name, tilt=tilt)
    path = tmp_path / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), affine), path)
    case = segmenter.open(path)
    np.testing.assert_allclose(case.volume.spacing, (5.0, 0.9, 0.7), rtol=1e-6)
    assert case.click((3, 9, 7))[3, 9, 7]
    source = nibabel.load(path)
    for target in ("mask.nii.gz", "mask.nii"):
        image = nibabel.load(case.save(tmp_path / target))
        assert np.array_equal(image.affine, source.affine)
        assert nibabel.aff2axcodes(image.affine) == tuple(name)
        assert np.array_equal(np.asarray(image.dataobj).transpose(2, 1, 0) > 0, case.mask)
    before, after = (SimpleITK.ReadImage(str(p)) for p in (path, case.save(tmp_path / "mask.nrrd")))
    for read in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(after, read)(), getattr(before, read)(), atol=1e-4)
    assert np.array_equal(SimpleITK.GetArrayFromImage(after) > 0, case.mask)


def test_one_volume_of_a_4d_file(segmenter: InteractiveSegmenter, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    both = np.stack([phantom(SHAPE), phantom(SHAPE)[::-1]], axis=-1).transpose(2, 1, 0, 3)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(both), np.diag([1.0, 1.0, 5.0, 1.0])), tmp_path / "4d.nii")
    case = segmenter.open(tmp_path / "4d.nii", index=1)
    assert np.array_equal(case.volume.array, phantom(SHAPE)[::-1])
    case.click(CENTRE)
    assert nibabel.load(case.save(tmp_path / "mask.nii.gz")).shape == SHAPE[::-1]
    again = segmenter.resume(case.save_session(tmp_path / "x.limnet"))
    assert np.array_equal(again.mask, case.mask)


def test_dicom_series(segmenter: InteractiveSegmenter, tmp_path: Path) -> None:
    array, folder = phantom((5, 18, 14)), tmp_path / "series"
    folder.mkdir()
    for number, slab in enumerate(array):
        image = SimpleITK.GetImageFromArray(slab[None])
        image.SetSpacing((0.7, 0.9, 5.0))
        tags = {
            "0008|0060": "CT",
            "0020|000e": "1.2.3.4",
            "0020|000d": "1.2.3",
            "0020|0013": str(number + 1),
            "0020|0032": f"10\\20\\{5.0 * number}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0008|0018": f"1.2.3.4.{number}",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{9 - number}.dcm"))
        writer.Execute(image)
    case = segmenter.open(folder)
    assert np.array_equal(case.volume.array, array)
    np.testing.assert_allclose(case.volume.spacing, (5.0, 0.9, 0.7))
    assert case.click((2, 9, 7))[2, 9, 7]
    mask = SimpleITK.ReadImage(str(case.save(tmp_path / "mask.mha")))
    np.testing.assert_allclose(mask.GetOrigin(), (10, 20, 0))
    np.testing.assert_allclose(mask.GetSpacing(), (0.7, 0.9, 5.0))


def test_a_folder_of_frames(segmenter: InteractiveSegmenter, tmp_path: Path) -> None:
    frames = _noise((3, 20, 24, 3), np.uint8)
    for number, frame in enumerate(frames):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(frame, isVector=True), str(tmp_path / f"f{number}.png"))
    for colour in (segmenter, small_segmenter(image_channels=3)):
        case = colour.open(tmp_path)
        assert np.array_equal(case.volume.array, frames)
        mask = case.click((1, 10, 12))
        assert mask.shape == (3, 20, 24)
        assert np.array_equal(mask, colour.open(frames).click((1, 10, 12)))


def test_several_objects_share_the_encoding(segmenter: InteractiveSegmenter, tmp_path: Path) -> None:
    case = segmenter.open(phantom(SHAPE))
    cache = case._engine.predictor.encoder.cache  # type: ignore[attr-defined]
    liver, spleen = case.object("liver"), case.object("spleen")
    liver.click((4, 16, 21))
    missed, hits = cache.misses, cache.hits
    spleen.click((4, 16, 21))
    assert cache.hits > hits
    assert cache.misses - missed < cache.hits - hits
    liver.reset()
    liver.set_mask(blob())
    liver.finish()
    held = liver.mask
    spleen.click((4, 3, 3))
    spleen.set_mask(np.ones(SHAPE[1:], bool), index=5)
    assert np.array_equal(liver.mask, held)
    assert not (spleen.mask & held).any()
    labels = case.labels
    assert labels.dtype == np.uint16
    assert (labels[held] == case.objects["liver"]).all()
    assert np.array_equal(labels == case.objects["spleen"], spleen.mask)
    image, names = case.save_labels(tmp_path / "labels.nii.gz")
    assert image.is_file()
    assert "spleen" in names.read_text(encoding="utf-8")
    again = segmenter.resume(case.save_session(tmp_path / "x.limnet"))
    assert np.array_equal(again.labels, labels)
    assert again.object("liver").finished


def _interrupt(done: int, total: int) -> None:
    if done >= 3:
        raise KeyboardInterrupt


def _fail(done: int, total: int) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("progress", "error"),
    [
        (_interrupt, KeyboardInterrupt),
        (_fail, ZeroDivisionError),
        (lambda done, total: False, Cancelled),
        (lambda done, total: np.bool_(False), Cancelled),
    ],
)
def test_a_round_that_is_stopped_changes_nothing(
    segmenter: InteractiveSegmenter, progress: Callable[[int, int], Any], error: type[BaseException]
) -> None:
    case = segmenter.open(phantom(SHAPE))
    case.click(CENTRE)
    case.click((2, 16, 20), propagate=False)
    before = seen(case)
    rounds: list[Callable[[], Any]] = [
        lambda: case.click((6, 16, 20), progress=progress),
        lambda: case.click((6, 16, 20), scope="interval", progress=progress),
        lambda: case.set_mask(blob()[6], index=6, progress=progress),
        lambda: case.propagate(progress=progress),
    ]
    for go in rounds:
        with pytest.raises(error):
            go()
        assert seen(case) == before
    calm = segmenter.open(phantom(SHAPE))
    calm.click(CENTRE)
    calm.click((2, 16, 20), propagate=False)
    assert np.array_equal(case.propagate(), calm.propagate()), "what was stopped leaves no traces"


@pytest.mark.parametrize("scope", ["volume", "interval"])
def test_progress_ends_at_its_total(segmenter: InteractiveSegmenter, scope: str) -> None:
    case = segmenter.open(phantom(SHAPE), settings={"scope": scope})
    told: list[tuple[int, int]] = []
    note = lambda done, total: told.append((done, total))  # noqa: E731
    steps: list[Callable[[], Any]] = [
        lambda: case.set_mask(blob()[4], index=4, progress=note),
        lambda: [case.click((z, 16, 20), propagate=False) for z in (1, 3, 6)] and case.propagate(progress=note),
        lambda: case.set_mask(np.ones(SHAPE, bool), progress=note),
    ]
    for step in steps:
        told.clear()
        step()
        assert told[-1][0] == told[-1][1] > 0
        assert len({total for _, total in told}) == 1
        assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_changes_from_the_progress_callback_are_not_overwritten(segmenter: InteractiveSegmenter) -> None:
    case = segmenter.open(phantom(SHAPE))

    def meddle(done: int, total: int) -> None:
        if done == 3:
            case.click((1, 5, 5), propagate=False)

    with pytest.raises(ConflictError, match="changed while"):
        case.click(CENTRE, progress=meddle)
    assert case.prompted == (1,)
    assert case.mask[1, 5, 5]
    liver = case.object("liver")
    liver.click(CENTRE, progress=lambda done, total: case.click((2, 5, 5), propagate=False) if done == 3 else None)
    assert liver.prompted == (4,), "rounds of other objects do not disturb"
    assert case.prompted == (1, 2)


INTERRUPTED = """
import os, signal, sys, threading
import numpy as np
from tests.helpers.fake_engine import phantom
from tests.helpers.small_segmenter import small_segmenter
segmenter = small_segmenter()
case = segmenter.open(phantom((100, 32, 40)), session=sys.argv[1])
truth = phantom((100, 32, 40)) > 100
case.set_mask(truth[50], index=50, propagate=False)
book, started = case._book, threading.Event()
def press():
    started.wait()
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=press, daemon=True).start()
try:
    case.propagate(progress=lambda done, total: started.set())
    sys.exit("the round ended before the signal came")
except KeyboardInterrupt:
    assert case._book is book
assert np.array_equal(segmenter.resume(sys.argv[1]).mask, case.mask)
assert np.array_equal(case.propagate(), segmenter.resume(sys.argv[1]).mask)
print("fine")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "x.limnet")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert done.stdout.strip() == "fine", done.stderr


def test_the_same_inputs_give_the_same_mask() -> None:
    results = []
    for _ in range(2):
        case = small_segmenter().open(phantom(SHAPE), spacing=(3.0, 1.0, 1.0))
        case.set_mask(blob()[4], index=4)
        case.click((6, 16, 20))
        case.box((1, 4, 4), (6, 28, 36))
        results.append(seen(case))
    assert results[0] == results[1]


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp32"])
def test_precisions(precision: str) -> None:
    case = small_segmenter(precision=precision, device="cpu").open(phantom(SHAPE))
    case.set_mask(blob()[4], index=4)
    assert case.click((6, 16, 20))[6, 16, 20]
    assert np.isfinite(case.probability).all()


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_saved_models_can_be_read_by_others(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x", encoding="utf-8")
    folder = small_segmenter().save_pretrained(tmp_path / "model")
    usual = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    for path in folder.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == usual, path
