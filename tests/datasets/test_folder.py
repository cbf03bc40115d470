from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from limnet.data.module import CaseDataModule
from limnet.datasets.folder import FolderDataset
from limnet.errors import FileFormatError, InputError, LimnetError, MissingFileError
from tests.helpers.fake_folders import SHAPE, STEPS, body, write_folder, write_pictures
from tests.helpers.fake_nifti import oriented_affine, write_nifti


def test_volumes(tmp_path):
    data = FolderDataset(write_folder(tmp_path))
    cases = {case.name: case for case in data.all_cases()}
    assert sorted(cases) == ["case0", "case1", "case2", "case3"]
    volume, labels = cases["case2"].read_image(), cases["case2"].read_labels()
    image, truth = body(2)
    assert np.array_equal(volume.array, image.T)
    assert np.array_equal(labels, truth.T)
    assert np.allclose(volume.spacing, STEPS[::-1])
    assert sorted(c.name for s in ("train", "val") for c in data.cases(s)) == sorted(cases)
    assert data.cases("val")
    assert data.cases("test") == []
    assert data.check() == []


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha", ".npz"])
def test_other_volume_formats(tmp_path, suffix):
    image, labels = (a.transpose(2, 1, 0) for a in body(0))
    for folder in ("image", "label"):
        (tmp_path / folder).mkdir()
    if suffix == ".npz":
        np.savez(tmp_path / "image" / "a.npz", image=image, spacing=[2.0, 1.0, 1.0])
        np.savez(tmp_path / "label" / "a.npz", label=labels, spacing=[2.0, 1.0, 1.0])
    elif suffix == ".nii":
        write_nifti(tmp_path / "image" / "a.nii", image.T, oriented_affine(steps=(1, 1, 2)))
        write_nifti(tmp_path / "label" / "a.nii", labels.T, oriented_affine(steps=(1, 1, 2)))
    else:
        import SimpleITK

        for folder, array in (("image", image), ("label", labels)):
            stored = SimpleITK.GetImageFromArray(array)
            stored.SetSpacing((1.0, 1.0, 2.0))
            SimpleITK.WriteImage(stored, str(tmp_path / folder / f"a{suffix}"))
    (case,) = FolderDataset(tmp_path).all_cases()
    assert np.array_equal(case.read_image().array, image)
    assert np.array_equal(case.read_labels(), labels)
    assert np.allclose(case.read_image().spacing, (2, 1, 1))


@pytest.mark.parametrize("colour", [True, False])
def test_pictures_of_patients(tmp_path, colour):
    data = FolderDataset(write_pictures(tmp_path, colour=colour))
    cases = data.all_cases()
    assert [case.patient for case in cases] == ["p0"] * 3 + ["p1"] * 3
    assert cases[0].read_image().array.shape == ((1, 40, 36, 3) if colour else (1, 40, 36))
    assert np.unique(cases[0].read_labels()).tolist() == [0, 255]
    assert {c.patient for c in data.cases("train")} != {c.patient for c in data.cases("val")}
    module = CaseDataModule(data, batch_size=2, samples_per_epoch=2, size=32, cache_dir=tmp_path / "cache")
    image, mask = next(iter(module.train_dataloader()))
    assert image.shape == mask.shape == (2, 1, 32, 32)


