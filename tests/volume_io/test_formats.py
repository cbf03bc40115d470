from __future__ import annotations

import errno
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from limnet.errors import FileFormatError, InputError, MissingFileError, SaveError
from limnet.volume import Volume
from limnet.volume_io.formats import READERS, WRITERS, known_suffix
from tests.helpers.grids import grid


def _volume() -> Volume:
    return Volume.from_array(np.zeros((4, 5, 6), np.int16), affine=grid("PIR"), convention="RAS")


def _full(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.nii.gz", ".nii.gz"), ("A.NII", ".nii"), ("b.1.2.mha", ".mha"), ("nii", None), (".nii", None), ("a.gz", None)],
)
def test_suffix(name: str, suffix: str | None) -> None:
    assert known_suffix(Path(name), READERS) == suffix


def test_unknown_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.tiff").write_bytes(b"x")
    with pytest.raises(InputError, match=r"a\.tiff has no suffix.*Allowed: \.nii, \.nii\.gz"):
        Volume.read(tmp_path / "a.tiff")
    for name in ("m.png", "m", "m.mhd", "m.gz"):
        with pytest.raises(InputError, match=r"can be written. Allowed: \.nii, \.nii\.gz, \.nrrd, \.mha, \.npy, \.npz"):
            _volume().write_mask(np.zeros((4, 5, 6), bool), tmp_path / name)
    assert os.listdir(tmp_path) == ["a.tiff"]


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
    mask = np.random.default_rng(0).integers(0, 1000 if labels else 2, (4, 5, 6))
    path = _volume().write_mask(mask if labels else mask.astype(bool), tmp_path / f"m{suffix}")
    if suffix == ".npz":
        back = np.load(path)["label"]
    else:
        back = Volume.read(path).array
    np.testing.assert_array_equal(back, mask)
    assert back.dtype == (np.uint16 if labels else np.uint8)
    if suffix not in (".npz", ".npy"):
        np.testing.assert_allclose(Volume.read(path).affine_in("RAS"), grid("PIR"), atol=1e-4)


@pytest.mark.parametrize("suffix", list(WRITERS))
@pytest.mark.parametrize("where", ["fsync", "replace", "open"])
def test_disk_full_keeps_the_old_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, where: str) -> None:
    volume, path = _volume(), tmp_path / f"m{suffix}"
    volume.write_mask(np.zeros((4, 5, 6), bool), path)
    before = path.read_bytes()
    if where == "open":
        monkeypatch.setattr("builtins.open", _full)
    else:
        monkeypatch.setattr(os, where, _full)
    with pytest.raises(SaveError, match="disk is full"):
        volume.write_mask(np.ones((4, 5, 6), bool), path)
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


def test_save_over_a_directory(tmp_path: Path) -> None:
    (tmp_path / "m.nii.gz").mkdir()
    for path in (tmp_path / "m.nii.gz", tmp_path):
        with pytest.raises(SaveError, match="is a directory"):
            _volume().write_mask(np.zeros((4, 5, 6), bool), path)
    with pytest.raises(SaveError, match="does not exist"):
        _volume().write_mask(np.zeros((4, 5, 6), bool), tmp_path / "no" / "m.nii.gz")


def test_bad_masks(tmp_path: Path) -> None:
    for bad in (np.zeros((4, 5), bool), np.zeros((4, 5, 6)), np.full((4, 5, 6), -1)):
        with pytest.raises(InputError, match="the mask has"):
            _volume().write_mask(bad, tmp_path / "m.nii.gz")
    with pytest.raises(InputError, match="the map has shape"):
        _volume().write_map(np.zeros((4, 5, 7)), tmp_path / "m.nii.gz")
    assert os.listdir(tmp_path) == []


def test_map(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(size=(4, 5, 6))
    for suffix in (".nii.gz", ".nrrd", ".mha", ".npy"):
        back = Volume.read(_volume().write_map(values, tmp_path / f"p{suffix}"))
        assert back.array.dtype == np.float32
        np.testing.assert_allclose(back.array, values, rtol=1e-6)


def test_same_mask_gives_the_same_bytes(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (4, 5, 6)).astype(bool)
    for suffix in (".nii.gz", ".nrrd", ".mha", ".npy"):
        first = _volume().write_mask(mask, tmp_path / f"a{suffix}").read_bytes()
        assert _volume().write_mask(mask, tmp_path / f"b{suffix}").read_bytes() == first


def test_mask_may_replace_the_file_it_was_read_from(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    nibabel.Nifti1Image(np.arange(120, dtype=np.int16).reshape(4, 5, 6), grid()).to_filename(path)
    volume = Volume.read(path)
    volume.write_mask(volume.array > 60, path)
    assert volume.array.max() == 119
    assert Volume.read(path).array.max() == 1
