from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from nibabel.orientations import aff2axcodes

from limnet.errors import FileFormatError, InputError, OutsideError
from limnet.image.io.masks import read_mask
from limnet.image.volume import Volume
from tests.helpers.grids import ORIENTATIONS, grid


def _image(
    shape: tuple[int, ...] = (4, 5, 6), affine: np.ndarray | None = None, dtype: object = np.int16
) -> nibabel.Nifti1Image:
    data = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    return nibabel.Nifti1Image(data, grid() if affine is None else affine)


def _mask(volume: Volume) -> np.ndarray:
    mask = np.zeros(volume.shape, bool)
    mask[0, 1, 2] = mask[-1, -1, -1] = True
    return mask


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("name", list(ORIENTATIONS))
@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_round_trip_keeps_grid_and_header(tmp_path: Path, suffix: str, name: str, tilt: float) -> None:
    affine = grid(name, tilt=tilt)
    image = _image(affine=affine)
    image.set_sform(affine, 2)
    image.set_qform(affine, 3)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"scanner text"
    image.to_filename(tmp_path / f"in{suffix}")
    volume = Volume.read(tmp_path / f"in{suffix}")
    assert tilt or "".join(aff2axcodes(volume.affine)) == name
    assert volume.convention == "RAS"
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, np.asarray(image.dataobj).transpose(2, 1, 0))
    np.testing.assert_allclose(volume.spacing, (5.0, 0.9, 0.7), rtol=1e-6)
    np.testing.assert_allclose(volume.to_world((3, 2, 1)), (affine @ (1, 2, 3, 1))[:3], atol=1e-4)

    path = volume.write_mask(_mask(volume), tmp_path / f"out{suffix}")
    back = nibabel.load(path)
    for key in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d"):
        np.testing.assert_array_equal(back.header[key], nibabel.load(tmp_path / f"in{suffix}").header[key])
    for key in ("qoffset_x", "qoffset_y", "qoffset_z", "pixdim", "xyzt_units", "dim", "descrip"):
        np.testing.assert_array_equal(back.header[key], nibabel.load(tmp_path / f"in{suffix}").header[key])
    assert back.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(back.dataobj).transpose(2, 1, 0), _mask(volume))


def test_no_codes_at_all(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), None)
    image.header.set_zooms((0.5, 0.6, 2.0))
    image.to_filename(tmp_path / "a.nii")
    volume = Volume.read(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.spacing, (2.0, 0.6, 0.5), rtol=1e-6)
    back = nibabel.load(volume.write_mask(_mask(volume), tmp_path / "b.nii"))
    assert int(back.header["sform_code"]) == int(back.header["qform_code"]) == 0
    np.testing.assert_array_equal(back.affine, nibabel.load(tmp_path / "a.nii").affine)


def test_broken_sform_falls_back_to_qform(tmp_path: Path) -> None:
    image = _image()
    image.set_qform(grid(), 1)
    image.header["sform_code"] = 1
    for key in ("srow_x", "srow_y", "srow_z"):
        image.header[key] = 0
    image._affine = None
    image.to_filename(tmp_path / "a.nii")
    np.testing.assert_allclose(Volume.read(tmp_path / "a.nii").affine, grid(), atol=1e-4)


def test_single_slice_without_a_step(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 5, 1), np.int16), None)
    image.header["pixdim"][1:4] = (0.5, 0.5, 0)
    image.to_filename(tmp_path / "a.nii")
    assert Volume.read(tmp_path / "a.nii").spacing == (1.0, 0.5, 0.5)


def test_useless_grid_is_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
    image.header["pixdim"][1:4] = np.nan
    image.to_filename(tmp_path / "a.nii")
    with pytest.raises(FileFormatError, match=r"no usable grid: voxel sizes \[nan, nan, nan\]"):
        Volume.read(tmp_path / "a.nii")


