from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from limnet.errors import FileFormatError, InputError
from limnet.image.volume import ItkGrid, Volume
from tests.helpers.grids import ORIENTATIONS, grid

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def _image(affine: np.ndarray, shape: tuple[int, ...] = (6, 5, 4), dtype: object = np.int16) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(np.arange(np.prod(shape)).reshape(shape).astype(dtype))
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(steps.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / steps).ravel().tolist())
    return image


@pytest.mark.parametrize("read", [".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("write", [".nrrd", ".mha"])
@pytest.mark.parametrize("name", list(ORIENTATIONS))
def test_round_trip(tmp_path: Path, read: str, write: str, name: str) -> None:
    lps = _LPS @ grid(name, (1 / 3, 0.1 + 0.2, np.pi), tilt=0.25)
    source = tmp_path / f"in{read}"
    SimpleITK.WriteImage(_image(lps), str(source))
    volume = Volume.read(source)
    expected = SimpleITK.ReadImage(str(source))
    assert volume.convention == "LPS"
    np.testing.assert_array_equal(volume.array, SimpleITK.GetArrayFromImage(expected))
    np.testing.assert_allclose(volume.affine, lps, atol=1e-12)
    np.testing.assert_allclose(volume.spacing, (np.pi, 0.3, 1 / 3))
    np.testing.assert_allclose(volume.to_world((5, 3, 1)), expected.TransformIndexToPhysicalPoint((1, 3, 5)))

    mask = volume.array % 2 == 0
    written = SimpleITK.ReadImage(str(volume.write_mask(mask, tmp_path / f"out{write}")))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(written), mask)
    assert written.GetPixelID() == SimpleITK.sitkUInt8
    assert written.GetOrigin() == expected.GetOrigin()
    np.testing.assert_allclose(written.GetSpacing(), expected.GetSpacing(), rtol=4e-16)
    np.testing.assert_allclose(written.GetDirection(), expected.GetDirection(), atol=5e-16)


def test_four_dimensions_and_components(tmp_path: Path) -> None:
    array = np.arange(3 * 6 * 5 * 4, dtype=np.int16).reshape(3, 6, 5, 4)
    image = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(part) for part in array])
    image.SetSpacing((0.5, 0.6, 2.0, 1.0))
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
    with pytest.raises(InputError, match=r"holds 3 volumes.*index=0\.\.2"):
        Volume.read(tmp_path / "a.mha")
    volume = Volume.read(tmp_path / "a.mha", index=1)
    np.testing.assert_array_equal(volume.array, array[1])
    assert volume.spacing == (2.0, 0.6, 0.5)
    assert Volume.read(volume.write_mask(array[1] > 0, tmp_path / "b.mha")).spacing == (2.0, 0.6, 0.5)

    vector = SimpleITK.GetImageFromArray(np.moveaxis(array, 0, -1).astype(np.float32), isVector=True)
    SimpleITK.WriteImage(vector, str(tmp_path / "c.nrrd"))
    with pytest.raises(InputError, match="3 components"):
        Volume.read(tmp_path / "c.nrrd")
    np.testing.assert_array_equal(Volume.read(tmp_path / "c.nrrd", index=2).array, array[2])


@pytest.mark.parametrize("parts", [3, 4])
def test_color(tmp_path: Path, parts: int) -> None:
    array = np.random.default_rng(0).integers(0, 256, (6, 5, 4, parts)).astype(np.uint8)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array, isVector=True), str(tmp_path / "a.mha"))
    volume = Volume.read(tmp_path / "a.mha")
    assert volume.modality == "RGB"
    np.testing.assert_array_equal(volume.array, array[..., :3])
    assert Volume.read(volume.write_mask(array[..., 0] > 9, tmp_path / "b.mha")).shape == (6, 5, 4)


def test_header_without_its_data(tmp_path: Path) -> None:
    SimpleITK.WriteImage(_image(np.eye(4)), str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").unlink()
    with pytest.raises(FileFormatError, match="data file is missing"):
        Volume.read(tmp_path / "a.mhd")


def test_two_dimensions(tmp_path: Path) -> None:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((5, 6), np.int16)), str(tmp_path / "a.mha"))
    with pytest.raises(InputError, match="2-D image"):
        Volume.read(tmp_path / "a.mha")


def test_sheared_grid_survives(tmp_path: Path) -> None:
    affine = grid()
    affine[1, 2] = 1.3
    volume = Volume.from_array(np.zeros((6, 5, 4), np.uint8), affine=affine, convention="RAS")
    for suffix in (".nrrd", ".mha"):
        back = Volume.read(volume.write_mask(volume.array == 0, tmp_path / f"a{suffix}"))
        assert isinstance(back.header, ItkGrid)
        np.testing.assert_allclose(back.affine_in("RAS"), affine, atol=1e-9)


@pytest.mark.parametrize("name", ["a.MHA", "a.Nrrd", "a.NII.GZ"])
def test_suffixes_in_capitals(tmp_path: Path, name: str) -> None:
    volume = Volume.from_array(np.arange(60, dtype=np.int16).reshape(3, 4, 5), (3.0, 1.0, 2.0))
    assert volume.write_mask(volume.array > 20, tmp_path / name) == tmp_path / name
    assert [path.name for path in tmp_path.iterdir()] == [name], "no temporary files are left"
    read = Volume.read(tmp_path / name)
    assert np.array_equal(read.array > 0, volume.array > 20)
    assert read.spacing == (3.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("line", "modality", "is_ct"),
    [
        ("", None, True),
        ("Modality = MET_MOD_UNKNOWN\n", None, True),
        ("Modality = MET_MOD_OTHER\n", None, True),
        ("Modality = MET_MOD_CT\n", "CT", True),
        ("Modality = MET_MOD_MR\n", "MR", False),
    ],
)
def test_modality_of_metaimage(tmp_path: Path, line: str, modality: str | None, is_ct: bool) -> None:
    """Every MetaImage says MET_MOD_UNKNOWN unless it was told more; a CT is recognised by its values all the same."""
    rng = np.random.default_rng(0)
    array = np.where(rng.random((6, 30, 30)) < 0.5, -1000, 40) + rng.integers(-20, 20, (6, 30, 30))
    file = tmp_path / "image.mha"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array.astype(np.int16)), str(file))
    file.write_bytes(file.read_bytes().replace(b"NDims = 3\n", b"NDims = 3\n" + line.encode(), 1))
    volume = Volume.read(file)
    assert (volume.modality, volume.intensity.is_ct) == (modality, is_ct)
    assert (volume.intensity.default_window == (-160.0, 240.0)) == is_ct
