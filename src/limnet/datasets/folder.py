"""Your own folder: images and masks with equal names.

Layout::

    ROOT/images/case1.nii.gz      pictures (png, jpg, bmp, tif) or volumes (nii, nii.gz, nrrd, mha, mhd, npz, npy)
    ROOT/masks/case1.nii.gz       one number per object kind, 0 is background; png, tif or any volume format
    ROOT/splits.json              optional: {"train": ["case1", ...], "val": [...], "test": [...]}
    ROOT/patients.json            optional: {"case1": "patient A", ...}
    ROOT/labels.json              optional: {"1": "liver", ...}

The folders may also be called image or img, and mask, labels or label. A mask may carry an ending such as `_mask`,
`_label` or `_seg`. Files may lie in subfolders, which then have to be the same on both sides; the first one is taken
for the patient. Otherwise a patient is a file name up to an ending such as `_slice012` or `_frame7`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from limnet.data.dataset import CaseFiles, LabelledDataset, Problem
from limnet.data.files import case_name, files_below, image_stem, image_suffix, read_json, shortened
from limnet.data.module import data_module
from limnet.errors import FileFormatError, InputError, MissingFileError

IMAGE_FOLDERS = ("images", "image", "img", "imgs")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "segmentations", "annotations")
_MASK_ENDING = re.compile(r"[-_. ](masks?|labels?|seg|segmentation|gt|annotation)$", re.IGNORECASE)
_IMAGE_ENDING = re.compile(r"([-_. ](image|img)|_0000)$", re.IGNORECASE)  # _0000: the first channel, in nnU-Net
_SLICE_ENDING = re.compile(r"[-_. ](slice|frame|z|t|s)[-_. ]?\d+$", re.IGNORECASE)


@dataclass(eq=False, repr=False)
class FolderDataset(LabelledDataset):
    """Images and masks in two folders; see the module for the layout.

    `modality` is that of all images, such as "ct" or "us"; volumes with HU are recognised without.
    """

    title = "folder of images and masks"
    licence = "your own"
    access = "your own files"
    splits = ("train", "val", "test")
    hashed = ("train", "val")
    modality: str = "other"

    def list_files(self) -> Iterable[CaseFiles]:
        """Images and masks matched by name; splits of splits.json, or by a hash into "train" and "val"."""
        images, masks = (self._below(self.first_folder(*names)) for names in (IMAGE_FOLDERS, MASK_FOLDERS))
        matched = match_by_name(images, masks, self.root)
        blurred = [masks[mask].name for _, mask in matched if image_suffix(masks[mask]) in (".jpg", ".jpeg")]
        if blurred:
            raise FileFormatError(
                f"masks stored as JPEG have lost their numbers: {shortened(blurred)}. Save them as PNG or TIFF"
            )
        names = self._json("labels.json", "label numbers to names", _is_labels) or {}
        labels = {int(k): str(v) for k, v in names.items() if int(k)}
        known = self._patients(images)
        files = [
            CaseFiles(
                case_name(stem),
                known.get(stem, stem.split("/")[0] if "/" in stem else _SLICE_ENDING.sub("", stem)),
                images[stem],
                (masks[mask],),
                self.modality,
                labels=labels,
            )
            for stem, mask in matched
        ]
        given = self._splits({f.name: f.patient for f in files}, matched[0][0])
        return files if given is None else [replace(f, split=given.get(f.name)) for f in files]

    def check_files(self) -> list[Problem]:
        """Cases that are in no split."""
        return self.check_lists("splits.json")

    def _below(self, folder: Path) -> dict[str, Path]:
        """Files of a folder by their path in it without suffix."""
        found: dict[str, Path] = {}
        for path in files_below(folder):
            if image_suffix(path) is None or not path.is_file():
                continue
            stem = (path.relative_to(folder).parent / image_stem(path)).as_posix()
            if stem in found:
                raise FileFormatError(f"{found[stem]} and {path} have the same name; keep one of them")
            found[stem] = path
        if not found:
            raise self.missing(f"{folder} holds no image file")
        return found

    def _splits(self, patients: dict[str, str], example: str) -> dict[str, str] | None:
        """Case -> split, given case -> patient; None without splits.json."""
        path = self.root / "splits.json"
        content = self._json(path.name, "splits to lists of names", _is_splits)
        if content is None:
            return None
        given: dict[str, str] = {}
        for name, split in ((case_name(_stem_of(e)), split) for split, entries in content.items() for e in entries):
            other = given.setdefault(name, split)
            if other != split:
                raise InputError(f"{path} lists {name} in {other} and {split}. Keep it in one of them")
        if absent := sorted(set(given) - set(patients)):
            raise MissingFileError(
                f"{path} lists {shortened(absent)}, but there is no such image in {self.root}; "
                f"names are those of the files without suffix, such as {example}"
            )
        where: dict[str, str] = {}
        for name, split in given.items():
            other = where.setdefault(patients[name], split)
            if other != split:
                raise InputError(
                    f"{path} puts patient {patients[name]} into {other} and {split}; results on {other} and {split} "
                    "would not be independent. Keep each patient in one split (patients.json says who is who)"
                )
        return given

    def _patients(self, images: Collection[str]) -> dict[str, str]:
        """Path of an image without suffix -> patient, as far as patients.json says; suffixes in it do not matter."""
        content = self._json("patients.json", "names to patients", lambda c: isinstance(c, dict)) or {}
        known = {_stem_of(name): str(patient) for name, patient in content.items()}
        if absent := sorted(set(known) - set(images)):
            raise MissingFileError(
                f"{self.root / 'patients.json'} names {shortened(absent)}, but there is no such image; names are paths "
                f"in the folder of the images, such as {next(iter(images))}"
            )
        return known

    def _json(self, name: str, what: str, fits: Any) -> dict[str, Any] | None:
        path = self.root / name
        if not path.is_file():
            return None
        content = read_json(path)
        if not fits(content):
            raise FileFormatError(f"{path} is not as expected: an object that maps {what}")
        return content


def match_by_name(images: dict[str, Path], masks: dict[str, Path], root: Path) -> list[tuple[str, str]]:
    """(name of the image, name of its mask) for every image; one of the two may carry an ending, see the module.

    Takes files by name without suffix; `root` is for messages. MissingFileError for an image or mask without a partner,
    FileFormatError for an image with two masks.
    """
    plain = {_IMAGE_ENDING.sub("", stem): stem for stem in images}
    found: dict[str, str] = {}
    lone = []
    for mask in masks:
        image = mask if mask in images else plain.get(_MASK_ENDING.sub("", mask), plain.get(mask))
        if image is None:
            lone.append(mask)
        elif image in found:
            raise FileFormatError(
                f"{images[image]} has two masks, {masks[found[image]].name} and {masks[mask].name}; keep one, with one "
                "number for each kind of object"
            )
        else:
            found[image] = mask
    without = [stem for stem in images if stem not in found]
    kinds = ((without, "image(s) without a mask"), (lone, "mask(s) without an image"))
    if parts := [f"{len(stems)} {what}: {shortened(stems)}" for stems, what in kinds if stems]:
        raise MissingFileError(
            f"images and masks in {root} do not pair up by name: {'; '.join(parts)}. Rename them, or move them out"
        )
    return sorted(found.items())


def _stem_of(entry: str) -> str:
    path = Path(entry)
    return (path.parent / image_stem(path)).as_posix() if image_suffix(path) else entry


def _is_labels(content: Any) -> bool:
    return isinstance(content, dict) and all(k.isdigit() and isinstance(v, str) for k, v in content.items())


def _is_splits(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and set(content) <= set(FolderDataset.splits)
        and all(isinstance(v, list) and all(isinstance(e, str) for e in v) for v in content.values())
    )


FolderDataModule = data_module(FolderDataset)