def test_a_doubtful_grid_is_told_of_the_image_and_not_of_its_mask(tmp_path: Path) -> None:
    nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)).to_filename(tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[280:328] = bytes(48)  # srow_x, srow_y, srow_z
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.warns(UserWarning, match=r"a\.nii has a grid that cannot be right"):
        volume = Volume.read(tmp_path / "a.nii")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volume.write_mask(np.ones((6, 5, 4), bool), tmp_path / "m.nii")


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1e-3), ("meter", 1e3), ("unknown", 1)])
def test_units_become_millimetres_and_are_kept_in_the_file(tmp_path: Path, unit: str, factor: float) -> None:
    image = _image()
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "a.nii")
    volume = Volume.read(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.spacing, np.array((5.0, 0.9, 0.7)) * factor, rtol=1e-6)
    back = nibabel.load(volume.write_mask(_mask(volume), tmp_path / "b.nii"))
    assert back.header.get_xyzt_units()[0] == unit
    np.testing.assert_allclose(back.affine, image.affine, rtol=1e-6)


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"), [(1, -1024, np.int16), (1000, 0, np.int32), (0.5, 3, np.float32)]
)
@pytest.mark.parametrize("times", [1, 3])
def test_scaling(tmp_path: Path, slope: float, intercept: float, dtype: type, times: int) -> None:
    shape = (4, 5, 6, times) if times > 1 else (4, 5, 6)
    raw = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    image = nibabel.Nifti1Image(raw, grid())
    image.header.set_slope_inter(slope, intercept)
    with open(tmp_path / "a.nii", "wb") as file:
        header = image.header.copy()
        header.set_data_offset(352)
        header.write_to(file)
        file.write(raw.tobytes(order="F"))
    volume = Volume.read(tmp_path / "a.nii", index=1 if times > 1 else None)
    picked = raw[..., 1] if times > 1 else raw
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, picked.T.astype(float) * slope + intercept)
    back = nibabel.load(volume.write_mask(_mask(volume), tmp_path / "b.nii"))
    np.testing.assert_array_equal(np.asarray(back.dataobj).T, _mask(volume))


def test_four_dimensions_need_an_index(tmp_path: Path) -> None:
    image = _image((4, 5, 6, 3))
    image.header.set_zooms((0.7, 0.9, 5.0, 2.5))
    image.to_filename(tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"holds 3 volumes.*index=0\.\.2"):
        Volume.read(tmp_path / "a.nii.gz")
    for bad in (3, -1):
        with pytest.raises(OutsideError, match=r"0\.\.2"):
            Volume.read(tmp_path / "a.nii.gz", index=bad)
    with pytest.raises(InputError, match="whole number"):
        Volume.read(tmp_path / "a.nii.gz", index=1.5)  # type: ignore[arg-type]
    volume = Volume.read(tmp_path / "a.nii.gz", index=2)
    np.testing.assert_array_equal(volume.array, np.asarray(image.dataobj)[..., 2].T)
    back = nibabel.load(volume.write_mask(_mask(volume), tmp_path / "b.nii.gz"))
    assert back.shape == (4, 5, 6)
    np.testing.assert_array_equal(back.affine, nibabel.load(tmp_path / "a.nii.gz").affine)


def test_trailing_axes_of_one(tmp_path: Path) -> None:
    _image((4, 5, 6, 1)).to_filename(tmp_path / "a.nii")
    assert Volume.read(tmp_path / "a.nii").shape == (6, 5, 4)
    assert Volume.read(tmp_path / "a.nii", index=0).shape == (6, 5, 4)
    _image((4, 5, 6, 1, 2)).to_filename(tmp_path / "b.nii")
    assert Volume.read(tmp_path / "b.nii", index=1).array[0, 0, 0] == 1
    _image((4, 5, 6, 2, 2)).to_filename(tmp_path / "c.nii")
    with pytest.raises(InputError, match="5 axes"):
        Volume.read(tmp_path / "c.nii", index=0)
    _image((4, 5)).to_filename(tmp_path / "d.nii")
    with pytest.raises(InputError, match="2-D"):
        Volume.read(tmp_path / "d.nii")


