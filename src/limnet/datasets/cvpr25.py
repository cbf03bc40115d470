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
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import (
    AGAIN,
    MODALITIES,
    CaseFiles,
    Found,
    LabelledCase,
    LabelledDataset,
    Problem,
    noted,
    paths_of,
)
from limnet.data.files import case_name, files_below, folders_in, labels_in, load_pickle, whole_numbers
from limnet.data.module import data_module
from limnet.errors import FileFormatError
from limnet.image.io.numpy_files import load_npz, read_header
from limnet.image.io.reading import explained
from limnet.image.volume import Volume

_MODALITIES = {"mr": "mr", "mri": "mr", "us": "us", "ultrasound": "us", "microscopy": "microscopy"}
_BOX_KEYS = frozenset(
    ("z_min", "z_max", "z_mid", "z_mid_x_min", "z_mid_y_min", "z_mid_x_max", "z_mid_y_max")
)  # closed intervals, array indices


@dataclass(eq=False, repr=False)
class Cvpr25Dataset(LabelledDataset):
    """The CVPR 2025 interactive challenge. Case names are those of the files without .npz.

    `spacing_order` is "zyx" or "xyz", the order of the three numbers in the files.
    """

    title = "CVPR 2025 interactive 3D"
    licence = "CC BY-NC-SA 4.0, and the terms of each source"
    access = "free download: https://huggingface.co/datasets/junma/CVPR-BiomedSegFM"
    windows: ClassVar = dict.fromkeys(MODALITIES, (0.0, 255.0))
    choices: ClassVar = {"spacing_order": ("zyx", "xyz")}
    spacing_order: Literal["zyx", "xyz"] = "zyx"

    def list_files(self) -> Iterable[CaseFiles]:
        """Files of the training folder, then those of the validation folders, paired by name."""
        places = [self.root, *folders_in(self.root)]
        training = _archives(_first(places, r"3D_train_npz_all", r".*_train_npz.*"))
        images = {path.name: path for path in _archives(_first(places, r"3D_val_npz", r".*val_(npz|img).*"))}
        gts = _first(places, r"3D_val_gt_interactive(_seg)?", r".*val_gt_interactive.*", r"3D_val_gt", r".*val_gt.*")
        if gts is not None:
            gts = next((p for p in folders_in(gts) if "interactive" in p.name), gts)
        if not (training or images):
            raise self.missing(f"there is no folder of .npz files called 3D_train_npz_... or 3D_val_npz in {self.root}")
        for path in training:
            yield self._files(path, path, "train")
        labels = {path.name: path for path in _archives(gts)}
        for name in sorted({*images, *labels}):
            lost = self.root / "3D_val_npz" / name, (gts or self.root / "3D_val_gt") / name
            yield self._files(images.get(name, lost[0]), labels.get(name, lost[1]), "val")

    def image_of(self, files: CaseFiles) -> Callable[[], Volume]:
        """A partial of `read_npz_image`."""
        return partial(read_npz_image, files.image, self.spacing_order)

    def labels_of(self, files: CaseFiles) -> Callable[[], NDArray[Any]]:
        """A partial of `read_npz_labels`."""
        return partial(read_npz_labels, files.masks[0])

    def image_file(self, case: LabelledCase) -> Path:
        """The file of a case's image, for `read_boxes`."""
        return paths_of(case)[0]

    def check_case(self, case: LabelledCase) -> list[Problem]:
        """Both files: keys, shapes, dtypes, values, spacing, boxes."""
        found: list[Found] = []
        with noted(found):
            found += _check_files(*paths_of(case))
        return [Problem(case.name, *one) for one in found]

    def _files(self, image: Path, label: Path, split: str) -> CaseFiles:
        modality = _MODALITIES.get(re.split(r"[_-]", image.name)[0].lower(), "other")
        return CaseFiles(case_name(image.stem), image.stem, image, (label,), modality, split)


def read_npz_image(path: Path, spacing_order: str = "zyx") -> Volume:
    """`imgs` (D, H, W) with `spacing` in the given order, without it 1 mm; FileFormatError for anything else."""
    found = load_npz(path, "imgs", "spacing")
    spacing = _spacing(found)
    if spacing is not None and spacing_order == "xyz":
        spacing = spacing[::-1]
    return Volume.from_array(_checked(path, found["imgs"]), spacing, source=path)


