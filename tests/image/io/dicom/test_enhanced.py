"""Multi-frame objects are read by their functional groups; highdicom is the judge of grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from pydicom.uid import JPEGLSLossless, RLELossless

from limnet.errors import FileFormatError, InputError
from limnet.image.volume import Volume
from tests.helpers.dicom_files import enhanced, item, picture, save, stored, write_slices

_OBLIQUE = [0.8, 0.6, 0.0, -0.6, 0.8, 0.0]


def _along(depths: list[float], cosines: list[float] | None = None) -> list[list[float]]:
    along, down = np.array(cosines or [1, 0, 0, 0, 1, 0], float).reshape(2, 3)
    normal = np.cross(along, down)
    return [(np.array([-40.0, 20.5, 7.25]) + d * normal).tolist() for d in depths]


@pytest.mark.parametrize("cosines", [None, _OBLIQUE])
def test_frames_in_any_order_with_scales_of_their_own(tmp_path: Path, cosines: list[float] | None) -> None:
    order = np.random.default_rng(3).permutation(7)
    values = stored(1)
    scales = [(1.0 + 0.25 * i, float(i)) for i in range(7)]
    path = save(
        enhanced(
            values[order], _along([2.5 * z for z in order], cosines), [cosines] * 7 if cosines else None,
            scales=[scales[z] for z in order],
        ),
        tmp_path / "mr.dcm",
    )  # fmt: skip
    volume = Volume.read(path)
    expected = np.stack([values[z] * scales[z][0] + scales[z][1] for z in range(7)])
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6)
    assert volume.array.dtype == np.float32
    assert volume.modality == "MR"
    assert volume.files == (path,)
    np.testing.assert_allclose(volume.spacing, (2.5, 0.9, 0.7))

    judge = highdicom.imread(path).get_volume()
    for corner in ((0, 0, 0), (6, 11, 9)):
        world = volume.to_world(corner)
        there = np.round(judge.map_reference_to_indices(world[None])[0]).astype(int)
        np.testing.assert_allclose(judge.map_indices_to_reference(there[None])[0], world, atol=1e-6)
        assert judge.array[tuple(there)] == pytest.approx(volume.array[corner])
    np.testing.assert_array_equal(Volume.read(tmp_path).array, volume.array)  # the folder is the same series


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_frames(tmp_path: Path, syntax: str) -> None:
    order, values = np.random.default_rng(3).permutation(7), stored(1)
    data = enhanced(values[order], _along([2.5 * z for z in order]), scales=[(0.5 + z, -float(z)) for z in order])
    data.compress(syntax, generate_instance_uid=False)
    volume = Volume.read(save(data, tmp_path / "mr.dcm"))
    np.testing.assert_allclose(volume.array, np.stack([values[z] * (0.5 + z) - z for z in range(7)]), rtol=1e-6)


def test_ct_frames_with_one_scale_are_integers(tmp_path: Path) -> None:
    values = stored(1)
    data = enhanced(values, _along([3.0 * z for z in range(7)]), kind="enhanced CT", scales=[(1, -1024)] * 7)
    data.PhotometricInterpretation = "MONOCHROME1"
    volume = Volume.read(save(data, tmp_path / "ct.dcm"))
    np.testing.assert_array_equal(volume.array, values.astype(int) - 1024)
    assert volume.array.dtype.kind == "i"


@pytest.mark.parametrize(
    "content",
    [
        lambda time: {"TemporalPositionIndex": time + 1},
        lambda time: {"FrameAcquisitionDateTime": f"2020010112{time:02d}00"},
        lambda time: {"StackID": f"{time + 1}"},
        lambda time: {"DimensionIndexValues": [1, time + 1]},
    ],
)
def test_time_points(tmp_path: Path, content: Any) -> None:
    one, two = stored(1), stored(2)
    frames = np.stack([one, two], axis=1).reshape(14, 12, 10)  # both times of a place, then the next place
    data = enhanced(frames, _along([z / 2 // 1 * 2.0 for z in range(14)]), content=lambda i: content(i % 2))
    path = save(data, tmp_path / "mr.dcm")
    with pytest.raises(InputError, match=r"holds 2 repetitions .*index=0\.\.1"):
        Volume.read(path)
    np.testing.assert_array_equal(Volume.read(path, index=0).array, one)
    np.testing.assert_array_equal(Volume.read(path, index=1).array, two)
    with pytest.raises(InputError, match="allowed are 0"):
        Volume.read(path, index=2)


def test_echoes_in_a_group_of_their_own(tmp_path: Path) -> None:
    one, two = stored(1), stored(2)
    data = enhanced(np.concatenate([two, one]), _along([float(z) for z in range(7)]) * 2)
    for i, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        frame.MREchoSequence = [item(EffectiveEchoTime=4.6 if i < 7 else 2.3)]
    path = save(data, tmp_path / "mr.dcm")
    with pytest.raises(InputError, match=r"0: 7 axial slices of 12 x 10, EffectiveEchoTime 2\.3; 1: .* 4\.6"):
        Volume.read(path)
    np.testing.assert_array_equal(Volume.read(path, index=0).array, one)


def test_diffusion_directions(tmp_path: Path) -> None:
    volumes = [stored(i) for i in range(3)]
    data = enhanced(np.concatenate(volumes), _along([float(z) for z in range(7)]) * 3)
    for i, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        diffusion = item(DiffusionBValue=0.0 if i < 7 else 1000.0)
        if i >= 7:
            direction = [1.0, 0.0, 0.0] if i < 14 else [0.0, 1.0, 0.0]
            diffusion.DiffusionGradientDirectionSequence = [item(DiffusionGradientOrientation=direction)]
        frame.MRDiffusionSequence = [diffusion]
    path = save(data, tmp_path / "mr.dcm")
    np.testing.assert_array_equal(Volume.read(path, index=0).array, volumes[0])
    directions = {Volume.read(path, index=i).array.tobytes() for i in (1, 2)}
    assert directions == {volumes[1].tobytes(), volumes[2].tobytes()}


def test_nothing_tells_time_points_apart(tmp_path: Path) -> None:
    data = enhanced(stored(1, (14, 12, 10)), _along([float(z) for z in range(7)]) * 2)
    with pytest.raises(FileFormatError, match=r"mr\.dcm frame 1 and mr\.dcm frame 8 .* nothing in their headers"):
        Volume.read(save(data, tmp_path / "mr.dcm"))


def test_three_orientations(tmp_path: Path) -> None:
    stacks = {
        "axial": [1, 0, 0, 0, 1, 0],
        "coronal": [1, 0, 0, 0, 0, -1],
        "sagittal": [0, 1, 0, 0, 0, -1],
    }
    values, positions, orientations = stored(1, (9, 12, 10)), [], []
    for cosines in stacks.values():
        positions += _along([0.0, 5.0, 10.0], cosines)
        orientations += [cosines] * 3
    path = save(enhanced(values, positions, orientations), tmp_path / "loc.dcm")
    with pytest.raises(InputError, match=r"0: 3 axial .*1: 3 coronal .*2: 3 sagittal .*index=0\.\.2"):
        Volume.read(path)
    for number, cosines in enumerate(stacks.values()):
        volume = Volume.read(path, index=number)
        np.testing.assert_array_equal(volume.array, values[3 * number : 3 * number + 3])
        np.testing.assert_allclose(volume.affine[:3, 0], np.array(cosines[:3]) * 0.7)
        np.testing.assert_allclose(volume.affine[:3, 1], np.array(cosines[3:]) * 0.9)
        assert volume.spacing[0] == pytest.approx(5.0)


def test_too_few_functional_groups(tmp_path: Path) -> None:
    data = enhanced(stored(1), _along([float(z) for z in range(7)]))
    data.PerFrameFunctionalGroupsSequence = data.PerFrameFunctionalGroupsSequence[:6]
    with pytest.raises(FileFormatError, match="7 frames, but functional groups for 6"):
        Volume.read(save(data, tmp_path / "mr.dcm"))


def test_one_series_in_several_multi_frame_files(tmp_path: Path) -> None:
    values = stored(1)
    for number, part in enumerate((slice(4, 7), slice(0, 4))):
        positions = _along([2.5 * z for z in range(7)])[part]
        save(enhanced(values[part], positions, SeriesInstanceUID="1.2.9"), tmp_path / f"{number}.dcm")
    volume = Volume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    assert [p.name for p in volume.files] == ["1.dcm", "0.dcm"]


def test_tiles_of_a_slide_are_refused(tmp_path: Path) -> None:
    data = picture(np.zeros((4, 8, 8, 3), np.uint8), "US cine", TotalPixelMatrixColumns=16, TotalPixelMatrixRows=16)
    with pytest.raises(InputError, match="4 tiles of a whole-slide image"):
        Volume.read(save(data, tmp_path / "slide.dcm"))
    write_slices(tmp_path, stored())
    with pytest.warns(UserWarning, match=r"slide.dcm left out: tiles of a whole-slide image"):
        assert Volume.read(tmp_path).shape == stored().shape


@pytest.mark.parametrize("step", [4.0, -4.0])
def test_nuclear_medicine_tomography(tmp_path: Path, step: float) -> None:
    """Two energy windows; the slices of each follow its vector."""
    values = stored(1, (8, 6, 5))
    detector = item(ImagePositionPatient=[-10, -20, 30], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    data = picture(
        values, "NM", ImageType=["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"], SpacingBetweenSlices=step,
        PixelSpacing=[4, 4], DetectorInformationSequence=[detector], SliceVector=[1, 2, 3, 4] * 2,
        EnergyWindowVector=[1] * 4 + [2] * 4,
    )  # fmt: skip
    path = save(data, tmp_path / "nm.dcm")
    volume = Volume.read(path, index=1)
    np.testing.assert_array_equal(volume.array, values[4:] if step > 0 else values[:3:-1])
    assert volume.affine[2, 3] == pytest.approx(30 if step > 0 else 18)
    np.testing.assert_allclose(volume.spacing, 4)


def test_dose(tmp_path: Path) -> None:
    values = stored(1, (4, 6, 5))
    data = picture(
        values, "RTDOSE", GridFrameOffsetVector=[0, 3, 6, 9], DoseGridScaling=0.001, PixelSpacing=[2.5, 2.5],
        ImagePositionPatient=[-10, -20, 30], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
    )  # fmt: skip
    volume = Volume.read(save(data, tmp_path / "dose.dcm"))
    np.testing.assert_allclose(volume.array, values * 0.001, rtol=1e-6)
    np.testing.assert_allclose(volume.spacing, (3, 2.5, 2.5))
    np.testing.assert_allclose(volume.affine[:3, 3], (-10, -20, 30))
