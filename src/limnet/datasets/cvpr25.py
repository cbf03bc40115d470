"""CVPR 2025 interactive 3D segmentation: CT, MR, PET, ultrasound and microscopy as npz files.

Layout of the repository junma/CVPR-BiomedSegFM (a root with training files alone, or validation files alone, will do)::

    3D_train_npz_all/<modality>/<source>/CT_*.npz          keys imgs, gts, spacing
    3D_train_npz_random_10percent_16G/...                  the coreset, used where the whole is not there
    3D_val_npz/CT_*.npz                                    keys imgs, spacing and, mostly, boxes
    3D_val_gt/3D_val_gt_interactive/CT_*.npz               key gts, same name

`imgs` is uint8 (D, H, W), already windowed to 0..255, so that CT here has no Hounsfield units and is given the modality
"other", as is PET. `gts` holds instance ids 1..N that mean something else in every file: `labels` of a case is empty.
`spacing` has been written as x, y, z and as z, y, x and is not said which: it is taken as z, y, x as the official
evaluation does, unless `spacing_order` is "xyz". `boxes` are Python objects, one dict per id, absent where a box is a
bad prompt; `read_boxes` reads them without running code.

Splits: the folders. Files with `_train_` are "train", those of `_val_` "val". Every file counts as one patient.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import LabelledCase, LabelledDataset, Problem
from limnet.data.module import CaseDataModule
from limnet.datasets.array_pickle import load_arrays
from limnet.datasets.nifti_pairs import ids_in, whole_numbers
from limnet.datasets.walk import files_below
from limnet.errors import FileFormatError, InputError, LimnetError
from limnet.image.io.numpy_files import npz_headers, npz_slabs, opened_npz, read_header
from limnet.image.volume import Volume

_MODALITIES = {"mr": "mr", "mri": "mr", "us": "us", "ultrasound": "us", "microscopy": "microscopy"}
_BOX_KEYS = frozenset(
    ("z_min", "z_max", "z_mid", "z_mid_x_min", "z_mid_y_min", "z_mid_x_max", "z_mid_y_max")
)  # closed intervals, array indices


class Cvpr25Dataset(LabelledDataset):
    """The CVPR 2025 interactive challenge. Case names are those of the files without .npz.

    Args:
        root: see the layout.
        fraction: not used, splits are the folders.
        seed: not used.
        spacing_order: "zyx" or "xyz", the order of the three numbers in the files.

    Raises:
        InputError: another order.
        MissingFileError: the folder holds no such file.
    """

    title = "CVPR 2025 interactive 3D"
    licence = "CC BY-NC-SA 4.0, and the terms of each source"
    access = "free download: https://huggingface.co/datasets/junma/CVPR-BiomedSegFM"
    layout = (
        "3D_train_npz_all/<modality>/<source>/*.npz (imgs, gts, spacing)\n3D_val_npz/*.npz (imgs, spacing, boxes)\n"
        "3D_val_gt/3D_val_gt_interactive/*.npz (gts)"
    )
    splits = ("train", "val")
    window: ClassVar[tuple[float, float]] = (0.0, 255.0)

    def __init__(self, root: Path | str, fraction: float = 0.2, seed: int = 0, spacing_order: str = "zyx") -> None:
        if spacing_order not in ("zyx", "xyz"):
            raise InputError(f"spacing_order {spacing_order!r} is unknown; allowed are zyx and xyz")
        self.spacing_order = spacing_order
        super().__init__(root, fraction, seed)

    def find(self) -> None:
        """Choose the training folder, and the folders of validation images and labels."""
        names = [self.root.name, *(p.name for p in sorted(self.root.iterdir()) if p.is_dir())]
        places = [self.root, *(self.root / name for name in names[1:])]
        self._train = _first(places, r"3D_train_npz_all", r".*_train_npz.*")
        self._images = _first(places, r"3D_val_npz", r".*val_(npz|img).*")
        labels = _first(places, r"3D_val_gt_interactive(_seg)?", r".*val_gt_interactive.*", r"3D_val_gt", r".*val_gt.*")
        if labels is not None:
            inside = [p for p in sorted(labels.iterdir()) if p.is_dir() and "interactive" in p.name]
            labels = inside[0] if inside else labels
        self._labels = labels
        if not any(_archives(folder) for folder in (self._train, self._images)):
            raise self.missing(f"there is no folder of .npz files called 3D_train_npz_... or 3D_val_npz in {self.root}")

    def all_cases(self) -> list[LabelledCase]:
        """Training files, then validation files whose labels are there."""
        return [*self.cases("train"), *self.cases("val")]

    def cases(self, split: str) -> list[LabelledCase]:
        """Cases by folder.

        Raises:
            InputError: no split of that name.
        """
        if split not in self.splits:
            raise InputError(f"{self.title} has no split {split!r}; there are {', '.join(self.splits)}")
        if split == "train":
            return [self._case(path, path) for path in _archives(self._train)]
        labels = {path.name: path for path in _archives(self._labels)}
        return [self._case(path, labels[path.name]) for path in _archives(self._images) if path.name in labels]

    def image_file(self, case: LabelledCase) -> Path:
        """The file of a case's image, for `read_boxes`."""
        path = case.read_image.args[0] if isinstance(case.read_image, partial) else None
        if not isinstance(path, Path):
            raise InputError(f"case {case.name} is not of this data set; give one from its cases()")
        return path

    def check(self) -> list[Problem]:
        """Pairs of validation files; then every file: keys, shapes, dtypes, values, spacing, boxes."""
        problems = []
        images = {path.name for path in _archives(self._images)}
        labels = {path.name for path in _archives(self._labels)}
        for name in sorted(images ^ labels):
            lost = "labels" if name in images else "image"
            problems.append(Problem(name[:-4], f"validation file without {lost}", f"get it: {self.access}"))
        found = self.all_cases()
        for name in sorted(name for name, number in Counter(case.name for case in found).items() if number > 1):
            problems.append(Problem(name, "two cases have this name", "rename one of their files"))
        for case in found:
            problems += self.check_case(case)
        return problems

    def check_case(self, case: LabelledCase) -> list[Problem]:
        """Read one case slab by slab."""
        image, label = self.image_file(case), case.read_labels.args[0]  # type: ignore[attr-defined]
        try:
            found = list(_check_files(image, label))
        except (LimnetError, OSError) as error:
            found = [(str(error), "copy or download it again")]
        return [Problem(case.name, what, advice) for what, advice in found]

    def _case(self, image: Path, label: Path) -> LabelledCase:
        return LabelledCase(
            name=re.sub(r"[^\w.+=@-]", "_", image.name[:-4]),
            patient=image.name[:-4],
            modality=_MODALITIES.get(re.split(r"[_-]", image.name)[0].lower(), "other"),
            labels={},
            read_image=partial(read_npz_image, image, self.spacing_order),
            read_labels=partial(read_npz_labels, label),
            window=self.window,
        )


