"""Damaged files: never other voxels without a word, and a lack of memory is not called damage."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from limnet.errors import FileFormatError, NotEnoughMemoryError
from limnet.image.io import formats
from limnet.image.io.nifti import read_nifti_grid
from limnet.image.volume import Volume

VOXELS = np.random.default_rng(0).integers(0, 900, (6, 20, 24)).astype(np.int16)


def _itk(path: Path) -> None:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS), str(path), True)


def _tiff(path: Path) -> None:
    pages = [Image.fromarray(page.astype(np.uint16)) for page in VOXELS]
    pages[0].save(path, compression="tiff_adobe_deflate", save_all=True, append_images=pages[1:])


def _written(name: str, array: np.ndarray, folder: Path) -> Path:
    """A file with an array (D, H, W), by the writer that everybody has for its format."""
    path = folder / name
    if ".nii" in name:
        nibabel.Nifti1Image(array.T, np.eye(4)).to_filename(path)
    elif name.endswith(".npy"):
        np.save(path, array)
    elif name.endswith(".npz"):
        np.savez_compressed(path, image=array)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path), "packed" in name)
    return path


FORMATS = ["a.nii", "a.nii.gz", "a.nrrd", "packed.nrrd", "a.mha", "packed.mha", "a.npy", "a.npz"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.002, 0.01, 0.3, 0.5, 0.9, 0.95, 0.99])
def test_truncated(tmp_path: Path, name: str, share: float) -> None:
    path = _written(name, np.random.default_rng(0).integers(0, 1000, (20, 30, 40)).astype(np.int16), tmp_path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(FileFormatError, match=r"could not be read: (it is cut short|the file is empty)"):
        Volume.read(path)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_values_and_dtypes_are_kept(tmp_path: Path, name: str, dtype: type) -> None:
    found = Volume.read(_written(name, VOXELS.astype(dtype), tmp_path)).array
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, VOXELS.astype(dtype))


PACKED: dict[str, Callable[[Path], object]] = {
    "a.nii.gz": lambda p: nibabel.Nifti1Image(VOXELS.T, np.eye(4)).to_filename(p),
    "a.mgz": lambda p: nibabel.MGHImage(VOXELS.T, np.eye(4)).to_filename(p),
    "a.mha": _itk,
    "a.mhd": _itk,
    "a.nrrd": _itk,
    "a.nhdr": _itk,
    "a.npz": lambda p: np.savez_compressed(p, image=VOXELS),
    "a.png": lambda p: Image.fromarray(VOXELS[0].astype(np.uint16)).save(p),
    "a.tif": _tiff,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PACKED)
def test_flipped_bits_of_packed_voxels(tmp_path: Path, name: str) -> None:
    PACKED[name](tmp_path / name)
    data = {path: path.read_bytes() for path in tmp_path.iterdir()}
    target = max(data, key=lambda path: len(data[path]))
    expected = VOXELS[:1] if name == "a.png" else VOXELS
    np.testing.assert_array_equal(Volume.read(tmp_path / name).array, expected)
    rng, noticed = np.random.default_rng(1), 0
    for _ in range(40):
        changed = bytearray(data[target])
        changed[int(rng.integers(len(changed) // 4, len(changed) - 200))] ^= 1 << int(rng.integers(8))
        target.write_bytes(bytes(changed))
        try:
            found = Volume.read(tmp_path / name).array
        except FileFormatError:
            noticed += 1
        else:
            np.testing.assert_array_equal(found, expected)
    assert noticed >= 38, "hardly any bit in the middle of such a file is without meaning"


def _huge(path: Path) -> None:
    """A header that promises far more voxels than there are bytes."""
    if path.suffix == ".nii":
        PACKED["a.nii.gz"](path)
        data = bytearray(path.read_bytes())
        data[42:48] = struct.pack("<3h", 32000, 32000, 32000)
    elif path.suffix == ".npy":
        np.save(path, VOXELS)
        data = path.read_bytes().replace(b"(6, 20, 24), }       ", b"(99999, 99999, 24), }")
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS), str(path), path.stem == "packed")
        data = path.read_bytes().replace(b"24 20 6", b"32000 32000 32000")
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["a.nii", "a.npy", "a.nrrd", "packed.nrrd", "a.mha", "packed.mha"])
def test_a_header_that_promises_too_much_is_damage(tmp_path: Path, name: str) -> None:
    _huge(tmp_path / name)
    for read in (Volume.read, read_nifti_grid)[: 2 if name == "a.nii" else 1]:
        with pytest.raises(FileFormatError, match="header promises"):
            read(tmp_path / name)


def test_bytes_left_over_are_told(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nrrd", "a.mha", "a.npy"):
        volume = Volume.from_array(VOXELS)
        volume.write_mask(VOXELS > 400, tmp_path / name)
        if name.endswith((".nrrd", ".mha")):
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS), str(tmp_path / name))
        with open(tmp_path / name, "ab") as file:
            file.write(bytes(700))
        with pytest.warns(UserWarning, match="700 bytes more than its header speaks of"):
            assert Volume.read(tmp_path / name).shape == VOXELS.shape


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("itk::ERROR: Failed to allocate memory for image.")])
def test_too_little_memory_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*arguments: object) -> Volume:
        raise error

    for suffix in formats.READERS:
        monkeypatch.setitem(formats.READERS, suffix, fail)
        (tmp_path / f"a{suffix}").write_bytes(b"whole")
        with pytest.raises(NotEnoughMemoryError, match="does not fit into the memory") as caught:
            Volume.read(tmp_path / f"a{suffix}")
        assert isinstance(caught.value, MemoryError)
        assert "damaged" not in str(caught.value)


def test_whatever_a_reader_raises_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (SyntaxError("x"), RecursionError(), AttributeError("y"), struct.error("z"), AssertionError()):

        def fail(*arguments: object, error: Exception = error) -> Volume:
            raise error

        monkeypatch.setitem(formats.READERS, ".npy", fail)
        (tmp_path / "a.npy").write_bytes(b"--")
        with pytest.raises(FileFormatError, match=r"a\.npy could not be read"):
            Volume.read(tmp_path / "a.npy")


@pytest.mark.parametrize("line", [b"endian", b"kinds", b"sizes", b"space", b"dimension", b"type", b"encoding"])
def test_endless_words_in_nrrd_headers_end_in_an_error(tmp_path: Path, line: bytes) -> None:
    _itk(tmp_path / "a.nrrd")
    data = (tmp_path / "a.nrrd").read_bytes()
    start = data.index(b"\n" + line + b":") + len(line) + 2
    (tmp_path / "a.nrrd").write_bytes(data[:start] + b" " + b"A" * 3000 + data[start:])  # ends ITK's process
    with pytest.raises(FileFormatError, match="its header has the line"):
        Volume.read(tmp_path / "a.nrrd")


@pytest.mark.parametrize("count", [b"65536", b"11", b"0", b"-3", b"", b"9" * 40])
def test_impossible_dimensions_of_metaimage(tmp_path: Path, count: bytes) -> None:
    _itk(tmp_path / "a.mha")
    data = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "a.mha").write_bytes(data.replace(b"NDims = 3", b"NDims = " + count))
    with pytest.raises(FileFormatError, match="NDims is"):
        Volume.read(tmp_path / "a.mha")


@pytest.mark.parametrize("word", [b"True", b"1", b"t"])
def test_every_word_for_compressed_is_known(tmp_path: Path, word: bytes) -> None:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS), str(tmp_path / "a.mha"))
    data = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "a.mha").write_bytes(data.replace(b"CompressedData = False", b"CompressedData = " + word))
    with pytest.raises(FileFormatError, match=r"a\.mha could not be read"):  # ITK gives whatever was in memory
        Volume.read(tmp_path / "a.mha")


def test_free_words_of_nrrd_headers_may_be_long(tmp_path: Path) -> None:
    _itk(tmp_path / "a.nrrd")
    data = (tmp_path / "a.nrrd").read_bytes()
    more = b"content: " + b"c" * 2000 + b"\nnote:=" + b"n" * 2000 + b"\n# " + b"r" * 2000 + b"\n"
    (tmp_path / "a.nrrd").write_bytes(data[:9] + more + data[9:])
    np.testing.assert_array_equal(Volume.read(tmp_path / "a.nrrd").array, VOXELS)
