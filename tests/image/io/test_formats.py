from __future__ import annotations

import errno
import functools
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from limnet.errors import FileFormatError, InputError, MissingFileError, SaveError
from limnet.image.io.formats import READERS, WRITERS, known_suffix
from limnet.image.volume import Volume
from tests.helpers.grids import grid

NO_GRID = (".npz", ".npy", ".tif", ".tiff", ".png")


def _volume(depth: int = 4) -> Volume:
    return Volume.from_array(np.zeros((depth, 5, 6), np.int16), affine=grid("PIR"), convention="RAS")


def _full(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.nii.gz", ".nii.gz"), ("A.NII", ".nii"), ("b.1.2.mha", ".mha"), ("nii", None), (".nii", None), ("a.gz", None)],
)
def test_suffix(name: str, suffix: str | None) -> None:
    assert known_suffix(Path(name), READERS) == suffix


def test_unknown_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.stl").write_bytes(b"x")
    with pytest.raises(InputError, match=r"a\.stl has no suffix.*Allowed: \.nii, \.nii\.gz"):
        Volume.read(tmp_path / "a.stl")
    for name in ("m.jpg", "m", "m.mhd", "m.gz"):
        with pytest.raises(InputError, match=r"can be written. Allowed: \.nii, \.nii\.gz, \.nrrd, \.mha, \.npy, \.npz"):
            _volume().write_mask(np.zeros((4, 5, 6), bool), tmp_path / name)
    assert os.listdir(tmp_path) == ["a.stl"]


def test_missing(tmp_path: Path) -> None:
    (tmp_path / "liver_001.nii.gz").write_bytes(b"x")
    with pytest.raises(MissingFileError, match=r"Did you mean liver_001\.nii\.gz"):
        Volume.read(tmp_path / "liver_01.nii.gz")
    with pytest.raises(MissingFileError, match="there is no folder"):
        Volume.read(tmp_path / "no" / "a.nii")


def test_side_file_and_needless_series(tmp_path: Path) -> None:
    (tmp_path / "._a.nii.gz").write_bytes(b"x")
    with pytest.raises(FileFormatError, match=r"macOS side file.*a\.nii\.gz"):
        Volume.read(tmp_path / "._a.nii.gz")
    np.save(tmp_path / "a.npy", np.zeros((2, 2, 2)))
    with pytest.raises(InputError, match="is a file"):
        Volume.read(tmp_path / "a.npy", series="x")


@pytest.mark.parametrize("suffix", list(WRITERS))
@pytest.mark.parametrize("labels", [False, True])
def test_every_format_round_trips_masks_and_labels(tmp_path: Path, suffix: str, labels: bool) -> None:
    volume = _volume(1 if suffix == ".png" else 4)
    mask = np.random.default_rng(0).integers(0, 1000 if labels else 2, volume.shape)
    path = volume.write_mask(mask if labels else mask.astype(bool), tmp_path / f"m{suffix}")
    if suffix == ".npz":
        back = np.load(path)["label"]
    else:
        back = Volume.read(path).array
    np.testing.assert_array_equal(back, mask)
    wide = np.int32 if suffix in (".mgh", ".mgz") else np.uint16
    assert back.dtype == (wide if labels else np.uint8)
    if suffix not in NO_GRID:
        np.testing.assert_allclose(Volume.read(path).affine_in("RAS"), grid("PIR"), atol=1e-4)


@pytest.mark.parametrize("suffix", list(WRITERS))
def test_disk_full_keeps_the_old_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    volume, path = _volume(1), tmp_path / f"m{suffix}"
    volume.write_mask(np.zeros(volume.shape, bool), path)
    before = path.read_bytes()
    monkeypatch.setattr("builtins.open", _full)
    with pytest.raises(SaveError, match="disk is full"):
        volume.write_mask(np.ones(volume.shape, bool), path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_failing_itk_writer_is_a_save_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import SimpleITK

    def fail(*args: object) -> None:
        raise RuntimeError("Exception thrown in SimpleITK ImageFileWriter_Execute:\nitk::ERROR: write failed")

    monkeypatch.setattr(SimpleITK, "WriteImage", fail)
    with pytest.raises(SaveError, match="write failed"):
        _volume().write_mask(np.zeros((4, 5, 6), bool), tmp_path / "m.mha")
    assert os.listdir(tmp_path) == []


def test_bad_masks(tmp_path: Path) -> None:
    for bad in (np.zeros((4, 5), bool), np.zeros((4, 5, 6)), np.full((4, 5, 6), -1)):
        with pytest.raises(InputError, match="the mask has"):
            _volume().write_mask(bad, tmp_path / "m.nii.gz")
    assert os.listdir(tmp_path) == []


def test_same_mask_gives_the_same_bytes(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (4, 5, 6)).astype(bool)
    for suffix in (".nii.gz", ".nrrd", ".mha", ".npy"):
        first = _volume().write_mask(mask, tmp_path / f"a{suffix}").read_bytes()
        assert _volume().write_mask(mask, tmp_path / f"b{suffix}").read_bytes() == first


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_image_itself_stays(tmp_path: Path) -> None:
    nibabel.Nifti1Image(np.arange(120, dtype=np.int16).reshape(4, 5, 6), grid()).to_filename(tmp_path / "a.nii")
    (tmp_path / "link.nii").symlink_to(tmp_path / "a.nii")
    os.link(tmp_path / "a.nii", tmp_path / "hard.nii")
    volume, before = Volume.read(tmp_path / "link.nii"), _files(tmp_path)
    for name in ("a.nii", "link.nii", "hard.nii"):
        with pytest.raises(InputError, match="the image itself"):
            volume.write_mask(volume.array > 60, tmp_path / name)
    assert _files(tmp_path) == before


def test_frames_of_the_image_stay(tmp_path: Path) -> None:
    from PIL import Image

    for number in range(2):
        Image.fromarray(np.full((5, 6), number, np.uint8)).save(tmp_path / f"{number}.png")
    volume, before = Volume.read(tmp_path), _files(tmp_path)
    (tmp_path / "2.tif").write_bytes(b"a picture of the same folder")
    with pytest.raises(InputError, match="part of the image itself"):
        volume.write_mask(volume.array > 0, tmp_path / "2.tif")
    volume.write_mask(volume.array > 0, tmp_path / "mask.nii.gz")
    assert all(_files(tmp_path)[name] == data for name, data in before.items())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("suffix", list(WRITERS))
def test_a_writer_that_does_not_notice_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    volume, path = _volume(1), tmp_path / f"m{suffix}"
    volume.write_mask(np.zeros(volume.shape, bool), path)
    before, real = path.read_bytes(), WRITERS[suffix]

    def cut(share: float, *arguments: Any) -> None:
        real(*arguments)
        file = arguments[2]
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])

    for share in (0.0, 0.5, 0.9):
        monkeypatch.setitem(WRITERS, suffix, functools.partial(cut, share))
        with pytest.raises(SaveError, match="does not read back"):
            volume.write_mask(np.ones(volume.shape, bool), path)
        assert _files(tmp_path) == {path.name: before}
