"""Images in memory give the volume that reading their file gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch

from limnet.errors import InputError, InputTypeError
from limnet.image.volume import Volume
from tests.helpers.grids import ORIENTATIONS, grid
from tests.helpers.small_segmenter import small_segmenter

VOXELS = np.random.default_rng(0).integers(-900, 900, (4, 5, 6)).astype(np.int16)


def _monai(path: Path, **options: Any) -> Any:
    return pytest.importorskip("monai.transforms").LoadImage(image_only=True, **options)(path)


LOADERS: dict[str, Callable[[Path], Any]] = {
    "nibabel": lambda path: nibabel.load(path),
    "nibabel in memory": lambda path: nibabel.Nifti1Image(VOXELS, nibabel.load(path).affine, nibabel.load(path).header),
    "SimpleITK": lambda path: SimpleITK.ReadImage(str(path)),
    "MONAI": _monai,
    "MONAI with channels": lambda path: _monai(path, ensure_channel_first=True),
    "MONAI of ITK": lambda path: _monai(path, reader="ITKReader"),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("name", list(ORIENTATIONS))
def test_objects_lie_where_their_files_lie(tmp_path: Path, name: str, loader: str) -> None:
    if loader == "MONAI of ITK":
        pytest.importorskip("itk")
    path = tmp_path / "a.nii.gz"
    nibabel.Nifti1Image(VOXELS, grid(name, tilt=0.2)).to_filename(path)
    expected = Volume.read(path)
    found = Volume.from_array(LOADERS[loader](path))
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.affine_in("RAS"), expected.affine_in("RAS"), atol=1e-5)
    np.testing.assert_allclose(found.spacing, expected.spacing, rtol=1e-6)
    mask = expected.array > 0
    written = [v.write_mask(mask, tmp_path / f"{n}.nii.gz") for n, v in enumerate((found, expected))]
    np.testing.assert_allclose(*(nibabel.load(path).affine for path in written), atol=1e-5)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mgz"])
def test_objects_of_other_formats(tmp_path: Path, suffix: str) -> None:
    path, source = tmp_path / f"a{suffix}", tmp_path / "a.nii"
    nibabel.Nifti1Image(VOXELS, grid("PIR")).to_filename(source)
    if suffix == ".mgz":
        nibabel.MGHImage(VOXELS, grid("PIR")).to_filename(path)
    else:
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(source)), str(path))
    image = nibabel.load(path) if suffix == ".mgz" else SimpleITK.ReadImage(str(path))
    found, expected = Volume.from_array(image), Volume.read(path)
    np.testing.assert_array_equal(found.array, VOXELS.T)
    np.testing.assert_array_equal(found.affine, expected.affine)
    np.testing.assert_allclose(found.affine_in("RAS"), grid("PIR"), atol=1e-4)


def test_four_dimensions(tmp_path: Path) -> None:
    several = np.stack([VOXELS, VOXELS + 1], axis=-1)
    image = nibabel.Nifti1Image(several, grid())
    image.to_filename(tmp_path / "a.nii")
    vector = SimpleITK.GetImageFromArray(several.astype(np.float32).transpose(2, 1, 0, 3), isVector=True)
    monai = _monai(tmp_path / "a.nii")
    first = _monai(tmp_path / "a.nii", ensure_channel_first=True)
    assert (monai.shape, first.shape) == ((4, 5, 6, 2), (2, 4, 5, 6))
    for loaded in (image, vector, monai, first):
        with pytest.raises(InputError, match=r"holds 2 .*index=0\.\.1"):
            Volume.from_array(loaded)
        np.testing.assert_array_equal(Volume.from_array(loaded, index=1).array, VOXELS.T + 1)
    case = small_segmenter().open(image, index=1)
    np.testing.assert_array_equal(case.volume.array, VOXELS.T + 1)


def test_open_and_resume_by_objects(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOXELS, grid("PIR", tilt=0.3))
    segmenter = small_segmenter()
    case = segmenter.open(image, modality="MR")
    np.testing.assert_allclose(case.volume.affine, grid("PIR", tilt=0.3), atol=1e-5)
    assert case.volume.modality == "MR"
    session = case.save_session(tmp_path / "a.limnet")
    for again in (segmenter.resume(session), segmenter.resume(session, volume=image)):
        np.testing.assert_allclose(again.volume.affine, case.volume.affine)
        assert again.volume.modality == "MR"
    image.to_filename(tmp_path / "a.nii")
    session = segmenter.open(nibabel.load(tmp_path / "a.nii")).save_session(tmp_path / "b.limnet")
    assert segmenter.resume(session).volume.source == tmp_path / "a.nii"


def test_tensors() -> None:
    values = torch.arange(60, dtype=torch.float32, requires_grad=True).reshape(3, 4, 5)
    np.testing.assert_array_equal(Volume.from_array(values, (3, 2, 1)).array, values.detach().numpy())
    assert Volume.from_array(values.bfloat16()).array.dtype == np.float32
    np.testing.assert_array_equal(Volume.from_array(values.mT).array, values.detach().numpy().swapaxes(1, 2))
    for wrong in (values > 3, values.to_sparse(), values[0], values.to(torch.complex64)):
        with pytest.raises(InputError):
            Volume.from_array(wrong)


def test_grids_are_never_dropped_or_doubled() -> None:
    class Foreign:
        affine = np.eye(4)

        def __array__(self, *_: object, **__: object) -> np.ndarray:
            return VOXELS

    with pytest.raises(InputTypeError, match="grid would be lost"):
        Volume.from_array(Foreign())
    image = nibabel.Nifti1Image(VOXELS, np.diag([1.0, 2, 3, 1]))
    assert Volume.from_array(image, (3, 2, 1)).spacing == (3, 2, 1)
    for given in ({"spacing": (1, 2, 3)}, {"affine": np.eye(4)}):
        with pytest.raises(InputError, match="brings its own grid"):
            Volume.from_array(image, **given)
    for index, array in ((0, VOXELS), (1, torch.zeros(2, 2, 2))):
        with pytest.raises(InputError, match="index chooses"):
            Volume.from_array(array, index=index)
