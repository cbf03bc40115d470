"""Files of data sets: finding them by name, reading lists, images and label maps.

Volumes (.nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, .npy, .npz) come as (D, H, W); pictures (.png, .jpg, .jpeg, .bmp,
.tif, .tiff) as one slice (1, H, W) or (1, H, W, 3), multi-page TIFF as (D, H, W), with the spacing of nnU-Net's .json.
Readers raise MissingFileError for what is not there and FileFormatError for what is damaged.
Pickles that data sets ship are opened so that they can make arrays and plain values only and never run code.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError
from limnet.image.io.formats import known_suffix, read_single
from limnet.image.io.pictures import PICTURES, natural, read_picture
from limnet.image.io.reading import explained
from limnet.image.volume import Volume

NIFTI = (".nii", ".nii.gz")
IMAGES = (*PICTURES, *NIFTI, ".nrrd", ".nhdr", ".mha", ".mhd", ".npz", ".npy")
_LABEL_KEYS = ("label", "labels", "mask", "seg", "gts")
_CORES = ("numpy.core", "numpy._core")
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),  # bytes in pickles of protocol 2 and below
    *((f"{core}.multiarray", name) for core in _CORES for name in ("_reconstruct", "scalar")),
    *((f"{core}.numeric", "_frombuffer") for core in _CORES),
}


def walk(
    folder: Path, enter: Callable[[Path], bool] = lambda place: True, above: tuple[str, ...] = ()
) -> Iterator[tuple[Path, list[Path]]]:
    """Folders from `folder` down with the files in them, both sorted by name.

    Links to folders are followed, as data sets are often put together by links, but for those that lead back to a
    folder they lie in (`above`: real paths on the way). Hidden files and folders, and `__MACOSX`, are left out, as are
    folders for which `enter` says no. Links to files that are not there are among the files.
    """
    way = (*above, os.path.realpath(folder))
    with os.scandir(folder) as listing:
        entries = sorted((entry.name, entry.is_dir()) for entry in listing if not entry.name.startswith("."))
    yield folder, [folder / name for name, is_folder in entries if not is_folder]
    for place in (folder / name for name, is_folder in entries if is_folder and name != "__MACOSX"):
        if os.path.realpath(place) not in way and enter(place):
            yield from walk(place, enter, way)


def files_below(folder: Path) -> list[Path]:
    """All files of `walk`, sorted by path."""
    return sorted(path for _, files in walk(folder) for path in files)


def folders_in(folder: Path) -> list[Path]:
    """Folders in a folder by name, without hidden ones and what macOS leaves in archives."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def by_stem(folder: Path | None, *suffixes: str) -> dict[str, Path]:
    """Name without suffix -> file of a folder in natural order (2 before 10), whatever the case of the suffix.

    Suffixes are those of pictures by default. Hidden files, among them those of macOS (`._x.jpg`), are left out. Empty
    if there is no such folder.
    """
    if folder is None or not folder.is_dir():
        return {}
    table = dict.fromkeys(suffixes or PICTURES)
    named = ((path, known_suffix(path, table)) for path in sorted(folder.iterdir(), key=natural))
    return {p.name[: -len(suffix)]: p for p, suffix in named if suffix and not p.name.startswith(".")}


def image_suffix(path: Path) -> str | None:
    """The suffix by which a file is read as image or label map; None for side files, hidden files and others."""
    return None if path.name.startswith(".") else known_suffix(path, dict.fromkeys(IMAGES))


def image_stem(path: Path) -> str:
    """File name without its image suffix: `a.b.nii.gz` -> `a.b`."""
    return path.name[: len(path.name) - len(image_suffix(path) or "")]


def case_name(*parts: str) -> str:
    """A name for a case out of parts of its path: "__" for "/", "_" for characters awkward in file names."""
    name = re.sub(r"[^\w.+=@-]", "_", "_".join(parts).replace("/", "__"))
    return name if re.match(r"\w", name) else f"_{name}"