def test_color_and_nifti2(tmp_path: Path) -> None:
    record = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    record["G"] = 7
    nibabel.Nifti1Image(record, grid()).to_filename(tmp_path / "rgb.nii")
    volume = Volume.read(tmp_path / "rgb.nii")
    assert volume.array.shape == (6, 5, 4, 3)
    assert volume.array[0, 0, 0].tolist() == [0, 7, 0]
    nibabel.Nifti2Image(np.zeros((4, 5, 6), np.int16), grid("PIR")).to_filename(tmp_path / "two.nii.gz")
    volume = Volume.read(tmp_path / "two.nii.gz")
    back = nibabel.load(volume.write_mask(_mask(volume), tmp_path / "out.nii.gz"))
    assert isinstance(back, nibabel.Nifti2Image)
    np.testing.assert_array_equal(back.affine, grid("PIR"))


def test_foreign_byte_order(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    image = nibabel.Nifti1Image(np.arange(120, dtype=np.int16).reshape(4, 5, 6), grid(), header)
    image.to_filename(tmp_path / "a.nii")
    volume = Volume.read(tmp_path / "a.nii")
    assert volume.array.dtype == np.dtype("=i2")
    assert volume.array.max() == 119
    back = nibabel.load(volume.write_mask(_mask(volume), tmp_path / "b.nii"))
    np.testing.assert_array_equal(back.affine, nibabel.load(tmp_path / "a.nii").affine)
    np.testing.assert_array_equal(np.asarray(back.dataobj).T, _mask(volume))


def test_wrong_suffix_and_garbage(tmp_path: Path) -> None:
    _image().to_filename(tmp_path / "a.nii")
    whole = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(whole)
    with pytest.raises(FileFormatError, match=r"not gzip-compressed. Rename it to .nii"):
        Volume.read(tmp_path / "b.nii.gz")
    (tmp_path / "c.nii").write_bytes(gzip.compress(whole))
    with pytest.raises(FileFormatError, match=r"is gzip-compressed. Rename it to .nii.gz"):
        Volume.read(tmp_path / "c.nii")
    (tmp_path / "page.nii.gz").write_bytes(b"<html>Log in first</html>")  # no other name makes it an image
    with pytest.raises(FileFormatError, match="not what its name says"):
        Volume.read(tmp_path / "page.nii.gz")
    (tmp_path / "d.nii").write_bytes(b"no image at all" * 100)
    with pytest.raises(FileFormatError, match="damaged"):
        Volume.read(tmp_path / "d.nii")


@pytest.mark.parametrize("name", list(ORIENTATIONS))
@pytest.mark.parametrize("tilt", [0.0, 0.4])
def test_nibabel_and_simpleitk_agree_on_what_is_written(tmp_path: Path, name: str, tilt: float) -> None:
    ras = grid(name, tilt=tilt)
    volume = Volume.from_array(np.zeros((6, 5, 4), np.uint8), affine=np.diag([-1, -1, 1, 1]) @ ras, convention="LPS")
    path = volume.write_mask(_mask(volume), tmp_path / "a.nii.gz")
    loaded = nibabel.load(path)
    np.testing.assert_allclose(loaded.affine, ras, atol=1e-4)
    np.testing.assert_allclose(loaded.get_qform(), ras, atol=1e-4)
    assert (int(loaded.header["sform_code"]), int(loaded.header["qform_code"])) == (1, 1)
    image = SimpleITK.ReadImage(str(path))
    for index in ((0, 0, 0), (3, 0, 0), (0, 4, 0), (0, 0, 5)):
        world = np.array(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(world * (-1, -1, 1), (ras @ (*index, 1))[:3], atol=1e-3)
        np.testing.assert_allclose(world, volume.to_world(index[::-1]), atol=1e-3)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), _mask(volume))
    back = Volume.read(path)
    np.testing.assert_allclose(back.affine_in("LPS"), volume.affine, atol=1e-4)


def test_sheared_grid_has_only_an_sform(tmp_path: Path) -> None:
    affine = grid()
    affine[1, 2] = 1.3
    volume = Volume.from_array(np.zeros((6, 5, 4), np.uint8), affine=affine, convention="RAS")
    loaded = nibabel.load(volume.write_mask(_mask(volume), tmp_path / "a.nii"))
    np.testing.assert_allclose(loaded.affine, affine, atol=1e-4)
    assert int(loaded.header["qform_code"]) == 0


