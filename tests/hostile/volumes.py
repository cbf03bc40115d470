"""Files of every format that limnet reads, how they are damaged, and what an independent reader makes of them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import SimpleITK
from PIL import Image

from limnet.image.volume import Volume
from tests.helpers.dicom_files import write_slices
from tests.helpers.grids import grid
from tests.hostile.mutations import NUMBERS, TEXTS, Files, in_bytes, in_nifti_header, in_text

Answer = tuple[np.ndarray, np.ndarray | None]  # voxels (D, H, W) or (D, H, W, 3), affine in RAS or None
VOXELS = np.random.default_rng(0).integers(-900, 900, (4, 9, 10)).astype(np.int16)
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        files: name -> bytes of an undamaged volume.
        entry: the file to read, "" for the folder.
        reference: reads the same bytes without limnet.
        packed: from which byte of which file checksums protect the voxels: damage there must be noticed.
        special: damage that knows the format, beside bytes; None for none. Files made so are judged by `reference`.
        index: which volume.
    """

    files: Files
    entry: str
    reference: Callable[[Path], Answer]
    packed: tuple[str, int] | None = None
    special: Callable[[np.random.Generator, Files], Files] | None = None
    index: int | None = None


def _nibabel(path: Path) -> Answer:
    image = nibabel.load(path, mmap=False)
    data = np.asanyarray(image.dataobj)
    if data.dtype.names:
        data = np.stack([data[name] for name in data.dtype.names[:3]], axis=-1)
        return data.transpose(2, 1, 0, 3), image.affine
    data = data.reshape(data.shape[:3])
    affine = np.array(image.affine)
    if isinstance(image, nibabel.Nifti1Pair):
        affine[:3] *= {1: 1000.0, 3: 0.001}.get(int(image.header["xyzt_units"]) & 7, 1.0)
        for axis in range(3):
            if image.shape[axis] == 1 and not affine[:3, axis].any():
                return data.T, None  # a single slice without a step: limnet's choice
    return data.T, affine


def _minc(path: Path) -> Answer:
    image = nibabel.load(path)
    return np.asanyarray(image.dataobj), image.affine[:, [2, 1, 0, 3]]


def _itk(path: Path) -> Answer:
    image = SimpleITK.ReadImage(str(path))
    array = SimpleITK.GetArrayFromImage(image)
    size = image.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = (np.reshape(image.GetDirection(), (size, size)) * image.GetSpacing())[:3, :3]
    affine[:3, 3] = image.GetOrigin()[:3]
    if any(key.startswith("Segment0") for key in image.GetMetaDataKeys()):
        return array[..., 1], _FLIP @ affine
    if image.GetNumberOfComponentsPerPixel() in (3, 4):
        return array[..., :3], _FLIP @ affine
    return array.reshape(array.shape[-3:]), _FLIP @ affine


def _numpy(path: Path) -> Answer:
    found = np.load(path)
    return (found if isinstance(found, np.ndarray) else found["image"]), None


def _picture(path: Path) -> Answer:
    pages = []
    with Image.open(path) as picture:
        for number in range(getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1):
            picture.seek(number)
            page = picture.convert("RGB") if picture.mode in ("P", "RGBA", "CMYK", "YCbCr", "LAB", "PA") else picture
            page = page.convert("L") if page.mode in ("1", "LA") else page
            pages.append(np.array(page))
    return np.stack(pages), None


def _frames(folder: Path) -> Answer:
    pages = [_picture(path)[0][0] for path in sorted(folder.iterdir())]
    color = any(page.ndim == 3 for page in pages)
    return np.stack([np.repeat(p[..., None], 3, 2) if color and p.ndim == 2 else p for p in pages]), None