def shortened(names: Iterable[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def read_text(path: Path) -> str:
    """Content of a list of a data set; FileFormatError for no text."""
    with explained(path, "It should be a text file: unpack the archive again"):
        return path.read_text(encoding="utf-8-sig")


def read_json(path: Path) -> Any:
    """Content of a JSON file; FileFormatError for no JSON."""
    with explained(path, "It should be JSON: copy it again"):
        return json.loads(path.read_text(encoding="utf-8-sig"))


def load_pickle(file: IO[bytes], path: Path) -> Any:
    """Unpickle arrays, numbers, texts and containers of them; FileFormatError if it asks for anything else."""
    with explained(path):
        return _ArrayUnpickler(file, path).load()


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file)
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise FileFormatError(
                f"{self.path} wants to load {module}.{name}: allowed are numpy arrays in plain containers. It is not "
                "the file it should be, and opening it otherwise could run code: download it again from its owner"
            )
        if module.startswith("numpy."):  # the old name of the package is an alias that will go away
            core = "numpy._core" if hasattr(np, "_core") else "numpy.core"
            module = core + module[module.rindex(".") :]
        return super().find_class(module, name)


def read_image(path: Path, channel: int | None = None, modality: str = "") -> Volume:
    """Read a volume or picture: `channel` of a 4-D file; "ct", "mr" or "us" where the file does not say it."""
    volume = read_single(path, channel)
    known = modality.upper() if modality in ("ct", "mr", "us") else None
    return volume if volume.modality else replace(volume, modality=known)


def read_labels(path: Path, ignored: tuple[int, ...] = ()) -> NDArray[Any]:
    """Read a label map in the smallest unsigned dtype, (D, H, W), the `ignored` labels as background.

    Palette pictures give their indices, 16-bit ones their values, 1-bit ones 0 and 1; colour is refused unless its
    channels agree. FileFormatError for colours, or values that are no whole numbers of at least 0.
    """
    suffix = image_suffix(path)
    if suffix in PICTURES:
        array = read_picture(path)
        if array.ndim == 4:
            if (array != array[..., :1]).any():
                raise FileFormatError(f"{path} holds colours; give a mask of label numbers (gray or palette)")
            array = array[..., 0]
    elif suffix == ".npz":
        with explained(path), np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            key = next((k for k in _LABEL_KEYS if k in names), names[0] if len(names) == 1 else None)
            if key is None:
                raise FileFormatError(f"{path} has keys {names}; a label map is expected as 'label'")
            array = archive[key]
    else:
        array = read_single(path).array
    if array.ndim != 3:
        raise FileFormatError(f"{path} holds labels of shape {array.shape}; expected (D, H, W), one number a voxel")
    labels = whole_numbers(array, path)
    return np.where(np.isin(labels, ignored), 0, labels).astype(labels.dtype) if ignored else labels


def whole_numbers(values: NDArray[Any], path: Path) -> NDArray[Any]:
    """Labels in the smallest unsigned dtype; FileFormatError for fractions, negative or huge numbers."""
    if values.dtype.kind not in "biuf":
        raise FileFormatError(f"{path} holds {values.dtype} voxels (colours?) where labels are expected. Copy it again")
    if values.dtype.kind == "f":
        rounded = np.rint(values)
        if not np.array_equal(rounded, values):
            raise FileFormatError(
                f"{path} holds fractions or NaN where labels are expected: it was resampled with interpolation, or is "
                "no label map. Copy it again, or resample it to the nearest label"
            )
        values = rounded
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if low < 0 or high >= 2**63:
        raise FileFormatError(f"{path} holds labels {low:g}..{high:g}: they start at 0. Copy it again")
    return smallest_unsigned(values)


def smallest_unsigned(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels (>= 0) in the smallest unsigned dtype that holds them."""
    highest = int(labels.max()) if labels.size else 0
    fits = (dtype for dtype in (np.uint8, np.uint16, np.uint32) if highest <= np.iinfo(dtype).max)
    return labels.astype(next(fits, np.uint64), copy=False)


def labels_in(labels: NDArray[Any]) -> set[int]:
    """The integers that occur in a (D, H, W) array; of unsigned ones faster and smaller than by numpy.unique."""
    if labels.dtype.kind != "u" or labels.dtype.itemsize > 2:
        return set(np.unique(labels).tolist())
    present = np.zeros(np.iinfo(labels.dtype).max + 1, bool)
    for plane in labels:
        present[plane] = True
    return set(np.flatnonzero(present).tolist())


def pairs_by_stem(
    images: Path, masks: Path, kinds: tuple[str, ...] = (), mask_kinds: tuple[str, ...] = (), ending: str = ""
) -> Iterator[tuple[str, str, Path, Path]]:
    """Images and masks of two folders that bear the same name.

    Suffixes `kinds` of images and `mask_kinds` of masks are those of pictures by default, the first one for files that
    are missing. `ending` is a pattern of what a mask's name may have behind that of its image; each mask then is a pair
    of its own. Yields names of mask and image without suffix, image and mask in the order of the masks' names; for a
    file that is missing the path where it should be.
    """
    found, marked = by_stem(images, *kinds), by_stem(masks, *mask_kinds)
    owner = {mask: mask if mask in found else re.sub(f"(?:{ending})$", "", mask) for mask in marked}
    owned = set(owner.values())
    owner |= {stem: stem for stem in found if stem not in owned}
    for mask, stem in sorted(owner.items()):
        image = found.get(stem, images / f"{stem}{(*kinds, '.jpg')[0]}")
        yield mask, stem, image, marked.get(mask, masks / f"{mask}{(*mask_kinds, '.png')[0]}")
