"""A DICOM volume is a regular grid: what is not is refused, or filled where the user asks for it.

Several volumes in one series are told apart by what their headers say, or refused; never mixed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from limnet.errors import FileFormatError, InputError
from limnet.image.volume import Volume
from tests.helpers.dicom_files import stored, write_slices
from tests.helpers.small_segmenter import small_segmenter

_GRID = np.diag([0.7, 0.7, 2.0, 1.0])


def _ramp(depths: list[float]) -> np.ndarray:
    """Slices whose values are ten times their depth plus a pattern, so that linear filling has one right answer."""
    pattern = np.arange(120).reshape(12, 10)
    return np.stack([pattern + round(100 * depth) for depth in depths]).astype(np.uint16)


MISSING = [0, 1, 2, 5, 6, 7, 8, 10], r"6\.00 mm between s003\.dcm and s004\.dcm, 4\.00 mm.*gaps=.resample", (3, 4, 9)
UNEVEN = [0, 1, 2, 3, 4, 4.5, 5.75, 7], r"1\.00 mm between s005\.dcm and s006\.dcm", (5, 6)


@pytest.mark.parametrize("tilt", [0.0, 0.8])
@pytest.mark.parametrize(("at", "said", "filled"), [MISSING, UNEVEN])
def test_gaps_are_refused_or_filled(
    tmp_path: Path, at: list[float], said: str, filled: tuple[int, ...], tilt: float
) -> None:
    affine = _GRID.copy()
    affine[1, 2] = tilt
    write_slices(tmp_path / "d", _ramp(at), affine, at=at)
    with pytest.raises(FileFormatError, match=said):
        Volume.read(tmp_path / "d")
    count = int(at[-1]) + 1
    with pytest.warns(UserWarning, match=f"{len(filled)} of {count} slices are filled"):
        volume = Volume.read(tmp_path / "d", gaps="resample")
    np.testing.assert_array_equal(volume.array, _ramp(list(range(count))))
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert volume.array.dtype == np.uint16
    assert volume.filled == filled
    assert len(volume.files) == 8


def test_a_slice_left_out_is_told_where_its_gap_is_refused(tmp_path: Path) -> None:
    write_slices(tmp_path / "d", stored(0, (8, 12, 10)), _GRID)
    odd = pydicom.dcmread(tmp_path / "d" / "s003.dcm")
    odd.Rows, odd.PixelData = 6, odd.PixelData[: 6 * 10 * 2]
    odd.save_as(tmp_path / "d" / "s003.dcm")
    with (
        pytest.warns(UserWarning, match=r"1 of 8 slices have another size or orientation, left out: s003\.dcm"),
        pytest.raises(FileFormatError, match=r"4\.00 mm between s002\.dcm and s004\.dcm"),
    ):
        Volume.read(tmp_path / "d")


def test_small_steps_that_add_up(tmp_path: Path) -> None:
    at = np.concatenate([np.arange(20), 20 + 1.05 * np.arange(20)]).tolist()
    write_slices(tmp_path / "d", stored(0, (40, 4, 4)), at=at)
    with pytest.raises(FileFormatError, match="add up to a drift"):
        Volume.read(tmp_path / "d")


def test_stray_slice_is_named(tmp_path: Path) -> None:
    at = [*range(20), 290.0]
    write_slices(tmp_path / "d", stored(0, (21, 6, 5)), _GRID, at=at)
    with pytest.raises(FileFormatError, match=r"542\.00 mm between s020\.dcm and s021\.dcm, elsewhere 2\.00 mm"):
        Volume.read(tmp_path / "d")
    with pytest.raises(FileFormatError, match=r"would leave 270 of 291 to be made up"):
        Volume.read(tmp_path / "d", gaps="resample")


def test_slices_that_lie_sideways(tmp_path: Path) -> None:
    def move(data: FileDataset, z: int) -> None:
        if z == 3:
            data.ImagePositionPatient = [40, 0, 6]

    write_slices(tmp_path / "d", stored(), _GRID, change=move)
    for gaps in ("refuse", "resample"):
        with pytest.raises(FileFormatError, match=r"sideways|beside one line \(s004\.dcm\)"):
            Volume.read(tmp_path / "d", gaps=gaps)  # type: ignore[arg-type]


def test_positions_rounded_to_a_tenth_are_regular(tmp_path: Path) -> None:
    at = np.round(0.625 * np.arange(30), 1).tolist()
    write_slices(tmp_path / "d", stored(0, (30, 6, 5)), at=at)
    volume = Volume.read(tmp_path / "d")
    assert volume.spacing[0] == pytest.approx(18.1 / 29)
    assert volume.filled == ()


def test_jitter_of_orientation_drops_no_slice(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    turn = np.radians(30.0)
    base = np.array(
        [np.cos(turn), np.sin(turn), 0.0005, -np.sin(turn), np.cos(turn), 0.0005]
    )  # 5e-4: between roundings

    def jitter(data: FileDataset, _: int) -> None:
        data.ImageOrientationPatient = [f"{v:.9f}" for v in base + rng.uniform(-1e-6, 1e-6, 6)]

    values = stored(1, (40, 6, 5))
    write_slices(tmp_path / "d", values, change=jitter)
    np.testing.assert_array_equal(Volume.read(tmp_path / "d").array, values)


def test_positions_a_fraction_of_a_micron_apart_are_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one, two = stored(1), stored(2)
    for number, values in enumerate((one, two)):
        at = (np.arange(7) + 0.0005 + rng.uniform(-4e-7, 4e-7, 7)).tolist()  # half way between roundings to a micron
        write_slices(
            tmp_path / "d", values, uid="1.2.9", at=at, start=1 + 7 * number, EchoTime=2.3 * (number + 1), kind="MR"
        )
    for number, values in enumerate((one, two)):
        volume = Volume.read(tmp_path / "d", index=number)
        np.testing.assert_array_equal(volume.array, values)
        assert volume.spacing[0] == pytest.approx(1.0, abs=1e-5)


def test_fine_steps_of_a_microscope_stay_apart(tmp_path: Path) -> None:
    values = stored(1, (9, 6, 5))
    write_slices(tmp_path / "d", values, np.diag([0.001, 0.001, 0.001, 1.0]))
    volume = Volume.read(tmp_path / "d")
    np.testing.assert_array_equal(volume.array, values)
    np.testing.assert_allclose(volume.spacing, 0.001)


def test_gaps_is_checked_and_kept(tmp_path: Path) -> None:
    segmenter = small_segmenter()
    at = [0, 1, 2, 4, 5, 6]
    write_slices(tmp_path / "d", _ramp(at), _GRID, at=at)
    with pytest.raises(InputError, match=r"gaps='fill' is unknown: allowed are 'refuse' and 'resample'"):
        Volume.read(tmp_path / "d", gaps="fill")  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="filled"):
        case = segmenter.open(tmp_path / "d", gaps="resample")
    path = case.save_session(tmp_path / "s.limnet")
    with pytest.warns(UserWarning, match="filled"):
        again = segmenter.resume(path)
    assert again.volume.filled == (3,)
    np.testing.assert_array_equal(again.volume.array, case.volume.array)


_PAIRS = [
    ("AcquisitionNumber", [7, 8]),
    ("AcquisitionNumber", [9, 10]),
    ("EchoTime", [2.46, 4.92]),
    ("TemporalPositionIdentifier", [1, 2]),
    ("AcquisitionTime", ["101500.25", "102000"]),
    ("TriggerTime", [0.0, 40.5]),
    ("DiffusionBValue", [0.0, 800.0]),
    ("DiffusionGradientOrientation", [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
    ("ImageType", [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]]),
    ("ConvolutionKernel", ["B30f", "B70f"]),
]


@pytest.mark.parametrize(("keyword", "values"), _PAIRS)
def test_equal_instance_numbers_are_not_mixed(tmp_path: Path, keyword: str, values: list[Any]) -> None:
    volumes = [stored(1), stored(2)]
    for number, value in enumerate(values):  # files interleave by name: a, b, a, b
        write_slices(tmp_path / "d", volumes[number], uid="1.2.9", prefix="ab"[number], **{keyword: value})
    for path in sorted((tmp_path / "d").iterdir()):
        path.rename(path.with_name(f"{path.name[1:-4]}{path.name[0]}.dcm"))
    with pytest.raises(InputError, match=rf"holds 2 repetitions.*{keyword}.*index=0\.\.1"):
        Volume.read(tmp_path / "d")
    for number, volume in enumerate(volumes):
        read = Volume.read(tmp_path / "d", index=number)
        np.testing.assert_array_equal(read.array, volume)
        assert [p.name for p in read.files] == [f"{i:03d}{'ab'[number]}.dcm" for i in range(1, 8)]


def test_times_that_differ_from_slice_to_slice(tmp_path: Path) -> None:
    """A cine stack: the trigger times of a phase differ a little between slices."""
    rng = np.random.default_rng(0)
    volumes = [stored(i) for i in range(3)]
    for phase, values in enumerate(volumes):

        def when(data: FileDataset, _: int, phase: int = phase) -> None:
            data.TriggerTime = 40.0 * phase + float(rng.uniform(0, 9))

        write_slices(tmp_path / "d", values, uid="1.2.9", prefix="abc"[phase], change=when, kind="MR")
    for phase, values in enumerate(volumes):
        np.testing.assert_array_equal(Volume.read(tmp_path / "d", index=phase).array, values)


def test_echoes_of_time_points(tmp_path: Path) -> None:
    """Neither element alone tells the four apart."""
    expected = {}
    for number, (echo, time) in enumerate([(2.3, 1), (2.3, 2), (4.6, 1), (4.6, 2)]):
        expected[number] = stored(number)
        write_slices(
            tmp_path / "d", expected[number], uid="1.2.9", prefix="abcd"[number], kind="MR", EchoTime=echo,
            TemporalPositionIdentifier=time,
        )  # fmt: skip
    with pytest.raises(InputError, match=r"2: 7 axial slices of 12 x 10, EchoTime 4\.6, TemporalPositionIdentifier 1"):
        Volume.read(tmp_path / "d")
    for number, values in expected.items():
        np.testing.assert_array_equal(Volume.read(tmp_path / "d", index=number).array, values)


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_acquisitions_that_overlap(tmp_path: Path, shift: float) -> None:
    """Chest and abdomen in one series, the last slices of one on or between the first of the other."""
    chest, abdomen = stored(1, (9, 6, 5)), stored(2, (7, 6, 5))
    write_slices(tmp_path / "d", chest, uid="1.2.9", prefix="a", AcquisitionNumber=1)
    at = (6 + shift + np.arange(7)).tolist()
    write_slices(tmp_path / "d", abdomen, uid="1.2.9", prefix="b", AcquisitionNumber=2, at=at)
    with pytest.raises(InputError, match=r"0: 9 axial .*AcquisitionNumber 1; 1: 7 axial .*AcquisitionNumber 2"):
        Volume.read(tmp_path / "d")
    np.testing.assert_array_equal(Volume.read(tmp_path / "d", index=0).array, chest)
    second = Volume.read(tmp_path / "d", index=1)
    np.testing.assert_array_equal(second.array, abdomen)
    assert second.affine[2, 3] == pytest.approx(6 + shift)


def test_nothing_tells_them_apart(tmp_path: Path) -> None:
    write_slices(tmp_path / "d", stored(1), uid="1.2.9", prefix="a")
    write_slices(tmp_path / "d", stored(2), uid="1.2.9", prefix="b")
    with pytest.raises(FileFormatError, match=r"a001\.dcm and b001\.dcm of .* nothing in their headers"):
        Volume.read(tmp_path / "d", index=0)


def test_numbers_that_cross_are_no_order(tmp_path: Path) -> None:
    """Distinct instance numbers in no order: two slices of one place could belong to either volume."""
    numbers = np.random.default_rng(0).permutation(14) + 1

    def renumber(offset: int) -> Any:
        def change(data: FileDataset, z: int) -> None:
            data.InstanceNumber = int(numbers[offset + z])

        return change

    write_slices(tmp_path / "d", stored(1), uid="1.2.9", change=renumber(0))
    write_slices(tmp_path / "d", stored(2), uid="1.2.9", change=renumber(7))
    with pytest.raises(FileFormatError, match="nothing in their headers"):
        Volume.read(tmp_path / "d", index=0)


def test_copies_are_no_time_points(tmp_path: Path) -> None:
    values = stored(1)
    write_slices(tmp_path / "d", values)
    for path in sorted((tmp_path / "d").iterdir())[:3]:
        shutil.copy(path, path.with_name(f"{path.stem} (1).dcm"))
    with pytest.warns(UserWarning, match=r"s001\.dcm is a copy of s001 \(1\)\.dcm and 2 more"):
        volume = Volume.read(tmp_path / "d")
    np.testing.assert_array_equal(volume.array, values)
    assert len(volume.files) == 7


@pytest.mark.parametrize("renumbered", [False, True])
def test_copies_under_new_identifiers(tmp_path: Path, renumbered: bool) -> None:
    values = stored(1)
    write_slices(tmp_path / "d", values)
    for path in sorted((tmp_path / "d").iterdir()):
        data = pydicom.dcmread(path)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        data.InstanceNumber += 50 * renumbered
        data.save_as(path.with_name(f"copy{path.name}"))
    with pytest.warns(UserWarning, match=r"cop(y|ies) of"):
        volume = Volume.read(tmp_path / "d")
    np.testing.assert_array_equal(volume.array, values)


def test_empty_slices_of_two_time_points_are_no_copies(tmp_path: Path) -> None:
    volumes = [stored(1), stored(2)]
    for values in volumes:
        values[[0, -1]] = 0
    write_slices(tmp_path / "d", volumes[0], uid="1.2.9")
    write_slices(tmp_path / "d", volumes[1], uid="1.2.9", start=8)
    for number, values in enumerate(volumes):
        np.testing.assert_array_equal(Volume.read(tmp_path / "d", index=number).array, values)


def test_duplicate_slice_is_named(tmp_path: Path) -> None:
    write_slices(tmp_path / "d", stored(1))
    write_slices(tmp_path / "d", stored(2, (1, 12, 10)), uid="1.2.9", at=[3], start=40)
    data = pydicom.dcmread(tmp_path / "d" / "s040.dcm")
    data.SeriesInstanceUID = pydicom.dcmread(tmp_path / "d" / "s001.dcm").SeriesInstanceUID
    data.save_as(tmp_path / "d" / "s040.dcm")
    with pytest.raises(FileFormatError, match=r"some repeated and some not.*look at s004\.dcm, s040\.dcm"):
        Volume.read(tmp_path / "d")