def read_npz_image(path: Path, spacing_order: str = "zyx") -> Volume:
    """`imgs` (D, H, W) with `spacing` in the given order; without it 1 mm.

    Raises:
        MissingFileError: not there.
        FileFormatError: damaged, or not in this format.
    """
    spacing = _spacing(path)
    if spacing is not None and spacing_order == "xyz":
        spacing = spacing[::-1]
    return Volume.from_array(_whole(path, "imgs"), spacing, source=path)


def read_npz_labels(path: Path) -> NDArray[Any]:
    """`gts` (D, H, W), uint8, or uint16 or int32 where an id is larger; raises as `read_npz_image`."""
    return whole_numbers(_whole(path, "gts"), path)


def read_boxes(path: Path) -> list[dict[str, int]] | None:
    """Boxes of a validation image, one for each id from 1 on, or None where it has none.

    Returns:
        Dicts with z_min, z_max, z_mid, z_mid_x_min, z_mid_y_min, z_mid_x_max, z_mid_y_max: indices, ends included.

    Raises:
        FileFormatError: damaged, other keys, or a pickle of anything but numbers.
    """
    with opened_npz(path) as archive:
        if "boxes.npy" not in archive.namelist():
            return None
        with archive.open("boxes.npy") as file:
            header = read_header(file)
            if not header.dtype.hasobject:
                raise FileFormatError(f"boxes of {path} are {header.dtype}, expected one dict for each id")
            content = load_arrays(file, path)
    boxes = np.asarray(content, dtype=object).ravel().tolist()
    if not all(isinstance(box, dict) and set(box) >= _BOX_KEYS for box in boxes):
        raise FileFormatError(f"boxes of {path} lack some of {', '.join(sorted(_BOX_KEYS))}. Download it again")
    return [{key: int(box[key]) for key in sorted(_BOX_KEYS)} for box in boxes]


