"""limnet as a user meets it: the calls of the documentation on every kind of volume, with untrained networks."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from limnet import InteractiveSegmenter
from limnet.errors import HistoryError
from limnet.metrics import dice
from tests.helpers.fake_engine import phantom
from tests.helpers.small_segmenter import CENTRE, SHAPE, blob, seen, small_segmenter


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
    from limnet.hub.model import list_zoo

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


def test_a_negative_click_alone_marks_nothing(segmenter: InteractiveSegmenter) -> None:
    case = segmenter.open(phantom(SHAPE))
    assert not case.click(CENTRE, positive=False).any()
    assert case.prompted == (4,)
    case.click((6, 16, 20))
    direct = segmenter.open(phantom(SHAPE))
    direct.click((6, 16, 20))
    others = [i for i in range(SHAPE[0]) if i != 4]
    assert direct.mask[4].any()
    assert np.array_equal(case.mask[others], direct.mask[others]), "it says nothing about other slices"
    assert not case.mask[CENTRE]
    case.click((4, 1, 1), positive=False)
    case.set_mask(np.zeros(SHAPE[1:], bool), index=4)
    assert not case.mask[:5].any(), "the object ends at a slice stated empty"


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


# clicks at the very border of the image, with the released weights


@pytest.fixture(scope="module")
def bundled() -> InteractiveSegmenter:
    return InteractiveSegmenter.from_pretrained("limnet-tiny", precision="fp32")


@pytest.mark.parametrize("border", [0, 1, 3])  # at the lower one the first look shows a part with a border in sight
def test_a_click_on_the_border_finds_the_whole_object(border: int, bundled: InteractiveSegmenter) -> None:
    """A square of 20 pixels that touches the border; the answers were dots of 8 to 39 pixels."""
    truth = np.zeros((3, 64, 64), bool)
    truth[:, :20, 22:42] = True
    clicked = np.zeros((64, 64), bool)
    clicked[0, 32] = True
    truth, clicked = np.rot90(truth, border, (1, 2)), np.rot90(clicked, border)
    row, column = (int(v) for v in np.argwhere(clicked)[0])
    case = bundled.open(np.where(truth, 120.0, 40.0), spacing=(2.0, 1.0, 1.0))
    found = case.click((1, row, column), propagate=False)
    assert dice(found[1], np.ascontiguousarray(truth[1])) > 0.9
