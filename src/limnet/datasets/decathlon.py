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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from limnet.data.dataset import BY_HASH, CaseFiles, LabelledDataset, Problem
from limnet.data.files import case_name, image_stem, read_json
from limnet.data.module import data_module
from limnet.errors import FileFormatError

_MR = ("mr", "mri", "t1", "t2", "flair", "adc", "dwi", "pd", "swi")


@dataclass(eq=False, repr=False)
class DecathlonDataset(LabelledDataset):
    """A task of the decathlon, or your own data listed the same way.

    `channel` is which volume of 4-D images (0 is also right for 3-D ones).
    """

    title = "data set in the decathlon's form"
    licence = "its owner's"
    access = "http://medicaldecathlon.com for the decathlon itself; or your own files listed the same way"
    channel: int = 0

    def list_files(self) -> Iterable[CaseFiles]:
        """Cases of dataset.json; those of "training" are divided by a hash where no "validation" is listed."""
        path = self.root / "dataset.json"
        if not path.is_file():
            raise self.missing(f"there is no dataset.json in {self.root}")
        self.content = read_datalist(path)
        held = [replace(files, split="val") for files in self._listed("validation", path)]
        training = [replace(files, split="train" if held else BY_HASH) for files in self._listed("training", path)]
        if not training:
            raise FileFormatError(f"{path} lists nothing under 'training' with both 'image' and 'label'; mend the file")
        self.training = len(training)
        cases = [*training, *held]
        if len({files.patient for files in cases}) < len(cases):  # case3/image.nii.gz: the folder tells them apart
            cases = [self._in_full(files) for files in cases]
        return self.require_some(cases, path)

    def check_files(self) -> list[Problem]:
        """The number of cases against dataset.json."""
        wanted = self.content.get("numTraining")
        if not isinstance(wanted, int) or wanted == self.training:
            return []
        return [Problem("", f"dataset.json says numTraining {wanted} but lists {self.training}", "complete it")]

    def _in_full(self, files: CaseFiles) -> CaseFiles:
        """The case with the path of its image as name and patient."""
        path = Path(os.path.relpath(files.image, self.root))
        stem = (path.parent / image_stem(path)).as_posix()
        return replace(files, name=case_name(stem), patient=stem)

    def _listed(self, key: str, path: Path) -> Iterator[CaseFiles]:
        labels, ignored = label_names(self.content, path)
        modality = modality_of(self.content, self.channel)
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
            file, masks = self.root / str(image), (self.root / str(entry["label"]),)
            name = image_stem(file)
            yield CaseFiles(case_name(name), name, file, masks, modality, BY_HASH, labels, ignored, channel)


def read_datalist(path: Path) -> dict[str, Any]:
    """Content of a dataset.json; FileFormatError for no JSON object."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise FileFormatError(f"{path} holds a {type(content).__name__}; an object with 'labels' is expected")
    return content


def label_names(content: dict[str, Any], path: Path) -> tuple[dict[int, str], tuple[int, ...]]:
    """Label names in any of the customary forms: id -> name without the background, and the ids to be ignored.

    `labels` is {"0": "background", "1": "liver"} (decathlon, nnU-Net v1) or {"background": 0, "liver": 1, "both": [1,
    2], "ignore": 3} (nnU-Net v2; lists are regions); FileFormatError for anything else.
    """
    given = content.get("labels")
    names: dict[int, list[str]] = {}
    ignored = set()
    try:
        if not isinstance(given, dict) or not given:
            raise ValueError(f"'labels' is {given!r}")
        for key, value in given.items():
            if isinstance(value, str) and str(key).isdigit():
                names.setdefault(int(key), []).append(value)
                continue
            for number in value if isinstance(value, (list, tuple)) else [value]:
                names.setdefault(int(number), []).append(str(key))
                if str(key).lower() == "ignore":
                    ignored.add(int(number))
    except (ValueError, TypeError) as error:
        raise FileFormatError(
            f'{path}: {error}; labels are expected as {{"1": "liver"}} or {{"liver": 1}}. Mend the file'
        ) from error
    known = {i: " / ".join(n) for i, n in sorted(names.items()) if i != 0 and i not in ignored}
    return known, tuple(sorted(ignored))


def modality_of(content: dict[str, Any], channel: int) -> str:
    """ "ct", "mr", "us" or "other" of a channel, by `modality` or `channel_names`."""
    named = content.get("channel_names") or content.get("modality") or {}
    name = str(named.get(str(channel), "") if isinstance(named, dict) else "").lower()
    words = name.replace("-", " ").replace("_", " ").split()
    if "ct" in words or "cbct" in words:
        return "ct"
    if any(word.startswith(_MR) for word in words):
        return "mr"
    return "us" if "us" in words or "ultrasound" in words else "other"


DecathlonDataModule = data_module(DecathlonDataset)
