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

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from limnet.data.dataset import LabelledCase, LabelledDataset
from limnet.data.module import CaseDataModule
from limnet.datasets.moved_picture import moved_labels, moved_picture
from limnet.datasets.pictures import Picture, PictureSet, case_name, picture_files
from limnet.datasets.walk import walk
from limnet.errors import InputError

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
_ENDINGS = (("", ""), ("_im", "_gt"), ("", "_mask"))


class StaticSetsDataset(PictureSet):
    """XMem's static sets; label 1 is the object.

    Args:
        root: see the layout.
        fraction: not used, the split is by folder.
        seed: not used.
        parts: which of `PARTS` to read; all that are there by default.
        frames: 1 for pictures, more for films of a picture moved about: (frames, H, W, 3).

    Raises:
        InputError: an unknown part, or fewer frames than 1.
        MissingFileError: none of the parts is there.
    """

    title = "static sets (FSS, ECSSD, DUTS, BIG, HRSOD)"
    licence = "research use, mostly unstated; see each set"
    access = "free downloads; re-packed as one archive by https://github.com/hkchengrex/XMem (docs/TRAINING.md)"
    layout = (
        "static/fss/<class>/1.jpg and 1.png\nstatic/{ecssd,DUTS-TR,DUTS-TE,BIG_small,HRSOD_small}/x.jpg and x.png\n"
        "or DUTS-TR/DUTS-TR-Image + DUTS-TR-Mask, ECSSD/images + ground_truth_mask, BIG/*_im.jpg + *_gt.png"
    )
    splits = ("train", "val")
    above: ClassVar[int] = 127

    def __init__(
        self,
        root: Path | str,
        fraction: float = 0.2,
        seed: int = 0,
        parts: Sequence[str] | None = None,
        frames: int = 1,
    ) -> None:
        self.wanted = tuple(PARTS) if parts is None else tuple(parts)
        if unknown := [part for part in self.wanted if part not in PARTS]:
            raise InputError(f"parts {unknown} are unknown; allowed are {', '.join(PARTS)}")
        if frames < 1:
            raise InputError(f"frames is {frames}; at least 1 is needed")
        self.frames = frames
        super().__init__(root, fraction, seed)

    def find(self) -> None:
        """Look for the folders of the parts in the root or in `static` below it."""
        base = self.root / "static" if (self.root / "static").is_dir() else self.root
        self.folders = {}
        for part in self.wanted:
            there = [base / name for name in PARTS[part] if (base / name).is_dir()]
            if there:
                self.folders[part] = there[0]
        if not self.folders:
            raise self.missing(f"there is none of {', '.join(self.wanted)} in {self.root}")

    def pictures(self) -> list[Picture]:
        """Pictures of all parts in the order of `PARTS`."""
        return [picture for part, folder in self.folders.items() for picture in _pictures(part, folder)]

    def all_cases(self) -> list[LabelledCase]:
        """Pictures, or films of them."""
        if self.frames == 1:
            return super().all_cases()
        return [
            LabelledCase(
                name=picture.name,
                patient=picture.patient,
                modality="video",
                labels=picture.labels,
                read_image=partial(moved_picture, picture.image, self.frames),
                read_labels=partial(moved_labels, picture.image, picture.masks[0], self.frames, self.above),
                cached=False,
            )
            for picture in self.pictures()
            if picture.image.is_file() and picture.masks[0].is_file()
        ]

    def split_of(self, case: LabelledCase) -> str | None:
        """DUTS-TE is held out."""
        return "val" if case.name.startswith("duts-te_") else "train"


class StaticSetsDataModule(CaseDataModule):
    """Training clips and whole cases of the static sets, BIG and HRSOD five times as often for their size as others."""

    dataset_class = StaticSetsDataset

    @classmethod
    def mix_of(cls, root: Path) -> list[tuple[LabelledDataset, float]]:
        """Every part as a data set of its own, weighted by its pictures and XMem's multiplier."""
        whole = StaticSetsDataset(root)
        parts = [StaticSetsDataset(root, parts=(part,)) for part in whole.folders]
        weights = [len(d.all_cases()) * MULTIPLIERS.get(d.wanted[0], 1.0) for d in parts]
        return [(dataset, weight) for dataset, weight in zip(parts, weights, strict=True) if weight]


def _pictures(part: str, folder: Path) -> list[Picture]:
    """Pictures of a part, wherever below its folder they lie."""
    found = []
    for place, _ in walk(folder):
        lower = place.name.lower()
        if place != folder and ("mask" in lower or lower in ("gt", "ground_truth")):
            continue
        images, masks = picture_files(place, ".jpg", ".jpeg"), picture_files(place, ".png")
        beside = _mask_folder(place) if images else None
        if beside is not None:
            masks = picture_files(beside, ".png")
        for stem, image in images.items():
            mask = next((masks[m] for m in _mask_stems(stem) if m in masks), None)
            inside = [name for name in place.relative_to(folder).parts if "image" not in name.lower()]
            name = case_name(part, *inside, stem)
            patient = case_name(part, *inside) if part == "fss" else name
            absent = (beside or place) / f"{_mask_stems(stem)[0]}.png"
            found.append(Picture(name, patient, image, (mask or absent,)))
    return found


def _mask_stems(stem: str) -> list[str]:
    return [stem.removesuffix(image) + mask for image, mask in _ENDINGS if stem.endswith(image)]


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
