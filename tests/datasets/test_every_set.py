"""What every data set must do, on a fake in its true layout."""

from __future__ import annotations

import functools
import gc
import os
import pickle
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from limnet.data.dataset import LabelledDataset, paths_of
from limnet.data.module import CaseDataModule
from limnet.datasets import endovis18
from limnet.datasets.coco_lvis import CocoLvisDataset
from limnet.datasets.cvpr25 import Cvpr25Dataset
from limnet.datasets.ishape import IShapeDataset
from limnet.datasets.kits19 import Kits19Dataset
from limnet.datasets.mixes import load_mix, names_of
from limnet.datasets.registry import DATASETS, dataset_class, dataset_names, open_dataset
from limnet.datasets.totalsegmentator import TotalSegmentatorDataset
from limnet.errors import InputError, LimnetError, MissingFileError
from tests.helpers.every_set import EVERY_SET, OWN_SETS, SIZES, TEST_PICTURE_SETS, VIDEO_SETS, problems
from tests.helpers.fake_folders import write_folder
from tests.helpers.fake_nifti import blocks, ct, damage, oriented_affine, write_nifti
from tests.helpers.fake_picture_sets import FRAMES, build_coco_lvis, dump
from tests.helpers.fake_pictures import disc, photo, write_picture
from tests.helpers.fake_volumes import cvpr25_arrays

Fake = Callable[[str], Path]


@pytest.fixture(autouse=True)
def published_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endovis18, "FRAMES", FRAMES)
    for name, number in SIZES.items():
        monkeypatch.setattr(dataset_class(name), "published", number)


def data_module_class(name: str) -> type[CaseDataModule]:
    kind = dataset_class(name)
    return getattr(sys.modules[kind.__module__], kind.__name__.removesuffix("Dataset") + "DataModule")


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_it_tells_what_it_is(name: str) -> None:
    kind = dataset_class(name)
    assert data_module_class(name).dataset_class is kind
    assert issubclass(kind, LabelledDataset)
    for text in (kind.title, kind.licence, kind.access, kind.layout):
        assert text.strip() == text != ""
    assert "http" in kind.access or name in ("slices", *OWN_SETS)
    assert kind.splits[:2] == ("train", "val")
    text = (Path(__file__).parents[2] / "docs/datasets.md").read_text(encoding="utf-8")
    row = next((line for line in text.splitlines() if line.startswith(f"| `{name}` |") and ".." in line), "")
    labels, windows = kind.__dict__.get("labels"), kind.__dict__.get("windows", {})
    if isinstance(labels, dict):
        assert all(f"{number} {label}" in row for number, label in labels.items())
    assert all(f"{low:g} .. {high:g}" in row for low, high in windows.values())


@pytest.mark.parametrize("name", sorted(EVERY_SET))
def test_the_fake_is_clean_and_every_case_reads(name: str, fake: Fake) -> None:
    """Cases can be pickled, lie on one grid, hold listed labels only; no patient stands in two splits."""
    dataset = dataset_class(name)(fake(name))
    assert problems(dataset) == ""
    patients: dict[str, str] = {}
    names = []
    for split in dataset.splits:
        for case in dataset.cases(split):
            assert patients.setdefault(case.patient, split) == split
            names.append(case.name)
            assert isinstance(case.read_image, functools.partial)
            again = pickle.loads(pickle.dumps(case))
            volume, labels = again.read_image(), again.read_labels()
            assert labels.shape == volume.shape
            assert labels.dtype.kind == "u"
            assert min(volume.spacing) > 0
            ids = set(np.unique(labels).tolist()) - {0}
            assert ids, case.name
            assert not case.labels or ids <= set(case.labels)
    assert len(set(names)) == len(names)
    cases = dataset.all_cases()
    assert len(pickle.dumps(cases)) < 3000 * len(cases)  # descriptions alone
    left = {case.name for case in cases} - {*names}
    assert left == ({"colon_212"} if name == "msd-colon" else set())


@pytest.mark.parametrize("name", sorted(EVERY_SET))
def test_an_empty_folder_is_refused_with_the_layout(name: str, tmp_path: Path) -> None:
    kind = dataset_class(name)
    (tmp_path / "else").mkdir()
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(MissingFileError) as caught:
            kind(folder)
        assert kind.layout in str(caught.value)
        assert kind.access in str(caught.value)


