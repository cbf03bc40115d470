from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from limnet.data.cache import CaseCache
from limnet.data.dataset import BY_HASH, CaseFiles, LabelledCase, LabelledDataset, Problem
from limnet.data.drawing import ClipDataset
from limnet.data.module import CaseDataModule
from limnet.errors import InputError, MissingFileError
from tests.helpers.fake_folders import array_case, body, saved_case


class Small(LabelledDataset):
    """cN.npy pairs of patients a, a, b, b, ..."""

    title, licence, access, layout = "Small", "none", "ask somebody", "c0_image.npy\nc0_labels.npy"
    labels: ClassVar = {1: "one", 2: "two"}
    count = 6
    healthy: ClassVar[tuple[int, ...]] = ()
    published_splits: ClassVar[dict[str, str]] = {}

    def list_files(self) -> Iterable[CaseFiles]:
        if not (self.root / "here").is_file():
            raise self.missing(f"there is no file here in {self.root}")
        for i in range(self.count):
            image, labels = (self.root / f"c{i}_{part}.npy" for part in ("image", "labels"))
            if not image.exists():
                pixels, voxels = (a.transpose(2, 1, 0) for a in body(i))
                saved_case(self.root, f"c{i}", pixels, voxels * (i not in self.healthy))
            split = self.published_splits.get(f"c{i}") if self.published_splits else BY_HASH
            yield CaseFiles(f"c{i}", "abcdefgh"[i // 2], image, (labels,), "ct", split)

    def case_of(self, files: CaseFiles) -> LabelledCase:
        return array_case(self.root, files.name, patient=files.patient, modality="ct", labels=self.labels)


class Published(Small):
    splits = ("train", "val", "test")
    published_splits: ClassVar = {"c0": "train", "c1": "test", "c2": "val"}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    (folder / "here").touch()
    Small(folder).all_cases()
    return folder


@pytest.fixture(scope="module")
def cache(root) -> Path:
    CaseCache(root / "cache").build(Small(root).all_cases(), progress=False)
    return root / "cache"


def module(root: Path, **options: Any) -> CaseDataModule:
    return CaseDataModule(
        Small(root), **{"batch_size": 4, "samples_per_epoch": 8, "size": 32, "cache_dir": root / "cache", **options}
    )


def same(first: list[Any], second: list[Any]) -> bool:
    pairs = list(zip(first, second, strict=True))
    return all(torch.equal(a, b) for x, y in pairs for a, b in zip(x, y, strict=True))


def test_published_split_goes_first(root):
    assert [[c.name for c in Published(root).cases(s)] for s in ("train", "val", "test")] == [["c0"], ["c2"], ["c1"]]
    with pytest.raises(InputError, match=r"no split 'dev'; there are train, val, test"):
        Published(root).cases("dev")


def test_folder_that_is_not_the_data_set(tmp_path):
    with pytest.raises(MissingFileError, match=r"(?s)no file here.*expected as\nc0_image.*ask somebody"):
        Small(tmp_path)
    with pytest.raises(MissingFileError, match="is no folder"):
        Small(tmp_path / "nowhere")


def test_check(root, tmp_path):
    assert Small(root).check() == []
    (tmp_path / "here").touch()
    bad = Small(tmp_path)
    bad.all_cases()
    for i, labels in enumerate((np.zeros((12, 36, 40), int), np.full((12, 36, 40), 7), np.zeros((2, 2, 2), int))):
        np.save(tmp_path / f"c{i}_labels.npy", labels)
    np.save(tmp_path / "c3_labels.npy", np.zeros((12, 36, 40)))
    (tmp_path / "c4_labels.npy").write_bytes(b"rubbish")
    found = {p.case: p.what for p in bad.check()}
    assert re.search("no voxel is labelled", found["c0"])
    assert re.search(r"labels \[7\] are not in", found["c1"])
    assert re.search(r"\(12, 36, 40\), its labels \(2, 2, 2\)", found["c2"])
    assert re.search("dtype float64", found["c3"])
    assert re.search("pickle", found["c4"])
    assert "c5" not in found
    assert isinstance(bad.check()[0], Problem)


@pytest.mark.parametrize(
    "change", [{"name": "a/b"}, {"name": ".a"}, {"name": ""}, {"modality": "CT"}, {"labels": {0: "background"}}]
)
def test_case_that_cannot_be(root, change):
    case = Small(root).all_cases()[0]
    with pytest.raises(InputError):
        LabelledCase(**{**case.__dict__, **change})


@pytest.mark.parametrize(("task", "length"), [("interaction", 1), ("propagation", 5)])
def test_batches(root, cache, task, length):
    data = module(root, task=task, length=5)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        image, mask = next(iter(loader))
        assert image.shape == mask.shape == (4, length, 32, 32)
        assert image.dtype == mask.dtype == torch.uint8
        assert set(mask.unique().tolist()) == {0, 1}
        assert (mask[:, 0].flatten(1).sum(1) >= 12).all()
        assert image.max() > 128


def test_workers_draw_the_same(root, cache):
    assert same(list(module(root).train_dataloader()), list(module(root, workers=2).train_dataloader()))


def test_epochs_and_seeds_differ_and_repeat(root, cache):
    loader = module(root).train_dataloader()
    first, second = list(loader), list(loader)
    assert not same(first, second)
    assert not same(first, list(module(root, seed=1).train_dataloader()))
    again = module(root).train_dataloader()
    assert same(first, list(again))
    assert same(second, list(again))
    fixed = module(root).val_dataloader()
    assert same(list(fixed), list(fixed))


def test_data_sets_are_mixed_by_weight(root, cache, tmp_path):
    (tmp_path / "here").touch()
    (tmp_path / "two").mkdir()
    other = Small(tmp_path)
    data = CaseDataModule([(Small(root), 3.0), (other, 1.0)], cache_dir=cache, size=32)
    data.prepare_data()
    data.setup("fit")
    assert data.training is not None
    mine = [Path(c.read_image.args[0]).parent == root for c in data.training.sources.cases]
    assert data.training.drawer.odds[mine].sum() == pytest.approx(0.75)


def test_without_a_cache_nothing_is_stored(root, cache, tmp_path):
    data = module(root, cached=False, cache_dir=tmp_path / "none")
    assert same(list(data.train_dataloader()), list(module(root).train_dataloader()))
    assert not (tmp_path / "none").exists()


def clips(root: Path, transform: Any, length: int = 3) -> ClipDataset:
    cases = [(case, 1.0) for case in Small(root).all_cases()]
    return ClipDataset(cases, 8, length, 32, cache=CaseCache(root / "cache"), transform=transform)


def test_monai_transform_is_seeded_by_the_sample(root, cache):
    from monai.transforms import Compose, RandFlipd, RandGaussianNoised, RandRotated

    transform = Compose(
        [
            RandFlipd(["image", "mask"], prob=0.5, spatial_axis=0),
            RandRotated(["image", "mask"], range_x=1.0, prob=1.0, mode=["bilinear", "nearest"], keep_size=True),
            RandGaussianNoised(["image"], prob=1.0, std=5.0),
        ]
    )
    data, plain = clips(root, transform), clips(root, None)
    first = [data[0, i] for i in range(4)]
    assert same(first[::-1], [data[0, i] for i in (3, 2, 1, 0)])
    assert not same(first, [plain[0, i] for i in range(4)])
    for image, mask in first:
        assert image.shape == mask.shape == (3, 32, 32)
        assert image.dtype == mask.dtype == torch.uint8
        assert set(mask.unique().tolist()) <= {0, 1}
        brightest = image.float()[mask.bool()].mean() if mask.any() else 0
        assert brightest > 0


def test_transform_that_does_not_fit(root, cache, monkeypatch):
    monkeypatch.setattr("limnet.data.drawing._ATTEMPTS", 30)
    with pytest.raises(InputError, match=r"made image \(3, 16, 32\) of \(3, 32, 32\)"):
        clips(root, lambda d: {**d, "image": d["image"][:, ::2]})[0, 0]
    with pytest.raises(InputError, match="from the data set in 30 attempts"):
        clips(root, lambda d: {**d, "mask": d["mask"] * 0})[0, 0]


def test_clips_longer_than_every_case(root, cache):
    with pytest.raises(InputError, match=r"none with a labelled object of 40 voxels or more in 50 .* shorter clips"):
        clips(root, None, length=50)


@pytest.mark.parametrize(
    "options",
    [{"task": "both"}, {"batch_size": 0}, {"batch_size": 9}, {"size": 8}, {"samples_per_epoch": 0}, {"workers": -1}],
)
def test_options_that_cannot_be_used(root, cache, options):
    with pytest.raises(InputError):
        module(root, **options).train_dataloader()


def test_data_sets_that_cannot_be_used(root):
    with pytest.raises(InputError, match="is a folder: give a data set"):
        CaseDataModule(root)
    with pytest.raises(InputError, match="at least one data set"):
        CaseDataModule([])
    with pytest.raises(InputError, match="weight above 0"):
        CaseDataModule([(Small(root), 0.0)])


class Healthy(Published):
    """Of three patients the only held-out one has no object."""

    healthy = (2,)


def test_held_out_cases_without_an_object_are_told_and_not_measured(tmp_path):
    (tmp_path / "here").touch()
    data = CaseDataModule(Healthy(tmp_path), size=32, cache_dir=tmp_path / "cache")
    data.prepare_data()
    with pytest.warns(UserWarning, match=r"no validation: split 'val' has 1 case\(s\) \(c2\), but none with"):
        data.setup("validate")
    data.setup("fit")  # it was said once
    assert data.val_dataloader() == []
    assert len(data.train_dataloader()) > 0


def test_training_cases_without_an_object_are_an_error(tmp_path):
    class Sick(Healthy):
        published_splits: ClassVar = {"c0": "val", "c2": "train"}

    (tmp_path / "here").touch()
    data = CaseDataModule(Sick(tmp_path), size=32, cache_dir=tmp_path / "cache")
    data.prepare_data()
    with pytest.raises(InputError, match=r"split 'train' has 1 case\(s\) \(c2\), but none with"):
        data.setup("fit")


def test_no_held_out_case_means_no_validation(root, cache):
    class One(Small):
        count = 1

    data = CaseDataModule(One(root), size=32, cache_dir=cache)
    assert data.val_dataloader() == []