def dicom_answer(folder: Path, files: Sequence[Path] = ()) -> Answer:
    sets = [pydicom.dcmread(io.BytesIO(path.read_bytes())) for path in files or sorted(folder.iterdir())]
    rows, columns = np.array(sets[0].ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(rows, columns)
    sets.sort(key=lambda d: float(np.dot(d.ImagePositionPatient, normal)))
    places = [np.array(d.ImagePositionPatient, float) for d in sets]
    pixels = [_stored(d) * float(d.get("RescaleSlope", 1)) + float(d.get("RescaleIntercept", 0)) for d in sets]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = rows * float(sets[0].PixelSpacing[1]), columns * float(sets[0].PixelSpacing[0])
    affine[:3, 2] = (places[-1] - places[0]) / max(1, len(sets) - 1)
    affine[:3, 3] = places[0]
    return np.stack(pixels), _FLIP @ affine


def _stored(data: pydicom.Dataset) -> np.ndarray:
    """The bits that belong to the value, PS3.5 section 8.1.1; pydicom does not look at HighBit."""
    words = np.frombuffer(data.PixelData, "<u2").reshape(data.Rows, data.Columns)
    return (words >> max(0, data.HighBit + 1 - data.BitsStored)) & ((1 << data.BitsStored) - 1)


def _first(end: bytes) -> Callable[[np.random.Generator, Files], Files]:
    """Damage the text header of the only file, which ends with `end`."""

    def special(rng: np.random.Generator, files: Files) -> Files:
        (name, data), *others = files.items()
        stop = data.index(end) if end in data else len(data)
        return {
            name: in_text(rng, data[:stop].decode("latin-1")).encode("latin-1", "replace") + data[stop:],
            **dict(others),
        }

    return special


def _nifti_fields(rng: np.random.Generator, files: Files) -> Files:
    (name, data), *others = files.items()
    packed = name.endswith(".gz")
    changed = in_nifti_header(rng, gzip.decompress(data) if packed else data)
    return {name: gzip.compress(changed, 1) if packed else changed, **dict(others)}


def _npy_header(rng: np.random.Generator, files: Files) -> Files:
    ((name, data),) = files.items()
    text = in_text(rng, data[10:128].decode("latin-1")).encode("latin-1", "replace")[:118].ljust(117) + b"\n"
    return {name: data[:10] + text[-118:] + data[128:]}


def _dicom_elements(rng: np.random.Generator, files: Files) -> Files:
    name = str(rng.choice(list(files)))
    try:
        return {**files, name: _other_element(rng, pydicom.dcmread(io.BytesIO(files[name])))}
    except (ValueError, TypeError, OverflowError, KeyError, AttributeError):  # what pydicom refuses to write
        return {**files, name: in_bytes(rng, files[name])}


def _other_element(rng: np.random.Generator, data: pydicom.Dataset) -> bytes:
    tag = list(data.keys())[int(rng.integers(len(data)))]
    element = data[tag]
    if rng.random() < 0.25:
        del data[tag]
    elif element.VR in ("DS", "IS", "LO", "UI", "CS", "PN", "SH", "DA", "TM"):
        parts = [str(v) for v in element.value] if element.VM > 1 else [str(element.value)]
        parts[int(rng.integers(len(parts)))] = str(rng.choice([*NUMBERS, *TEXTS]))[:60]
        data[tag] = pydicom.DataElement(
            tag, "UN", "\\".join(parts).encode("utf-8", "replace") + b" " * (len("\\".join(parts)) % 2)
        )
    elif element.VR == "US":
        element.value = int(rng.choice([0, 1, 2, 3, 7, 8, 12, 16, 31, 32, 64, 255, 65535]))
    else:
        element.value = element.value[: int(rng.integers(len(element.value)))] if element.VR in ("OW", "OB") else None
    buffer = io.BytesIO()
    data.save_as(buffer)
    return buffer.getvalue()


def _written(folder: Path, write: Callable[[Path], object]) -> Files:
    folder.mkdir(parents=True)
    write(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _save_itk(name: str, packed: bool = False, image: Any = None) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        affine = _FLIP @ grid("PIR", tilt=0.2)
        found = SimpleITK.GetImageFromArray(VOXELS) if image is None else image
        steps = np.linalg.norm(affine[:3, :3], axis=0)
        found.SetSpacing(steps.tolist())
        found.SetOrigin(affine[:3, 3].tolist())
        found.SetDirection((affine[:3, :3] / steps).ravel().tolist())
        SimpleITK.WriteImage(found, str(folder / name), packed)

    return write


def _segmentation() -> Any:
    image = SimpleITK.GetImageFromArray(np.abs(np.stack([VOXELS, -VOXELS], -1) % 3).astype(np.uint8), isVector=True)
    for number in range(2):
        image.SetMetaData(f"Segment{number}_ID", f"S{number}")
        image.SetMetaData(f"Segment{number}_Layer", str(number))
    return image


def formats(folder: Path) -> dict[str, Format]:
    """Every format, written into `folder` once."""
    affine = grid("PIR", tilt=0.2)
    gray, deep = (VOXELS % 256).astype(np.uint8), (VOXELS.astype(np.int32) + 900).astype(np.uint16)
    color = np.random.default_rng(1).integers(0, 256, (4, 9, 10, 3)).astype(np.uint8)

    def nib(kind: Any, name: str) -> Callable[[Path], object]:
        return lambda f: kind(VOXELS.T, affine).to_filename(f / name)

    def pil(name: str, pages: np.ndarray, **options: Any) -> Callable[[Path], object]:
        first, *others = (Image.fromarray(page) for page in pages)
        if others:
            options |= {"save_all": True, "append_images": others}
        return lambda f: first.save(f / name, **options)

    def frames(f: Path) -> None:
        for number, page in enumerate(gray):
            Image.fromarray(page).save(f / f"{number}.png")

    from tests.image.io.test_pictures import _minc as write_minc

    meta, nrrd = b"\nElementDataFile", b"\n\n"
    made: dict[str, tuple[Callable[[Path], object], str, Any, Any, bool]] = {
        "nii": (nib(nibabel.Nifti1Image, "a.nii"), "a.nii", _nibabel, _nifti_fields, False),
        "nii.gz": (nib(nibabel.Nifti1Image, "a.nii.gz"), "a.nii.gz", _nibabel, _nifti_fields, True),
        "nifti pair": (nib(nibabel.Nifti1Pair, "a.hdr"), "a.hdr", _nibabel, _nifti_fields, False),
        "analyze": (nib(nibabel.AnalyzeImage, "a.hdr"), "a.hdr", _nibabel, None, False),
        "mgh": (nib(nibabel.MGHImage, "a.mgh"), "a.mgh", _nibabel, None, False),
        "mgz": (nib(nibabel.MGHImage, "a.mgz"), "a.mgz", _nibabel, None, True),
        "minc": (lambda f: write_minc(f / "a.mnc"), "a.mnc", _minc, None, False),
        "mha": (_save_itk("a.mha"), "a.mha", _itk, _first(meta), False),
        "mha packed": (_save_itk("a.mha", True), "a.mha", _itk, _first(meta), True),
        "mhd": (_save_itk("a.mhd"), "a.mhd", _itk, _first(b"\0"), False),
        "nrrd": (_save_itk("a.nrrd"), "a.nrrd", _itk, _first(nrrd), False),
        "nrrd packed": (_save_itk("a.nrrd", True), "a.nrrd", _itk, _first(nrrd), True),
        "nhdr": (_save_itk("a.nhdr"), "a.nhdr", _itk, _first(b"\0"), False),
        "seg.nrrd": (_save_itk("a.seg.nrrd", True, _segmentation()), "a.seg.nrrd", _itk, _first(nrrd), True),
        "npy": (lambda f: np.save(f / "a.npy", VOXELS), "a.npy", _numpy, _npy_header, False),
        "npz": (lambda f: np.savez_compressed(f / "a.npz", image=VOXELS), "a.npz", _numpy, None, True),
        "png": (pil("a.png", gray[:1]), "a.png", _picture, None, True),
        "png colour": (pil("a.png", color[:1]), "a.png", _picture, None, True),
        "png 16 bits": (pil("a.png", deep[:1]), "a.png", _picture, None, True),
        "jpeg": (pil("a.jpg", color[:1]), "a.jpg", _picture, None, False),
        "bmp": (pil("a.bmp", gray[:1]), "a.bmp", _picture, None, False),
        "tiff": (pil("a.tif", deep), "a.tif", _picture, None, False),
        "tiff packed": (pil("a.tif", deep, compression="tiff_adobe_deflate"), "a.tif", _picture, None, False),
        "frames": (frames, "", _frames, None, False),
        "dicom": (lambda f: write_slices(f, deep, _FLIP @ affine), "", dicom_answer, _dicom_elements, False),
    }
    found = {}
    for number, (name, (write, entry, reference, special, packed)) in enumerate(made.items()):
        files = _written(folder / str(number), write)
        if entry and next(iter(files)) != entry:
            files = {entry: files[entry], **files}
        start = 0
        if packed and entry.endswith(("mha", "nrrd")):
            end = b"LOCAL\n" if entry.endswith("mha") else nrrd
            start = files[entry].index(end) + len(end)
        found[name] = Format(
            files, entry, reference, (entry, start) if packed else None, special, 1 if name == "seg.nrrd" else None
        )
    return found


def damaged(rng: np.random.Generator, format: Format) -> tuple[Files, bool]:
    """Files with damage, and whether a checksum covers all of it."""
    if format.special is not None and rng.random() < 0.4:
        return format.special(rng, format.files), False
    names = list(format.files)
    name = names[int(rng.integers(len(names)))]
    data = format.files[name]
    if format.packed and name == format.packed[0] and format.packed[1] and rng.random() < 0.6:
        start = format.packed[1]
        return {**format.files, name: data[:start] + in_bytes(rng, data[start:])}, True
    protected = format.packed is not None and format.packed[1] == 0
    return {**format.files, name: in_bytes(rng, data)}, protected


def read(folder: Path, format: Format) -> Volume:
    """By limnet, as a user would."""
    return Volume.read(folder / format.entry if format.entry else folder, index=format.index)


def equal(volume: Volume, answer: Answer) -> bool:
    """Whether a volume holds the voxels, and lies on the grid, of another reader's answer."""
    voxels, affine = answer
    if volume.array.shape != voxels.shape:
        return False
    wide = volume.array.astype(np.float64)
    with np.errstate(all="ignore"):
        same = np.allclose(
            wide, voxels.astype(np.float64), rtol=1e-5, atol=1e-6 * max(1.0, _largest(wide)), equal_nan=True
        )
    if affine is None or not same:
        return same
    found = volume.affine_in("RAS")
    scale = max(1e-12, float(np.abs(affine[:3]).max()))
    return bool(np.allclose(found / scale, affine / scale, atol=1e-5))


def _largest(array: np.ndarray) -> float:
    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max()) if finite.size else 0.0
