"""A data set with a dataset.json as in the Medical Segmentation Decathlon.

Layout::

    TaskNN_Name/dataset.json           "labels": {"0": "background", "1": ...}, "training": [{"image", "label"}, ...]
    TaskNN_Name/imagesTr/x.nii.gz      3-D, or 4-D with the channels last
    TaskNN_Name/labelsTr/x.nii.gz

Paths in the list are relative to dataset.json ("./imagesTr/x.nii.gz"). A list "validation" with labels is the split
"val"; otherwise part of "training" is held out by a stable hash. "test" has no labels and is not read. Cases of which a
file is missing are left out, with a warning. Cases are called like their images, or like their paths where names repeat
(`case3/image.nii.gz`).
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from limnet.data.dataset import LabelledCase, Problem, split_patients
from limnet.data.module import CaseDataModule
from limnet.datasets.datalist import label_names, modality_of, read_datalist
from limnet.datasets.files import image_stem
from limnet.datasets.paired import Pair, PairedDataset, fit_name
from limnet.errors import FileFormatError


class DecathlonDataset(PairedDataset):
    """A task of the decathlon, or your own data listed the same way.

    Args:
        root: the folder with dataset.json.
        fraction: share of cases held out where "validation" is not listed.
        seed: of that split.
        channel: which volume of 4-D images (0 is also right for 3-D ones).

    Raises:
        MissingFileError: no dataset.json, or not one case that it lists has both files; the message names them.
        FileFormatError: dataset.json lacks its lists.
    """

    title = "data set in the decathlon's form"
    licence = "its owner's"
    access = "http://medicaldecathlon.com for the decathlon itself; or your own files listed the same way"
    layout = 'dataset.json           ("labels", "training": [{"image": "./imagesTr/x.nii.gz", "label": ...}])\n' + (
        "imagesTr/x.nii.gz\nlabelsTr/x.nii.gz"
    )
    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def __init__(self, root: Path | str, fraction: float = 0.2, seed: int = 0, channel: int = 0) -> None:
        self.channel = channel
        super().__init__(root, fraction, seed)

    def find(self) -> None:
        """Read dataset.json."""
        path = self.root / "dataset.json"
        if not path.is_file():
            raise self.missing(f"there is no dataset.json in {self.root}")
        self.content = read_datalist(path)
        self._labels, self._ignored = label_names(self.content, path)
        training, validation = self._listed("training", path), self._listed("validation", path)
        number = Counter(pair.patient for pair in (*training, *validation))
        if max(number.values(), default=1) > 1:  # case3/image.nii.gz: the folder tells them apart
            training, validation = ([self._in_full(pair) for pair in pairs] for pairs in (training, validation))
        if not training:
            raise FileFormatError(f"{path} lists nothing under 'training' with both 'image' and 'label'; mend the file")
        self.keep_complete([*training, *validation], path)
        if validation:
            self._places = {p.patient: "train" for p in training} | {p.patient: "val" for p in validation}
        else:
            self._places = split_patients((p.patient for p in training), ("train", "val"), self.fraction, self.seed)

    def split_of(self, case: LabelledCase) -> str | None:
        """The list it stands in, or a stable hash where only "training" is listed."""
        return self._places.get(case.patient)

    def check(self) -> list[Problem]:
        """The general checks, and the number of cases against dataset.json."""
        problems = super().check()
        wanted, there = self.content.get("numTraining"), len(self._listed("training", self.root / "dataset.json"))
        if isinstance(wanted, int) and wanted != there:
            problems.append(Problem("", f"dataset.json says numTraining {wanted} but lists {there}", "complete it"))
        return problems

    def _in_full(self, pair: Pair) -> Pair:
        """The pair with the path of its image as name and patient."""
        path = Path(os.path.relpath(pair.image, self.root))
        stem = (path.parent / image_stem(path)).as_posix()
        return replace(pair, name=fit_name(stem), patient=stem)

    def _listed(self, key: str, path: Path) -> list[Pair]:
        found = []
        entries: Any = self.content.get(key) or []
        for entry in entries if isinstance(entries, list) else []:
            if not isinstance(entry, dict) or not entry.get("image") or not entry.get("label"):
                continue
            image: Any = entry["image"]
            channel: int | None = self.channel
            if isinstance(image, list):
                if not 0 <= self.channel < len(image):
                    raise FileFormatError(f"{path}: {image} has no channel {self.channel}")
                image, channel = image[self.channel], None
            file, label = self.root / str(image), self.root / str(entry["label"])
            name = image_stem(file)
            modality = modality_of(self.content, self.channel)
            found.append(Pair(fit_name(name), name, file, label, modality, channel, self._labels, self._ignored))
        return found


class DecathlonDataModule(CaseDataModule):
    """Training clips and whole cases of a data set in the decathlon's form."""

    dataset_class = DecathlonDataset