def _turned(angle: float, origin: tuple[float, float, float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] *= (2, 3, 4)
    affine[:3, 3] = origin
    return affine


@pytest.mark.parametrize("codes", [(0, 0), (0, 2), (1, 0), (1, 1), (1, 2), (1, 4), (2, 1), (2, 4), (4, 1)])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
def test_masks_lie_on_images_with_two_grids_or_none(tmp_path: Path, codes: tuple[int, int], suffix: str) -> None:
    voxels = np.zeros((14, 15, 16), np.int16)
    voxels[4:9, 3:11, 5:12] = 100
    image = nibabel.Nifti1Image(voxels, None)
    image.header.set_qform(_turned(0.1, (10, 20, 30)), codes[0])
    image.header.set_sform(_turned(0.7, (-5, 6, 7)), codes[1])
    image.to_filename(tmp_path / "a.nii")
    volume = Volume.read(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.affine, nibabel.load(tmp_path / "a.nii").affine, atol=1e-5)
    written = volume.write_mask(volume.array > 0, tmp_path / f"m{suffix}")
    fixed, moving = SimpleITK.ReadImage(str(tmp_path / "a.nii")), SimpleITK.ReadImage(str(written))
    moved = SimpleITK.Resample(moving, fixed, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(moved), SimpleITK.GetArrayFromImage(fixed) > 0)
    np.testing.assert_allclose(moving.GetOrigin(), fixed.GetOrigin(), atol=1e-6)
    np.testing.assert_array_equal(read_mask(written, volume), volume.array > 0)
    if suffix == ".nii.gz":
        before, after = (nibabel.load(path).header for path in (tmp_path / "a.nii", written))
        np.testing.assert_array_equal(after.get_qform(), before.get_qform())
        np.testing.assert_array_equal(after.get_sform(), before.get_sform())


def test_a_bad_qform_beside_a_valid_sform_is_no_damage(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(120, dtype=np.int16).reshape(4, 5, 6), grid("PIR"))
    image.set_qform(grid("PIR"), 1)
    image.header["quatern_b"] = image.header["quatern_c"] = image.header["quatern_d"] = 3.0
    image.to_filename(tmp_path / "a.nii")
    volume = Volume.read(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.affine, grid("PIR"), atol=1e-5)
    back = nibabel.load(volume.write_mask(_mask(volume), tmp_path / "m.nii.gz"))
    np.testing.assert_array_equal(np.asarray(back.dataobj).T, _mask(volume))
    np.testing.assert_allclose(back.affine, grid("PIR"), atol=1e-5)
    image, mask = (SimpleITK.ReadImage(str(tmp_path / name)) for name in ("a.nii", "m.nii.gz"))
    np.testing.assert_allclose(mask.GetDirection(), image.GetDirection(), atol=1e-6)
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[254:256] = bytes(2)  # the code of the sform
    (tmp_path / "b.nii").write_bytes(bytes(data))
    with pytest.raises(FileFormatError, match="w2 should be positive"):
        Volume.read(tmp_path / "b.nii")


def test_a_grid_of_nonsense_is_told(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(120, dtype=np.int16).reshape(4, 5, 6), None)
    image.header.set_sform(np.zeros((4, 4)), 1)
    image.header["pixdim"][1:4] = 2, 3, 4
    image.to_filename(tmp_path / "a.nii")
    with pytest.warns(UserWarning, match="orientation and position are unknown"):
        assert Volume.read(tmp_path / "a.nii").spacing == (4, 3, 2)


def test_scaled_values_too_large_for_32_bits_stay(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(120, dtype=np.int32).reshape(4, 5, 6), np.eye(4))
    image.to_filename(tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[112:116] = np.float32(3e37).tobytes()  # scl_slope
    (tmp_path / "a.nii").write_bytes(bytes(data))
    np.testing.assert_allclose(
        Volume.read(tmp_path / "a.nii").array, np.arange(120).reshape(4, 5, 6).T * 3e37, rtol=1e-6
    )