def _check_files(image: Path, label: Path) -> Iterator[tuple[str, str]]:
    """(what, advice); raises if a file is damaged."""
    again = "copy or download it again"
    headers, other = npz_headers(image), npz_headers(label)
    if "imgs" not in headers or "gts" not in other:
        yield f"keys are {sorted({*headers, *other})}; imgs and gts are needed", again
        return
    shape, dtype, _ = headers["imgs"]
    if shape != other["gts"].shape or len(shape) != 3:
        yield f"imgs is {shape}, gts {other['gts'].shape}", "both must be one (D, H, W): " + again
        return
    if dtype != np.uint8:
        yield f"imgs is {dtype}", "expected is uint8, windowed to 0..255; window and save it so"
    low, high = np.inf, -np.inf
    for _, slab in npz_slabs(image, "imgs"):
        low, high = min(low, float(slab.min())), max(high, float(slab.max()))
    if low < 0 or high > 255:
        yield f"imgs holds values {low:g}..{high:g}", "expected are 0..255; window and save it so"
    elif low == high:
        yield f"every voxel of the image is {low:g}", again
    ids: set[int] = set()
    for _, slab in npz_slabs(label, "gts"):
        ids |= ids_in(whole_numbers(slab, label))
    ids -= {0}
    if not ids:
        yield "no voxel is labelled", "copy the labels again, or take the case out"
    elif ids != set(range(1, len(ids) + 1)):
        yield f"ids {sorted(ids)[:10]} do not run from 1 without a gap", "boxes and clicks are counted by id: " + again
    spacing = _spacing(image)
    if spacing is None or len(spacing) != 3 or min(spacing) <= 0:
        yield f"spacing is {spacing}", "expected are three numbers in mm; without them 1 mm is taken"
    boxes = read_boxes(image)
    if boxes is not None and ids and len(boxes) != max(ids):
        yield f"{len(boxes)} boxes for {max(ids)} ids", again


def _spacing(path: Path) -> list[float] | None:
    """The numbers of `spacing` as stored, or None."""
    if "spacing" not in npz_headers(path):
        return None
    return [float(v) for _, piece in npz_slabs(path, "spacing") for v in piece.ravel()]


def _whole(path: Path, key: str) -> NDArray[Any]:
    header = npz_headers(path).get(key)
    if header is None or len(header.shape) != 3:
        what = "no such array" if header is None else f"shape {header.shape}"
        raise FileFormatError(f"array {key!r} (D, H, W) is expected in {path}: {what}. Download it again")
    array = np.empty(header.shape, header.dtype)
    for start, slab in npz_slabs(path, key):
        array[start : start + len(slab)] = slab
    return array


def _archives(folder: Path | None) -> list[Path]:
    """.npz files of a folder and its folders, sorted; side files left out."""
    if folder is None:
        return []
    return [path for path in files_below(folder) if path.suffix == ".npz"]


def _first(places: list[Path], *patterns: str) -> Path | None:
    """The first folder whose name fits the first pattern, else the second, ..."""
    return next((p for pattern in patterns for p in places if re.fullmatch(pattern, p.name)), None)


class Cvpr25DataModule(CaseDataModule):
    """Training clips and whole cases of the CVPR 2025 challenge."""

    dataset_class = Cvpr25Dataset
