"""Masks from files: on the volume's grid, turned onto it exactly, or refused."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from limnet.errors import FileFormatError, InputError, MissingFileError
from limnet.image.io.masks import read_mask
from limnet.image.volume import Volume
from tests.helpers.fake_engine import fake_case, phantom
from tests.helpers.grids import ORIENTATIONS, grid

SHAPE = (5, 6, 7)  # D, H, W
LABELS = (np.random.default_rng(3).random(SHAPE) * 4).astype(np.uint8)


def image(path: Path, affine: np.ndarray | None = None) -> Volume:
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE).transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(array, grid("LPS", tilt=0.2) if affine is None else affine), path)
    return Volume.read(path)


def save(path: Path, labels: np.ndarray, affine: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(labels.transpose(2, 1, 0), affine), path)
    return path


@pytest.mark.parametrize("axes", [*ORIENTATIONS, "SRA", "ASR"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_masks_with_other_axes_are_turned_exactly(tmp_path: Path, axes: str, suffix: str) -> None:
    volume = image(tmp_path / "image.nii.gz")
    straight = nibabel.Nifti1Image(LABELS.transpose(2, 1, 0), volume.affine)
    now = nibabel.io_orientation(volume.affine)
    turned = straight.as_reoriented(
        nibabel.orientations.ornt_transform(now, nibabel.orientations.axcodes2ornt(tuple(axes)))
    )
    nibabel.save(turned, tmp_path / "turned.nii.gz")
    path = tmp_path / f"mask{suffix}"
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "turned.nii.gz")), str(path))
    for label in (1, 2, 3):
        assert np.array_equal(read_mask(path, volume, label), np.equal(LABELS, label))


@pytest.mark.parametrize(
    ("labels", "change", "words"),
    [
        (LABELS[:4], None, r"its shape is \(4, 6, 7\), the image's \(5, 6, 7\)"),
        (
            LABELS,
            lambda a: a @ np.diag([2, 1, 1, 1.0]),
            r"its spacing is \(5, 0.9, 1.4\) mm, the image's \(5, 0.9, 0.7\)",
        ),
        (LABELS, lambda a: a + shifted(0, 0.35), "its middle is 0.35 mm away"),
        (LABELS, lambda a: grid("LPS", tilt=0.25), "its axes are turned by"),
        (LABELS, lambda a: a + shifted(2, 5.0), "its middle is 5 mm away"),
    ],
)
def test_another_grid_is_refused_with_what_differs(tmp_path, labels, change, words) -> None:
    volume = image(tmp_path / "image.nii.gz")
    affine = np.array(volume.affine)
    path = save(tmp_path / "mask.nii.gz", labels, affine if change is None else change(affine))
    with pytest.raises(InputError, match=words) as error:
        read_mask(path, volume, 1)
    assert "does not lie on the grid of the image" in str(error.value)
    assert "\n" not in str(error.value)


def shifted(axis: int, by: float) -> np.ndarray:
    move = np.zeros((4, 4))
    move[axis, 3] = by
    return move


def test_rounding_of_headers_is_no_other_grid(tmp_path: Path) -> None:
    volume = image(tmp_path / "image.nii.gz")
    path = save(tmp_path / "mask.nii.gz", LABELS, np.array(volume.affine) + 1e-4)
    assert np.array_equal(read_mask(path, volume, 2), LABELS == 2)


def test_which_label(tmp_path: Path) -> None:
    volume = image(tmp_path / "image.nii.gz")
    path = save(tmp_path / "several.nii.gz", LABELS, volume.affine)
    with pytest.raises(InputError, match=r"several.nii.gz holds 3 labels \(1, 2, 3\): say which one is meant"):
        read_mask(path, volume)
    with pytest.raises(InputError, match=r"no label 7: it has 1, 2, 3"):
        read_mask(path, volume, 7)
    for wrong in (True, "liver", 1.0):
        with pytest.raises(InputError, match="label must be an integer"):
            read_mask(path, volume, wrong)
    one = save(tmp_path / "one.nii.gz", (LABELS == 2) * np.float32(255), volume.affine)  # floats, 255
    assert np.array_equal(read_mask(one, volume), LABELS == 2)


def test_what_is_no_label_map(tmp_path: Path) -> None:
    volume = image(tmp_path / "image.nii.gz")
    path = save(tmp_path / "p.nii.gz", LABELS.astype(np.float32) / 3, volume.affine)
    with pytest.raises(FileFormatError, match="holds fractions"):
        read_mask(path, volume)
    with pytest.raises(MissingFileError):
        read_mask(tmp_path / "nothing.nii.gz", volume)
    with pytest.raises(MissingFileError):
        read_mask(tmp_path / "nothing.npy", volume)
    (tmp_path / "bad.npz").write_bytes(b"PK")
    with pytest.raises(FileFormatError):
        read_mask(tmp_path / "bad.npz", volume)


def test_numpy_masks(tmp_path: Path) -> None:
    volume = image(tmp_path / "image.nii.gz")
    np.save(tmp_path / "bool.npy", LABELS == 1)
    assert np.array_equal(read_mask(tmp_path / "bool.npy", volume), LABELS == 1)
    written = volume.write_mask(LABELS, tmp_path / "m.npz")
    assert np.array_equal(read_mask(written, volume, 3), LABELS == 3)
    with pytest.raises(InputError, match="spacing"):
        read_mask(written, Volume.from_array(np.zeros(SHAPE, np.int16)), 3)
    np.save(tmp_path / "turned.npy", LABELS.T)
    with pytest.raises(InputError, match=r"has shape \(7, 6, 5\), the image \(5, 6, 7\)"):
        read_mask(tmp_path / "turned.npy", volume)
    np.savez(tmp_path / "x.npz", other=LABELS)
    with pytest.raises(FileFormatError, match="no key 'label'"):
        read_mask(tmp_path / "x.npz", volume)


def test_a_case_starts_from_a_file(tmp_path: Path) -> None:
    case = fake_case()
    truth = phantom() > 100
    path = case.volume.write_mask(truth.astype(np.uint8) + 2 * (phantom() > 230), tmp_path / "start.nrrd")
    with pytest.raises(InputError, match="holds 2 labels"):
        case.set_mask(path)
    assert not case.rounds
    assert np.array_equal(case.set_mask(path, frozen=False, label=1), truth & (phantom() <= 230))
    assert case.prompted == ()
    core = case.object("core")
    assert np.array_equal(core.set_mask(str(path), label=3), phantom() > 230)
    assert core.prompted
    assert np.array_equal(core.set_mask(np.where(truth, 7, 0), label=7), truth)