def a_file(path: Path) -> Path:
    """The file, or the first one of a folder."""
    return path if path.is_file() else min(p for p in path.iterdir() if not p.name.startswith("."))


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("name", sorted(EVERY_SET))
def test_a_damaged_file_is_told(name: str, part: int, fake: Fake) -> None:
    dataset = dataset_class(name)(fake(name))
    case = dataset.all_cases()[0]
    path = a_file(paths_of(case)[part])
    whole = path.read_bytes()
    try:
        damage(path)
        found = dataset.check_case(case)
        assert found
        assert all(problem.case == case.name and problem.advice for problem in found)
        with pytest.raises(LimnetError, match=path.name.split(".")[0]):
            case.read_image(), case.read_labels()
    finally:
        path.write_bytes(whole)


# Others have tests of their own: there a file alone does not tell what should lie beside it.
LISTED = sorted(set(EVERY_SET) - set(VIDEO_SETS) - {"bids", "cvpr25", "static-sets", "totalsegmentator"})


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("name", LISTED)
def test_a_missing_file_is_told_and_moves_no_other_case(
    name: str, part: int, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = dataset_class(name)
    monkeypatch.setattr(kind, "check_case", lambda self, case: [])  # names alone

    def places() -> dict[str, str]:
        dataset = kind(fake(name))
        return {case.name: split for split in dataset.splits for case in dataset.cases(split)}

    before, dataset = places(), kind(fake(name))
    case, *_ = dataset.all_cases()
    path = paths_of(case)[part]
    gone = {c.name for c in dataset.all_cases() if path in paths_of(c)}  # two objects may share a picture
    away = path.rename(path.with_name(f".{path.name}"))
    try:
        if name in ("folder", "open"):
            with pytest.raises(MissingFileError, match=case.name):
                kind(fake(name))
        else:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                assert places() == {n: split for n, split in before.items() if n not in gone}
            absent = {files.name for files in kind(fake(name)).files if files.absent}
            told = [str(warning.message) for warning in said if "left out" in str(warning.message)]
            assert len(told) == min(len(absent), 1)  # once for all splits
            assert all(name in told[0] for name in absent)
            with warnings.catch_warnings(action="error"):
                found = problems(kind(fake(name)))  # without a warning
            assert path.name.split(".")[0] in found or "11 objects, published are 12" in found
    finally:
        away.rename(path)


@pytest.mark.parametrize("name", sorted(TEST_PICTURE_SETS))
def test_benchmarks_are_not_trained_on(name: str, fake: Fake) -> None:
    dataset = dataset_class(name)(fake(name))
    data = data_module_class(name)(fake(name), cached=False)
    assert dataset.all_cases()
    with pytest.raises(InputError, match="has 0 case"):
        data.train_dataloader()


@pytest.mark.parametrize("name", ["ishape", "sbd", *sorted(VIDEO_SETS)])
def test_copies_of_videos_are_kept_and_of_pictures_not(name: str, fake: Fake, tmp_path: Path) -> None:
    video = name in VIDEO_SETS
    data = CaseDataModule(
        dataset_class(name)(fake(name)),
        "propagation" if video else "interaction",
        batch_size=2,
        samples_per_epoch=2,
        size=32,
        length=8,
        val_samples=2,
        cache_dir=tmp_path,
    )
    image, mask = next(iter(data.train_dataloader()))
    assert image.shape == mask.shape == (2, 8 if video else 1, 32, 32)
    assert image.dtype == mask.dtype == torch.uint8
    assert mask[:, 0].any()
    assert bool((image[:, 0] != image[:, -1]).any()) is video
    assert bool(list(tmp_path.iterdir())) is video


def test_the_first_stage_of_the_paper_is_drawn_from(fake: Fake, tmp_path: Path) -> None:
    mix = load_mix("paper-stage1", [(name, fake(name)) for name in names_of("paper-stage1")])
    assert [type(dataset) for dataset, _ in mix] == [dataset_class(name) for name in names_of("paper-stage1")]
    data = CaseDataModule(mix, batch_size=4, samples_per_epoch=40, size=32, cache_dir=tmp_path / "cache")
    batches = list(data.train_dataloader())
    assert len(batches) == 10
    assert all(image.shape == (4, 1, 32, 32) and mask.any() for image, mask in batches)


def test_colours_become_one_channel_as_asked(fake: Fake, tmp_path: Path) -> None:
    dataset = dataset_class("davis2017")(fake("davis2017"))
    options = {"batch_size": 2, "samples_per_epoch": 2, "size": 32, "cache_dir": tmp_path}
    drawn = {
        gray: next(iter(CaseDataModule(dataset, gray=gray, **options).train_dataloader()))  # type: ignore[arg-type]
        for gray in ("luminance", "green", "blue")
    }
    assert torch.equal(drawn["green"][1], drawn["blue"][1])
    assert not torch.equal(drawn["green"][0], drawn["blue"][0])
    assert not torch.equal(drawn["green"][0], drawn["luminance"][0])
    with pytest.raises(InputError, match="gray is 'purple'; allowed are luminance"):
        CaseDataModule(dataset, gray="purple")


def test_names() -> None:
    assert {"folder", "nnunet", "decathlon", "open"} <= set(dataset_names())
    with pytest.raises(InputError, match=r"'foldr' is unknown; there are .*Did you mean folder"):
        dataset_class("foldr")


def test_open(tmp_path: Path) -> None:
    assert len(open_dataset("folder", write_folder(tmp_path)).all_cases()) == 4
    assert len(open_dataset("folder", tmp_path, fraction=0.5).cases("val")) == 2
    with pytest.raises(
        InputError, match=r'folder cannot be opened with \{"share": 0.5\}; its options are fraction, seed'
    ):
        open_dataset("folder", tmp_path, share=0.5)


def linked_kits(root: Path, number: int) -> None:
    """Many cases that share two files on disk."""
    affine = oriented_affine("IPL", (5.0, 0.8, 0.8))
    image = write_nifti(root / "image.nii.gz", ct((8, 40, 40)), affine)
    label = write_nifti(root / "label.nii.gz", blocks((8, 40, 40), (1, 2)), affine)
    for i in range(number):
        folder = root / "data" / f"case_{i + 1000:05d}"
        folder.mkdir(parents=True)
        os.link(image, folder / "imaging.nii.gz")
        os.link(label, folder / "segmentation.nii.gz")


def linked_cvpr(root: Path, number: int) -> None:
    image, labels, spacing = cvpr25_arrays(2)
    (root / "3D_train_npz_all").mkdir()
    np.savez_compressed(root / "x.npz", imgs=np.tile(image, (3, 3, 3)), gts=np.tile(labels, (3, 3, 3)), spacing=spacing)
    for i in range(number):
        os.link(root / "x.npz", root / "3D_train_npz_all" / f"CT_{i:05d}.npz")


def linked_ishape(root: Path, number: int) -> None:
    inside = np.zeros((120, 120), np.uint16)
    inside[disc(60, 60, 30, (120, 120))] = 1000
    for folder, pixels in (("image", photo(inside > 0)), ("instance_map", inside)):
        path = write_picture(root / f"{folder}.png", pixels)
        (root / "log" / "train" / folder).mkdir(parents=True)
        for i in range(number):
            os.link(path, root / "log" / "train" / folder / f"{i:05d}.png")


def linked_total(root: Path, number: int) -> None:
    image = write_nifti(root / "image.nii.gz", ct((20, 20, 20)))
    label = write_nifti(root / "label.nii.gz", blocks((20, 20, 20), (1,)))
    for i in range(number):
        folder = root / f"s{i:04d}" / "segmentations"
        folder.mkdir(parents=True)
        os.link(image, folder.parent / "ct.nii.gz")
        os.link(label, folder / "liver.nii.gz")


def linked_coco(root: Path, number: int) -> None:
    first = build_coco_lvis(root / "one") / "train"
    listed = {}
    for folder, suffix in (("images", "jpg"), ("masks", "pickle")):
        (root / "train" / folder).mkdir(parents=True)
        for i in range(number):
            os.link(first / folder / f"000000000009.{suffix}", root / "train" / folder / f"{i:012d}.{suffix}")
            listed[f"{i:012d}"] = {"num_instance_masks": 3, "hierarchy": {0: None, 1: None, 2: None}}
    (root / "val").mkdir()
    for split, content in (("train", listed), ("val", {})):
        dump(root / split / "hannotation.pickle", content)


@pytest.mark.parametrize(
    ("kind", "link", "held"),
    [
        (Kits19Dataset, linked_kits, 5),
        (Cvpr25Dataset, linked_cvpr, 5),
        (TotalSegmentatorDataset, linked_total, 5),
        (IShapeDataset, linked_ishape, 1),
        (CocoLvisDataset, linked_coco, 1),
    ],
)
def test_memory_stays_flat_over_thousands_of_cases(
    kind: type[LabelledDataset], link: Callable[[Path, int], None], held: int, tmp_path: Path
) -> None:
    number = 1000
    link(tmp_path, number)
    cases = kind(tmp_path).all_cases()
    assert len(cases) == number
    assert len(pickle.dumps(cases)) < 1000 * number  # descriptions alone: a decoded case is many times that
    tracemalloc.start()
    try:
        for case in cases[:10]:
            size = case.read_image().array.nbytes + case.read_labels().nbytes
            assert size > 10_000
        gc.collect()
        first = tracemalloc.get_traced_memory()[0]
        for case in cases[10:60]:
            case.read_image(), case.read_labels()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - first < held * size  # of the 50 cases read nothing is held
    finally:
        tracemalloc.stop()
