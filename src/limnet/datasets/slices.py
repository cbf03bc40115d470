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
from pathlib import Path

from limnet.data.dataset import MODALITIES
from limnet.data.module import CaseDataModule
from limnet.datasets.files import image_suffix
from limnet.datasets.instances import InstanceNames
from limnet.datasets.pictures import Picture, PictureSet, case_name, picture_files
from limnet.errors import FileFormatError, InputError
from limnet.image.io.pictures import PICTURES

_SLICE = re.compile(r"[-_. ](slice|frame|z|t|s)[-_. ]?\d+$", re.IGNORECASE)


class SlicesDataset(PictureSet):
    """Slices with a mask for each object; label k is the k-th object of a picture.

    Args:
        root: see the layout.
        fraction: share of patients held out.
        seed: of that split.
        modality: of a root without folders for modalities.

    Raises:
        InputError: an unknown modality.
        MissingFileError: no images and masks.
        FileFormatError: a mask stored as JPEG, or two files of one name.
    """

    title = "2-D slices with a mask for each object"
    licence = "your own"
    access = "your own files"
    layout = "images/p01_slice03.png\nmasks/p01_slice03.png (or p01_slice03_1.png, p01_slice03_2.png)\n(or in ct/, us/)"
    splits = ("train", "val", "test")

    def __init__(self, root: Path | str, fraction: float = 0.2, seed: int = 0, modality: str = "other") -> None:
        if modality not in MODALITIES:
            raise InputError(f"modality is {modality!r}; allowed are {', '.join(MODALITIES)}")
        self.modality = modality
        super().__init__(root, fraction, seed)

    def find(self) -> None:
        """Look for images and masks in the root or in folders named by modality."""
        places = {name: self.root / name for name in MODALITIES}
        self.places = {name: place for name, place in places.items() if (place / "images").is_dir()}
        if not self.places:
            self.places = {self.modality: self.root}
        for place in self.places.values():
            for name in ("images", "masks"):
                if not (place / name).is_dir():
                    raise self.missing(f"there is no {name} in {place}")
            blurred = [path.name for path in picture_files(place / "masks", ".jpg", ".jpeg").values()]
            if blurred:
                raise FileFormatError(f"masks stored as JPEG are blurred: {', '.join(blurred[:5])}. Save them as PNG")
            for name in ("images", "masks"):
                stems = Counter(p.stem for p in (place / name).iterdir() if image_suffix(p) in PICTURES)
                if double := [stem for stem, number in stems.items() if number > 1]:
                    raise FileFormatError(f"{place / name} holds several files called {double[0]}; keep one of them")

    def pictures(self) -> list[Picture]:
        """Pictures with their masks in the order of numbers; a mask without a picture is named too."""
        found = []
        for modality, place in self.places.items():
            images, masks = picture_files(place / "images"), picture_files(place / "masks")
            mine: dict[str, list[Path]] = {stem: [] for stem in images}
            for stem, path in masks.items():
                picture = stem if stem in images else re.sub(r"_\d+$", "", stem)
                mine.setdefault(picture, []).append(path)
            for stem, files in mine.items():
                name = case_name(modality, stem) if len(self.places) > 1 else case_name(stem)
                patient = _SLICE.sub("", stem) if len(self.places) == 1 else f"{modality}/{_SLICE.sub('', stem)}"
                image = images.get(stem, place / "images" / f"{stem}.png")
                lost = place / "masks" / f"{stem}.png"
                labels = InstanceNames(("object", 1, max(len(files), 1)))
                found.append(Picture(name, patient, image, tuple(files) or (lost,), labels, modality))
        return sorted(found, key=lambda picture: picture.name)


class SlicesDataModule(CaseDataModule):
    """Training clips and whole cases of your own slices."""

    dataset_class = SlicesDataset
