"""Your own 2-D slices with one mask file for each object: CT and ultrasound slices such as LIM-Net's in-house sets.

Layout, the form RITM takes::

    ROOT/images/p01_slice03.png                png, jpg, bmp or tif, gray or colour, 8 or 16 bits
    ROOT/masks/p01_slice03.png                 one object, or
    ROOT/masks/p01_slice03_1.png, ..._2.png    one file for each object

or the same in ROOT/ct and ROOT/us (any of ct, mr, us, photo, endoscopy, microscopy), which name the modality. In a mask
0 is background, 128 (and below) undecided, above 128 the object. The patient is the file name up to an ending such as
`_slice03` or `_frame7`; without one each picture is its own patient. Label maps with numbers 1, 2, ... are what
`folder` reads.

Splits: patients by a stable hash.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from limnet.data.dataset import MODALITIES, CaseFiles, InstanceNames
from limnet.data.files import by_stem, case_name, image_suffix
from limnet.data.module import data_module
from limnet.data.pictures import PictureDataset
from limnet.errors import FileFormatError
from limnet.image.io.pictures import PICTURES

_SLICE = re.compile(r"[-_. ](slice|frame|z|t|s)[-_. ]?\d+$", re.IGNORECASE)


@dataclass(eq=False, repr=False)
class SlicesDataset(PictureDataset):
    """Slices with a mask for each object; label k is the k-th object of a picture.

    `modality` is that of a root without folders for modalities.
    """

    title = "2-D slices with a mask for each object"
    licence = "your own"
    access = "your own files"
    splits = ("train", "val", "test")
    choices: ClassVar = {"modality": MODALITIES}
    modality: str = "other"

    def list_files(self) -> Iterable[CaseFiles]:
        """Pictures with their masks in the order of numbers; a mask without a picture is named too."""
        places = {name: self.root / name for name in MODALITIES if (self.root / name / "images").is_dir()}
        several, found = len(places) > 1, []
        for modality, place in (places or {self.modality: self.root}).items():
            images, masks = (self._pictures(place, name) for name in ("images", "masks"))
            mine: dict[str, list[Path]] = {stem: [] for stem in images}
            for stem, path in masks.items():
                mine.setdefault(stem if stem in images else re.sub(r"_\d+$", "", stem), []).append(path)
            for stem, files in mine.items():
                name = case_name(modality, stem) if several else case_name(stem)
                patient = f"{modality}/{_SLICE.sub('', stem)}" if several else _SLICE.sub("", stem)
                image, lost = images.get(stem, place / "images" / f"{stem}.png"), place / "masks" / f"{stem}.png"
                labels = InstanceNames(("object", 1, max(len(files), 1)))
                found.append(CaseFiles(name, patient, image, tuple(files) or (lost,), modality, labels=labels))
        return sorted(found, key=lambda files: files.name)

    def _pictures(self, place: Path, name: str) -> dict[str, Path]:
        folder = place / name
        if not folder.is_dir():
            raise self.missing(f"there is no {name} in {place}")
        if name == "masks" and (blurred := by_stem(folder, ".jpg", ".jpeg")):
            names = ", ".join(path.name for path in list(blurred.values())[:5])
            raise FileFormatError(f"masks stored as JPEG are blurred: {names}. Save them as PNG")
        stems = Counter(p.stem for p in folder.iterdir() if image_suffix(p) in PICTURES)
        if double := [stem for stem, number in stems.items() if number > 1]:
            raise FileFormatError(f"{folder} holds several files called {double[0]}; keep one of them")
        return by_stem(folder)


SlicesDataModule = data_module(SlicesDataset)
