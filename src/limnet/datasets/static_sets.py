"""Static sets: pictures with one salient object each, from which XMem's first stage of pretraining is drawn.

Layout of XMem's re-packed `static` folder, every picture X.jpg with its mask X.png beside it::

    static/fss/<class>/1.jpg              FSS-1000; suffix in any case
    static/ecssd/*.jpg
    static/DUTS-TR/*.jpg, static/DUTS-TE/*.jpg
    static/BIG_small/*.jpg, static/HRSOD_small/*.jpg

or of the sets as their owners ship them, side by side in the root::

    fewshot_data/fewshot_data/<class>/1.jpg          FSS-1000 (also fss, FSS-1000), masks 1.png beside them
    DUTS-TR/DUTS-TR-Image, DUTS-TR/DUTS-TR-Mask      DUTS (DUTS-TE alike)
    ECSSD/images, ECSSD/ground_truth_mask            ECSSD
    BIG/**/*_im.jpg, *_gt.png                        BIG
    HRSOD/HRSOD_train, HRSOD/HRSOD_train_mask        HRSOD (any folder x with x_mask, or *image* with *mask*)

Any of them may be absent. Masks are soft at their edges: above half is the object. Splits: DUTS-TE is "val", all
others "train", as XMem trains on every one and reports on none. For one object to become a film (`frames` above 1)
picture and mask are moved together from frame to frame, the same way every time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from limnet.data.dataset import CaseFiles, LabelledDataset
from limnet.data.files import by_stem, case_name, walk
from limnet.data.module import data_module
from limnet.data.pictures import PictureDataset, read_objects
from limnet.errors import InputError
from limnet.image.io.pictures import read_picture
from limnet.image.volume import Volume

PARTS: dict[str, tuple[str, ...]] = {
    "fss": ("fss", "FSS", "FSS-1000", "fewshot_data"),
    "ecssd": ("ecssd", "ECSSD"),
    "duts-tr": ("DUTS-TR",),
    "duts-te": ("DUTS-TE",),
    "big": ("BIG_small", "BIG"),
    "hrsod": ("HRSOD_small", "HRSOD"),
}
"""Part -> names its folder may have."""
MULTIPLIERS = {"big": 5.0, "hrsod": 5.0}
TURN, SHEAR, SCALE, SHIFT = 20.0, 10.0, 0.2, 0.1  # degrees, degrees, share, share of the side: at the last frame
_ENDINGS = (("", ""), ("_im", "_gt"), ("", "_mask"))


@dataclass(eq=False, repr=False)
class StaticSetsDataset(PictureDataset):
    """XMem's static sets; label 1 is the object.

    `parts` are which of `PARTS` to read, all that are there by default; `frames` is 1 for pictures, more for videos of
    a picture moved about, (frames, H, W, 3).
    """

    title = "static sets (FSS, ECSSD, DUTS, BIG, HRSOD)"
    licence = "research use, mostly unstated; see each set"
    access = "free downloads; re-packed as one archive by https://github.com/hkchengrex/XMem (docs/TRAINING.md)"
    above = 127
    parts: Sequence[str] | None = None
    frames: int = 1

    def list_files(self) -> Iterable[CaseFiles]:
        """Pictures of all parts in the order of `PARTS`, in the root or in `static` below it; DUTS-TE is held out."""
        wanted = tuple(PARTS) if self.parts is None else tuple(self.parts)
        if unknown := [part for part in wanted if part not in PARTS]:
            raise InputError(f"parts {unknown} are unknown; allowed are {', '.join(PARTS)}")
        if self.frames < 1:
            raise InputError(f"frames is {self.frames}; at least 1 is needed")
        base = self.first_folder("static", "")
        places = {part: [base / name for name in PARTS[part] if (base / name).is_dir()] for part in wanted}
        self.folders = {part: there[0] for part, there in places.items() if there}
        if not self.folders:
            raise self.missing(f"there is none of {', '.join(wanted)} in {self.root}")
        for part, folder in self.folders.items():
            for files in _pictures(part, folder):
                yield replace(files, modality="photo" if self.frames == 1 else "video")

    def image_of(self, files: CaseFiles) -> Callable[[], Volume]:
        """Of a picture, or of a video of it."""
        return super().image_of(files) if self.frames == 1 else partial(moved_picture, files.image, self.frames)

    def labels_of(self, files: CaseFiles) -> Callable[[], NDArray[Any]]:
        """Of a picture, or of a video of it."""
        if self.frames == 1:
            return super().labels_of(files)
        return partial(moved_labels, files.image, files.masks[0], self.frames, self.above)

    def mix(self) -> list[tuple[LabelledDataset, float]]:
        """Every part as a data set of its own, weighted by its pictures: BIG and HRSOD five times, as XMem draws."""
        parts = {part: replace(self, parts=(part,)) for part in self.folders}
        weights = {part: len(found.all_cases()) * MULTIPLIERS.get(part, 1.0) for part, found in parts.items()}
        return [(dataset, weights[part]) for part, dataset in parts.items() if weights[part]]


def _pictures(part: str, folder: Path) -> list[CaseFiles]:
    """Pictures of a part, wherever below its folder they lie."""
    found = []
    for place, _ in walk(folder):
        lower = place.name.lower()
        if place != folder and ("mask" in lower or lower in ("gt", "ground_truth")):
            continue
        images = by_stem(place, ".jpg", ".jpeg")
        beside = (_mask_folder(place) if images else None) or place
        masks = by_stem(beside, ".png")
        for stem, image in images.items():
            stems = [stem.removesuffix(end) + mark for end, mark in _ENDINGS if stem.endswith(end)]
            mask = next((masks[m] for m in stems if m in masks), beside / f"{stems[0]}.png")
            inside = [name for name in place.relative_to(folder).parts if "image" not in name.lower()]
            name = case_name(part, *inside, stem)
            patient = case_name(part, *inside) if part == "fss" else name
            split = "val" if part == "duts-te" else "train"
            found.append(CaseFiles(name, patient, image, (mask,), split=split))
    return found


def _mask_folder(images: Path) -> Path | None:
    """The folder of masks beside a folder of pictures, as DUTS-TR-Mask beside DUTS-TR-Image, x_mask beside x."""
    for name in (f"{images.name}_mask", f"{images.name}_masks"):
        if images.with_name(name).is_dir():
            return images.with_name(name)
    if "image" not in images.name.lower():
        return None
    near = [p for p in sorted(images.parent.iterdir()) if p.is_dir() and "mask" in p.name.lower()]
    prefix = images.name.lower().partition("image")[0]
    same = [p for p in near if p.name.lower().startswith(prefix)]
    return next(iter(same or near), None)


def moved_picture(path: Path, frames: int) -> Volume:
    """A video out of one picture, (frames, H, W, 3) or (frames, H, W): turned, shifted, scaled and sheared.

    The movement is drawn from the file's name alone, so image and labels move alike and every reading is the same. The
    first frame is the picture itself, edges are continued.
    """
    picture = read_picture(path, palette=False)[0]
    moved = np.empty((frames, *picture.shape), picture.dtype)
    still, film = (part[..., None] if picture.ndim == 2 else part for part in (picture, moved))
    for frame, m in zip(film, movement(path.name, frames, picture.shape[:2]), strict=True):
        for c in range(still.shape[-1]):
            frame[..., c] = ndimage.affine_transform(still[..., c], m[:2, :2], m[:2, 2], order=1, mode="nearest")
    return Volume.from_array(moved, source=path)


def moved_labels(path: Path, mask: Path, frames: int, above: int = 127) -> NDArray[np.uint8]:
    """Labels of the moved picture `path`, whose name decides the movement, uint8 (frames, H, W)."""
    labels = read_objects((mask,), above)[0]
    matrices = movement(path.name, frames, labels.shape)
    return np.stack([ndimage.affine_transform(labels, m[:2, :2], m[:2, 2], order=0) for m in matrices])


def movement(name: str, frames: int, shape: tuple[int, ...]) -> list[NDArray[np.float64]]:
    """(3, 3) matrices from (row, column, 1) of every frame to those of the picture; the first one changes nothing."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    turn, shear = np.deg2rad(rng.uniform(-1, 1, 2) * (TURN, SHEAR))
    scale, *shift = rng.uniform(-1, 1, 3) * (SCALE, SHIFT * shape[0], SHIFT * shape[1])
    centre = (np.array(shape[:2]) - 1) / 2
    found = []
    for share in np.linspace(0, 1, frames) if frames > 1 else [0.0]:
        angle, size = share * turn, np.exp(share * scale)
        turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * size
        matrix = np.eye(3)
        matrix[:2, :2] = turned @ np.array([[1, np.tan(share * shear)], [0, 1]])
        matrix[:2, 2] = centre - matrix[:2, :2] @ (centre + share * np.array(shift))
        found.append(matrix)
    return found


StaticSetsDataModule = data_module(StaticSetsDataset)