def read_npz_labels(path: Path) -> NDArray[Any]:
    """`gts` (D, H, W) in the smallest unsigned dtype; raises as `read_npz_image`."""
    return whole_numbers(_checked(path, load_npz(path, "gts")["gts"]), path)


def read_boxes(path: Path) -> list[dict[str, int]] | None:
    """Boxes of a validation image, one for each id from 1 on, or None where it has none.

    Each has z_min, z_max, z_mid, z_mid_x_min, z_mid_y_min, z_mid_x_max, z_mid_y_max: indices, ends included.
    FileFormatError for other keys, or a pickle of anything but numbers.
    """
    with explained(path), zipfile.ZipFile(path) as archive:
        if "boxes.npy" not in archive.namelist():
            return None
        with archive.open("boxes.npy") as file:
            _, dtype = read_header(file)
            if not dtype.hasobject:
                raise FileFormatError(f"boxes of {path} are {dtype}, expected one dict for each id")
            content = load_pickle(file, path)
    boxes = np.asarray(content, dtype=object).ravel().tolist()
    if not all(isinstance(box, dict) and set(box) >= _BOX_KEYS for box in boxes):
        raise FileFormatError(f"boxes of {path} lack some of {', '.join(sorted(_BOX_KEYS))}. Download it again")
    return [{key: int(box[key]) for key in sorted(_BOX_KEYS)} for box in boxes]


def _check_files(image: Path, label: Path) -> Iterator[Found]:
    """What is wrong, and what to do; raises if a file is damaged."""
    found, gts = load_npz(image, "imgs", "spacing"), load_npz(label, "gts")["gts"]
    imgs = found["imgs"]
    if imgs.shape != gts.shape or imgs.ndim != 3:
        yield f"imgs is {imgs.shape}, gts {gts.shape}", "both must be one (D, H, W): " + AGAIN
        return
    if imgs.dtype != np.uint8:
        yield f"imgs is {imgs.dtype}", "expected is uint8, windowed to 0..255; window and save it so"
    low, high = float(imgs.min()), float(imgs.max())
    if low < 0 or high > 255:
        yield f"imgs holds values {low:g}..{high:g}", "expected are 0..255; window and save it so"
    elif low == high:
        yield f"every voxel of the image is {low:g}", AGAIN
    ids = labels_in(whole_numbers(gts, label)) - {0}
    if not ids:
        yield "no voxel is labelled", "copy the labels again, or take the case out"
    elif ids != set(range(1, len(ids) + 1)):
        yield f"ids {sorted(ids)[:10]} do not run from 1 without a gap", "boxes and clicks are counted by id: " + AGAIN
    spacing = _spacing(found)
    if spacing is None or len(spacing) != 3 or min(spacing) <= 0:
        yield f"spacing is {spacing}", "expected are three numbers in mm; without them 1 mm is taken"
    boxes = read_boxes(image)
    if boxes is not None and ids and len(boxes) != max(ids):
        yield f"{len(boxes)} boxes for {max(ids)} ids", AGAIN


def _spacing(found: dict[str, NDArray[Any]]) -> list[float] | None:
    """The numbers of `spacing` as stored, or None."""
    return [float(v) for v in found["spacing"].ravel()] if "spacing" in found else None


def _checked(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim != 3:
        raise FileFormatError(f"{path} holds an array of shape {array.shape}: expected (D, H, W). Download it again")
    return array


def _archives(folder: Path | None) -> list[Path]:
    """.npz files of a folder and its folders, sorted; side files left out."""
    return [] if folder is None else [path for path in files_below(folder) if path.suffix == ".npz"]


def _first(places: list[Path], *patterns: str) -> Path | None:
    """The first folder whose name fits the first pattern, else the second, ..."""
    return next((p for pattern in patterns for p in places if re.fullmatch(pattern, p.name)), None)


Cvpr25DataModule = data_module(Cvpr25Dataset)
