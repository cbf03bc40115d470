"""Learning from finished cases: one lesson for all tests, with the released model and few steps."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from limnet import InteractiveSegmenter
from limnet.case.case import Case
from limnet.errors import Cancelled, InputError, InputTypeError, MissingFileError, ModelFormatError, SaveError
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from limnet.interaction.window import fingerprint
from limnet.learning import training
from limnet.learning.adapter import Adapter, list_adapters, main_parts, read_adapter, remove_adapter
from limnet.learning.training import Example, draw_batch
from limnet.metrics.masks import dice
from tests.helpers.small_segmenter import small_segmenter

SHAPE = (6, 64, 72)
SPACING = (5.0, 1.0, 1.0)


def scene(seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A bright ball to learn and a darker one beside it, at places drawn by the seed."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    row, column = rng.uniform(20, 30), rng.uniform(20, 28)
    ball = ((z - 3) * 4) ** 2 + (y - row) ** 2 + (x - column) ** 2 < 121
    other = ((z - 3) * 4) ** 2 + (y - row - 14) ** 2 + (x - column - 28) ** 2 < 100
    image = rng.normal(20, 4, SHAPE) + 100 * ball + 45 * other
    return image.astype(np.float32), ball


def finished(segmenter: InteractiveSegmenter, seed: int) -> Case:
    image, truth = scene(seed)
    case = segmenter.open(image, spacing=SPACING)
    case.set_mask(truth, frozen=False)
    return case


@pytest.fixture(scope="module")
def segmenter() -> InteractiveSegmenter:
    segmenter = InteractiveSegmenter.from_pretrained("limnet-tiny", precision="fp32")
    segmenter.interaction.window_size = 64  # a sixth of the work
    return segmenter


@pytest.fixture(scope="module")
def lesson(segmenter: InteractiveSegmenter, tmp_path_factory: pytest.TempPathFactory) -> tuple[Adapter, Path, str]:
    """What two cases taught in at most 16 steps, its folder, and the fingerprint of the network before."""
    folder, before = tmp_path_factory.mktemp("adapters"), fingerprint(segmenter.interaction)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_MOST", 16), ("_RATE", 8e-3), ("_BATCH", 4)):
            patch.setattr(training, name, value)
        adapter = segmenter.learn([finished(segmenter, 1), finished(segmenter, 2)], "ball", folder=folder)
    return adapter, folder, before


def test_the_next_case_is_proposed_without_a_click(
    segmenter: InteractiveSegmenter, lesson: tuple[Adapter, Path, str], tmp_path: Path
) -> None:
    _, folder, _ = lesson
    image, truth = scene(3)
    case = segmenter.open(image, spacing=SPACING)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask = case.propose("ball", folder=folder)
    assert dice(mask, truth) > 0.7
    assert np.array_equal(case.mask, mask)
    assert len(case.rounds) == 1
    assert not case.prompted
    assert (case.quality[truth.any((1, 2))] < 1).all(), "nobody has looked at any slice"
    assert case.suggest().index in range(SHAPE[0])
    case.save_session(tmp_path / "a.limnet")
    again = segmenter.resume(tmp_path / "a.limnet")
    assert np.array_equal(again.mask, mask)
    assert np.array_equal(again.quality, case.quality)
    z, y, x = np.argwhere(truth)[len(np.argwhere(truth)) // 2]
    assert case.click((z, y, x))[z, y, x]
    case.undo()
    assert np.array_equal(case.mask, mask)
    case.undo()
    assert not case.mask.any()


def test_the_model_stays_as_it_is(segmenter: InteractiveSegmenter, lesson: tuple[Adapter, Path, str]) -> None:
    adapter, _, before = lesson
    assert fingerprint(segmenter.interaction) == before == adapter.network
    assert not any(p.grad is not None for p in segmenter.interaction.parameters())


def test_files_are_listed_shared_and_removed(
    segmenter: InteractiveSegmenter, lesson: tuple[Adapter, Path, str], tmp_path: Path
) -> None:
    adapter, folder, _ = lesson
    assert list_adapters(folder) == ["ball"]
    shared = tmp_path / "from a friend.safetensors"
    shared.write_bytes((folder / "ball.safetensors").read_bytes())
    assert shared.stat().st_size < 12e6
    read = read_adapter(str(shared))
    assert (read.name, read.cases, read.side, read.single) == ("ball", 2, adapter.side, True)
    assert all(torch.equal(read.weights[k], v.half()) for k, v in adapter.weights.items())
    image, truth = scene(4)
    assert dice(segmenter.open(image, spacing=SPACING).propose(str(shared)), truth) > 0.7
    read.save(tmp_path)
    remove_adapter("ball", tmp_path)
    assert list_adapters(tmp_path) == ["from a friend"]
    with pytest.raises(MissingFileError, match="'ball'"):
        remove_adapter("ball", tmp_path)


def test_an_object_that_is_absent_is_not_invented(
    segmenter: InteractiveSegmenter, lesson: tuple[Adapter, Path, str]
) -> None:
    empty = segmenter.open(np.random.default_rng(0).normal(20, 4, SHAPE), spacing=SPACING, window=(0, 130))
    with pytest.warns(UserWarning, match="no ball was found"):
        assert not empty.propose("ball", folder=lesson[1]).any()
    assert not empty.rounds


def test_what_does_not_fit_is_refused(
    segmenter: InteractiveSegmenter, lesson: tuple[Adapter, Path, str], tmp_path: Path
) -> None:
    adapter, folder, _ = lesson
    with pytest.raises(InputError, match="another click network"):
        small_segmenter().open(scene(3)[0]).propose("ball", folder=folder)
    with pytest.raises(InputError, match="marked already"):
        finished(segmenter, 3).propose("ball", folder=folder)
    with pytest.raises(MissingFileError, match="'ball'"):
        segmenter.open(scene(3)[0]).propose("bell", folder=folder)
    ct = Volume.from_array(scene(3)[0], SPACING, modality="CT")
    case = segmenter.open(ct)
    case.set_mask(scene(3)[1])
    mr = Volume.from_array(scene(3)[0], SPACING, modality="MR")
    other = segmenter.open(mr)
    other.set_mask(scene(3)[1])
    with pytest.raises(InputError, match="several modalities"):
        segmenter.learn([case, other], "x", folder=tmp_path)
    with pytest.raises(InputError, match="1 to 20"):
        segmenter.learn([], "x", folder=tmp_path)
    with pytest.raises(InputError, match="teaches nothing"):
        segmenter.learn([segmenter.open(scene(3)[0])], "x", folder=tmp_path)
    for bad in ("../x", "", "a/b", ".x", "x" * 65, "x."):
        with pytest.raises(InputError, match="name of a task"):
            segmenter.learn([case], bad, folder=tmp_path)
    with pytest.raises(InputTypeError, match="string"):
        segmenter.learn([case], 3, folder=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(Cancelled):
        segmenter.learn([case], "x", folder=tmp_path, progress=lambda done, total: False)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SaveError, match="there is a file"):  # before anything is learned
        segmenter.learn([case], "x", folder=Path(__file__), progress=lambda done, total: pytest.fail("learns"))
    taught = Adapter(**{**vars(adapter), "name": "ct", "modality": "CT"})
    taught.save(tmp_path)
    with pytest.raises(InputError, match="this volume is MR"):
        segmenter.open(mr).propose("ct", folder=tmp_path)


@pytest.mark.parametrize("damage", ["cut", "foreign", "newer", "nan", "name"])
def test_damaged_files_are_refused(lesson: tuple[Adapter, Path, str], tmp_path: Path, damage: str) -> None:
    adapter, folder, _ = lesson
    data, path = (folder / "ball.safetensors").read_bytes(), tmp_path / "ball.safetensors"
    facts = {k: v for k, v in vars(adapter).items() if k != "weights"}
    one = {"head.weight": torch.zeros(2)}
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "foreign":
        save_file(one, path)
    else:
        about = {"format": 1, **facts, **({"format": 2} if damage == "newer" else {})}
        about["name"] = "../../x" if damage == "name" else "ball"
        save_file(
            {"head.weight": one["head.weight"] * (float("nan") if damage == "nan" else 1)},
            path,
            {"limnet_adapter": json.dumps(about)},
        )
    with pytest.raises(ModelFormatError, match="newer" if damage == "newer" else "damaged"):
        read_adapter("ball", tmp_path)


def test_cases_that_contradict_each_other_are_told(
    segmenter: InteractiveSegmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, truth = scene(1)
    first, second = (segmenter.open(image, spacing=SPACING) for _ in range(2))
    first.set_mask(truth, frozen=False)
    second.set_mask(~truth & (image < 40), frozen=False)
    monkeypatch.setattr(training, "_MOST", 2)
    with pytest.warns(UserWarning, match="same structure"):
        segmenter.learn([first, second], "both", folder=tmp_path)


def test_samples_hold_object_and_background_at_all_scales() -> None:
    image, truth = scene(1)
    example = Example(SliceView(Volume.from_array(image, SPACING)), truth, None)
    images, masks = draw_batch([example], 32, 64, np.random.default_rng(0))
    assert images.shape == masks.shape == (32, 1, 64, 64)
    assert 0 <= images.min() <= images.max() <= 1
    shares = masks.mean((1, 2, 3))
    assert (shares == 0).any(), "slices beyond the ends"
    assert shares.max() > 3 * shares[shares > 0].min(), "near and wide windows"
    inside, outside = images[masks > 0], images[masks == 0]
    assert inside.mean() > outside.mean() + 0.3, "image and mask are cut alike"


def test_only_objects_of_one_piece_lose_their_crumbs() -> None:
    mask = np.zeros((3, 10, 10), bool)
    mask[:, 1:5, 1:5] = mask[1, 8, 8] = True
    assert main_parts(mask, single=True).sum() == 48
    assert main_parts(mask, single=False).sum() == 49