@pytest.mark.parametrize(
    ("mode", "pixels"),
    [
        ("P", np.array([[0, 1], [2, 250]], np.uint8)),
        ("I;16", np.array([[0, 1], [2, 60000]], np.uint16)),
        ("1", np.array([[0, 1], [1, 0]], bool)),
        ("RGB", np.array([[0, 7], [9, 255]], np.uint8)),
        ("LA", np.array([[0, 7], [9, 255]], np.uint8)),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_masks_of_any_kind(tmp_path, mode, pixels, suffix):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "images" / "a.png")
    if mode == "RGB":
        picture = Image.fromarray(np.stack([pixels] * 3, -1))
    elif mode == "LA":
        picture = Image.fromarray(np.stack([pixels, np.full_like(pixels, 255)], -1), "LA")
    else:
        picture = Image.fromarray(pixels)
        if mode == "P":
            picture = Image.fromarray(pixels, "P")
            picture.putpalette([255, 0, 0] * 256)
    picture.save(tmp_path / "masks" / f"a{suffix}")
    (case,) = FolderDataset(tmp_path).all_cases()
    assert np.array_equal(case.read_labels(), pixels[None].astype(int))


def test_stack_of_pages(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        pages = [Image.fromarray(np.full((5, 4), i, np.uint8)) for i in range(3)]
        pages[0].save(tmp_path / folder / "stack.tif", save_all=True, append_images=pages[1:])
    (case,) = FolderDataset(tmp_path).all_cases()
    assert case.read_image().shape == case.read_labels().shape == (3, 5, 4)
    assert case.read_labels()[:, 0, 0].tolist() == [0, 1, 2]


def test_masks_with_an_ending_and_names(tmp_path):
    write_folder(tmp_path, masks="labels", ending="_seg")
    (tmp_path / "labels.json").write_text('{"0": "background", "1": "liver", "2": "cyst"}')
    cases = FolderDataset(tmp_path).all_cases()
    assert [c.name for c in cases] == ["case0", "case1", "case2", "case3"]
    assert cases[0].labels == {1: "liver", 2: "cyst"}


def test_subfolders_are_patients(tmp_path):
    image, labels = body(0)
    for patient in ("anna", "ben ö"):
        for number in (1, 2):
            write_nifti(tmp_path / "images" / patient / f"{number}.nii.gz", image)
            write_nifti(tmp_path / "masks" / patient / f"{number}.nii.gz", labels)
    cases = FolderDataset(tmp_path).all_cases()
    assert [c.patient for c in cases] == ["anna", "anna", "ben ö", "ben ö"]
    assert [c.name for c in cases] == ["anna__1", "anna__2", "ben_ö__1", "ben_ö__2"]


def test_given_split_and_patients(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["case0", "case1.nii.gz"], "test": ["case3"]}))
    data = FolderDataset(tmp_path)
    assert [[c.name for c in data.cases(s)] for s in data.splits] == [["case0", "case1"], [], ["case3"]]
    (tmp_path / "patients.json").write_text(json.dumps({"case1": "x", "case3": "x"}))
    with pytest.raises(InputError, match="patient x into train and test"):
        FolderDataset(tmp_path)
    (tmp_path / "splits.json").unlink()
    data = FolderDataset(tmp_path)
    where = {c.name: s for s in data.splits for c in data.cases(s)}
    assert where["case1"] == where["case3"]


def test_files_without_partner_are_named(tmp_path):
    write_folder(tmp_path, count=8)
    (tmp_path / "masks" / "case1.nii.gz").rename(tmp_path / "masks" / "stray.nii.gz")
    with pytest.raises(
        MissingFileError, match=r"1 image\(s\) without a mask: case1; 1 mask\(s\) without an image: stray"
    ):
        FolderDataset(tmp_path)
    for number in range(2, 8):
        (tmp_path / "masks" / f"case{number}.nii.gz").unlink()
    with pytest.raises(MissingFileError, match=r"7 image.*case1, case2, case3, case4, case5 and 2 more"):
        FolderDataset(tmp_path)


