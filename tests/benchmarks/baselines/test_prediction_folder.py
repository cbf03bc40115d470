"""Finished predictions are found by name and scored where they lie in the patient, in whatever order of voxels."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from benchmarks.baselines.prediction_folder import PredictionFolder
from limnet.data.nifti import read_image, read_labels
from limnet.errors import FileFormatError, InputError, MissingFileError
from limnet.image.volume import Volume
from tests.helpers.bench import ball, painted, run_object
from tests.helpers.fake_nifti import oriented_affine, write_nifti


def write(folder: Path, name: str, labels: np.ndarray, spacing=(1.0, 1.0, 1.0)) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    Volume.from_array(np.zeros(labels.shape, np.int16), spacing).write_mask(labels, path)


def start(folder: Path, volume: Volume, object: str, **options) -> np.ndarray:
    session = PredictionFolder(folder=str(folder), **options).start(volume, 0, "case_1", object)
    return session.click((0, 0, 0), True)


def test_predictions_are_scored_and_clicks_ignored(tmp_path: Path):
    volume, truth = ball((2.0, 1.0, 1.0))
    write(tmp_path, "case_1.nii.gz", truth, volume.spacing)
    baseline = PredictionFolder(folder=str(tmp_path))
    wrong = truth.copy()
    wrong[:10] = False
    rows = run_object(baseline, volume, wrong, 0, 3, case="case_1", object="organ")
    assert len({row.dice for row in rows}) == 1
    assert 0.5 < rows[0].dice < 1
    assert run_object(baseline, volume, truth, 0, 3, case="case_1", object="organ")[0].dice == 1
    session = baseline.start(volume, 0, "case_1", "organ")
    assert hasattr(session, "box")
    assert np.array_equal(session.box((0, 0, 0), (3, 3, 3)), truth)


def test_labels_are_found_by_name(tmp_path: Path):
    volume, truth = ball()
    labels = np.where(truth, 7, 0).astype(np.uint8)
    labels[0, :5, :5] = 3
    write(tmp_path, "case_1.nii.gz", labels)
    with pytest.raises(InputError, match=r"labels \[3, 7\].*'liver'.*no dataset.json"):
        start(tmp_path, volume, "liver")
    assert start(tmp_path, volume, "liver", label=3).sum() == 25
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 7, "lesion": 3}}))
    assert np.array_equal(start(tmp_path, volume, "liver"), truth)
    assert start(tmp_path, volume, "lesion 2").sum() == 25
    with pytest.raises(InputError, match="known are: lesion, liver"):
        start(tmp_path, volume, "spleen")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "7": "liver"}}))
    assert np.array_equal(start(tmp_path, volume, "liver"), truth)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(FileFormatError, match=r"dataset\.json"):
        start(tmp_path, volume, "liver")
    write(tmp_path, "case_1/liver.nrrd", truth)  # a file of its own comes first
    assert np.array_equal(start(tmp_path, volume, "liver"), truth)
    write(tmp_path, "case_1_spleen.nii", ~truth)
    assert np.array_equal(start(tmp_path, volume, "spleen"), ~truth)


def test_one_component_by_the_first_click(tmp_path: Path):
    labels = np.zeros((4, 20, 20), np.uint8)
    labels[1:3, 2:6, 2:6] = labels[1:3, 12:18, 12:18] = 1
    write(tmp_path, "case_1.nii.gz", labels)
    baseline = PredictionFolder(folder=str(tmp_path), component=True)
    volume = painted(labels > 0, (1.0, 1.0, 1.0))
    session = baseline.start(volume, 0, "case_1", "lesion 1")
    assert session.click((2, 11, 11), True).sum() == 72  # beside it, but nearest
    assert session.click((2, 3, 3), True).sum() == 72
    write(tmp_path, "case_1.nii.gz", labels * 0)
    assert not baseline.start(volume, 0, "case_1", "lesion 1").click((0, 0, 0), True).any()


def test_messages(tmp_path: Path):
    volume, truth = ball()
    with pytest.raises(MissingFileError, match="needs a folder"):
        PredictionFolder().start(volume, 0, "case_1", "x")
    with pytest.raises(MissingFileError, match=r"expected case_1/x\.nii\.gz or case_1_x\.nii\.gz or case_1\.nii\.gz"):
        start(tmp_path, volume, "x")
    write(tmp_path, "case_1.nii.gz", truth[:5])
    with pytest.raises(InputError, match="not lie on the grid of the image"):
        start(tmp_path, volume, "x")
    nibabel.Nifti1Image(np.full(volume.shape, 0.5).T, np.eye(4)).to_filename(tmp_path / "case_1.nii.gz")
    with pytest.raises(FileFormatError, match="fractions"):
        start(tmp_path, volume, "x")


def corner(shape: tuple[int, ...]) -> np.ndarray:
    """An object that no flip and no swap of axes leaves where it is."""
    labels = np.zeros(shape, np.uint8)
    labels[1 : 1 + max(1, shape[0] // 3), 1 : 1 + max(1, shape[1] // 4), : max(1, shape[2] // 5)] = 1
    return labels


def dice_of(folder: Path, volume: Volume, truth: np.ndarray, case: str = "case") -> float:
    baseline = PredictionFolder(folder=str(folder), label=1)
    return run_object(baseline, volume, truth, 0, 1, case=case, object="thing")[0].dice


@pytest.mark.parametrize("codes", ["LAS", "PIR", "IPL"])
def test_a_prediction_is_turned_to_the_image_or_refused(codes: str, tmp_path: Path):
    """All data sets of NIfTI files are read so; how grids are compared: tests/image/io/test_masks.py."""
    affine, labels = oriented_affine(codes, (1.0, 1.5, 2.0)), corner((9, 10, 11))
    image = write_nifti(tmp_path / "images" / "case.nii.gz", labels.astype(np.int16), affine)
    true = write_nifti(tmp_path / "true" / "case.nii.gz", labels, affine)
    volume, truth = read_image(image, "ct"), read_labels(true, image) > 0
    stored = nibabel.Nifti1Image(labels, affine)
    order = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt("SPL")
    )
    turned = stored.as_reoriented(order)
    write_nifti(tmp_path / "case.nii.gz", np.asarray(turned.dataobj), turned.affine)
    assert dice_of(tmp_path, volume, truth) == 1
    assert dice_of(tmp_path, Volume.read(image), Volume.read(true).array > 0) == 1
    write_nifti(tmp_path / "case.nii.gz", labels, affine @ np.diag([1.1, 1.0, 1.0, 1.0]))
    with pytest.raises(InputError, match=r"spacing is \([^)]*1\.1[^)]*\) mm, the image's .* mm.*Resample"):
        dice_of(tmp_path, volume, truth)


def test_images_without_an_affine_are_compared_by_shape(tmp_path: Path):
    volume, truth = ball((2.0, 1.0, 1.0))
    truth[:10] = False
    for codes in ("RAS", "LPS"):
        write_nifti(tmp_path / "case.nii.gz", truth.T.astype(np.uint8), oriented_affine(codes, (0.7, 0.7, 3.0)))
        assert dice_of(tmp_path, volume, truth) == 1
    np.save(tmp_path / "image.npy", volume.array)
    assert dice_of(tmp_path, Volume.read(tmp_path / "image.npy"), truth) == 1
