"""What holds for every medical volume set."""

from __future__ import annotations

import gc
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from limnet.data.dataset import LabelledDataset
from limnet.data.module import CaseDataModule
from limnet.datasets.cvpr25 import Cvpr25Dataset
from limnet.datasets.kits19 import Kits19Dataset
from limnet.datasets.registry import data_module_class, dataset_class
from limnet.datasets.totalsegmentator import TotalSegmentatorDataset
from tests.helpers.fake_cvpr25 import arrays
from tests.helpers.fake_nifti import blocks, ct, oriented_affine, write_nifti
from tests.helpers.medical_sets import MEDICAL_SETS


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("sets")
    return {name: build(top / name) for name, build in MEDICAL_SETS.items()}


@pytest.mark.parametrize("name", MEDICAL_SETS)
def test_it_tells_what_it_is(name: str):
    kind = dataset_class(name)
    for text in (kind.title, kind.licence, kind.access, kind.layout):
        assert text.strip() == text != ""
    assert "http" in kind.access
    assert kind.splits[:2] == ("train", "val")
    assert data_module_class(name).dataset_class is kind


@pytest.mark.parametrize("name", MEDICAL_SETS)
def test_patients_stay_together_and_nothing_is_left_on_the_way(name: str, roots: dict[str, Path]):
    dataset = dataset_class(name)(roots[name])
    seen: dict[str, str] = {}
    for split in dataset.splits:
        for case in dataset.cases(split):
            assert seen.setdefault(case.patient, split) == split
    left = {case.name for case in dataset.all_cases()} - {c.name for s in dataset.splits for c in dataset.cases(s)}
    assert left == ({"colon_212"} if name == "msd-colon" else set())


@pytest.mark.parametrize("name", ["amos22-mr", "bids", "btcv", "cvpr25", "kits19", "msd-colon", "totalsegmentator"])
def test_clips_can_be_drawn(name: str, roots: dict[str, Path], tmp_path: Path):
    data = data_module_class(name)(
        roots[name], "interaction", batch_size=2, samples_per_epoch=2, size=32, cache_dir=tmp_path
    )
    image, mask = next(iter(data.train_dataloader()))
    assert image.shape == mask.shape == (2, 1, 32, 32)
    assert image.dtype == mask.dtype == torch.uint8
    assert set(torch.unique(mask).tolist()) == {0, 1}


def test_they_mix(roots: dict[str, Path], tmp_path: Path):
    sets: list[tuple[LabelledDataset, float]] = [
        (dataset_class(name)(roots[name]), 1.0) for name in ("kits19", "msd-colon", "amos22-ct")
    ]
    data = CaseDataModule(sets, "interaction", batch_size=2, samples_per_epoch=2, size=32, cache_dir=tmp_path)
    assert len(data.cases("val")) == sum(len(dataset.cases("val")) for dataset, _ in sets)
    assert next(iter(data.train_dataloader()))[0].shape == (2, 1, 32, 32)


def linked_kits(root: Path, number: int) -> Path:
    """Many cases that share two files on disk."""
    affine = oriented_affine("IPL", (5.0, 0.8, 0.8))
    image = write_nifti(root / "image.nii.gz", ct((8, 40, 40)), affine)
    label = write_nifti(root / "label.nii.gz", blocks((8, 40, 40), (1, 2)), affine)
    for i in range(number):
        folder = root / "data" / f"case_{i + 1000:05d}"
        folder.mkdir(parents=True)
        os.link(image, folder / "imaging.nii.gz")
        os.link(label, folder / "segmentation.nii.gz")
    return root


def linked_cvpr(root: Path, number: int) -> Path:
    folder = root / "3D_train_npz_all"
    folder.mkdir()
    image, labels, spacing = arrays(2)
    np.savez_compressed(root / "x.npz", imgs=np.tile(image, (3, 3, 3)), gts=np.tile(labels, (3, 3, 3)), spacing=spacing)
    for i in range(number):
        os.link(root / "x.npz", folder / f"CT_{i:05d}.npz")
    return root


def linked_total(root: Path, number: int) -> Path:
    image = write_nifti(root / "image.nii.gz", ct((20, 20, 20)))
    label = write_nifti(root / "label.nii.gz", blocks((20, 20, 20), (1,)))
    for i in range(number):
        folder = root / f"s{i:04d}" / "segmentations"
        folder.mkdir(parents=True)
        os.link(image, folder.parent / "ct.nii.gz")
        os.link(label, folder / "liver.nii.gz")
    return root


@pytest.mark.parametrize(
    ("kind", "link"),
    [(Kits19Dataset, linked_kits), (Cvpr25Dataset, linked_cvpr), (TotalSegmentatorDataset, linked_total)],
)
def test_memory_stays_flat_over_thousands_of_cases(kind: type[LabelledDataset], link, tmp_path: Path):
    number = 1000
    cases = kind(link(tmp_path, number)).all_cases()
    assert len(cases) == number
    assert len(pickle.dumps(cases)) < 1000 * number  # descriptions alone: a decoded case is many times that
    for case in cases[:10]:
        size = case.read_image().array.nbytes + case.read_labels().nbytes
        assert size > 20_000
    gc.collect()
    tracemalloc.start()
    try:
        for case in cases[10:60]:
            case.read_image(), case.read_labels()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 5 * size  # of the 50 cases read nothing is held
    finally:
        tracemalloc.stop()