def test_folder_that_is_none(tmp_path):
    with pytest.raises(MissingFileError, match=r"(?s)there is no images or image or .*masks/case1.nii.gz"):
        FolderDataset(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "notes.txt").touch()
    with pytest.raises(MissingFileError, match="holds no image file"):
        FolderDataset(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("splits.json", '{"train": ["case9"]}', "lists case9, but there is no such image"),
        ("splits.json", '{"training": []}', "not as expected"),
        ("splits.json", "{", "It should be JSON"),
        ("labels.json", '{"liver": 1}', "not as expected"),
        ("patients.json", "[]", "not as expected"),
    ],
)
def test_json_that_does_not_fit(tmp_path, name, content, message):
    write_folder(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(LimnetError, match=message):
        FolderDataset(tmp_path)


def test_ambiguous_and_blurred_masks(tmp_path):
    write_folder(tmp_path, count=1)
    copy = tmp_path / "masks" / "case0_mask.nii.gz"
    copy.write_bytes((tmp_path / "masks" / "case0.nii.gz").read_bytes())
    with pytest.raises(FileFormatError, match="two masks"):
        FolderDataset(tmp_path)
    copy.unlink()
    (tmp_path / "images" / "case0.nrrd").touch()
    with pytest.raises(FileFormatError, match="same name"):
        FolderDataset(tmp_path)
    (tmp_path / "images" / "case0.nrrd").unlink()
    (tmp_path / "masks" / "case0.nii.gz").unlink()
    (tmp_path / "masks" / "case0.jpg").touch()
    with pytest.raises(FileFormatError, match="JPEG have lost their numbers"):
        FolderDataset(tmp_path)


def test_check_names_grids_colours_and_damage(tmp_path):
    write_folder(tmp_path, count=3)
    _, labels = body(0)
    write_nifti(tmp_path / "masks" / "case0.nii.gz", labels, oriented_affine("LPS", (1.0, 1.5, 3.0)))
    (tmp_path / "masks" / "case1.nii.gz").write_bytes(b"rubbish")
    write_nifti(tmp_path / "masks" / "case2.nii.gz", labels + np.float32(0.25), oriented_affine("LPS", STEPS))
    found = {p.case: p.what for p in FolderDataset(tmp_path).check()}
    assert "mm apart in space" in found["case0"]
    assert "could not be read" in found["case1"]
    assert "fractions" in found["case2"]
    (tmp_path / "p").mkdir()
    write_pictures(tmp_path / "p", count=1)
    colours = np.zeros((40, 36, 3), np.uint8)
    colours[3, 3] = 1, 2, 3
    Image.fromarray(colours).save(tmp_path / "p" / "label" / "p0_slice00.png")
    assert "holds colours" in FolderDataset(tmp_path / "p").check()[0].what


def test_volumes_with_hounsfield_units_are_ct(tmp_path):
    data = FolderDataset(write_folder(tmp_path))
    module = CaseDataModule(data, task="propagation", length=4, size=32, cache_dir=tmp_path / "c")
    module.prepare_data()
    module.setup("fit")
    assert module.training is not None
    assert module.training.sources[0].modality == "ct"
    assert SHAPE == (40, 36, 12)


def test_patients_with_suffixes_and_unknown_ones(tmp_path):
    write_folder(tmp_path)
    path = tmp_path / "patients.json"
    path.write_text(json.dumps({"case0.nii.gz": "A", "case1": "A", "case2.nii.gz": "B"}))
    assert [case.patient for case in FolderDataset(tmp_path).all_cases()] == ["A", "A", "B", "case3"]
    path.write_text(json.dumps({"case7": "A"}))
    with pytest.raises(MissingFileError, match=r"names case7, but there is no such image; .* such as case0"):
        FolderDataset(tmp_path)


def test_cases_in_two_lists_and_in_none(tmp_path):
    write_folder(tmp_path)
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"train": ["case0", "case2"], "val": ["case2.nii.gz"]}))
    with pytest.raises(InputError, match="lists case2 in train and val"):
        FolderDataset(tmp_path)
    path.write_text(json.dumps({"train": ["case0"], "val": ["case2"]}))
    (problem,) = FolderDataset(tmp_path).check()
    assert "2 case(s) are in no list of splits.json and are not used: case1, case3" in problem.what


def test_pictures_too_large_for_pillow(tmp_path, monkeypatch):
    write_pictures(tmp_path, count=1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "larger than Pillow opens" in FolderDataset(tmp_path).check()[0].what
