"""A data set in nnU-Net's raw format.

Layout::

    DatasetXXX_Name/dataset.json                 form of version 1 or 2
    DatasetXXX_Name/imagesTr/NAME_0000.nii.gz    one file per channel: _0000, _0001, ...
    DatasetXXX_Name/labelsTr/NAME.nii.gz
    DatasetXXX_Name/imagesTs, labelsTs           optional: the split "test"
    DatasetXXX_Name/splits_final.json            optional: folds, as nnU-Net writes it

Any ending that limnet reads will do (.nii.gz, .nrrd, .mha, .png, .tif, ...). A dataset.json with a `dataset` entry,
{name: {"images": [...], "label": ...}}, is followed instead of the folders. Cases of which a file is missing are left
out, with a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from limnet.data.dataset import BY_HASH, CaseFiles, LabelledDataset, Problem
from limnet.data.files import case_name, image_stem, image_suffix, read_json, shortened
from limnet.data.module import data_module
from limnet.datasets.decathlon import label_names, modality_of, read_datalist
from limnet.errors import FileFormatError, InputError, MissingFileError
from limnet.image.io.reading import explained

_CHANNEL = re.compile(r"^(?P<name>.+)_(?P<channel>\d{4})$")


@dataclass(eq=False, repr=False)
class NnUNetDataset(LabelledDataset):
    """One data set of nnUNet_raw: the `channel` to work on, and the `fold` of splits_final.json to validate on."""

    title = "nnU-Net raw data set"
    licence = "its owner's"
    access = "your own files in nnU-Net's format"
    splits = ("train", "val", "test")
    hashed = ("train", "val")
    lists = "splits_final.json"
    channel: int = 0
    fold: int = 0

    def list_files(self) -> Iterable[CaseFiles]:
        """Cases of Tr by the fold of splits_final.json or a hash, and those of Ts, which are "test"."""
        path = self.root / "dataset.json"
        if not path.is_file():
            raise self.missing(f"there is no dataset.json in {self.root}")
        self.content = read_datalist(path)
        self.named = label_names(self.content, path)
        listed = self.content.get("dataset")
        training = self._listed(listed, path) if isinstance(listed, dict) and listed else self._in_folders("Tr", True)
        testing = [replace(files, split="test") for files in self._in_folders("Ts", False)]
        names = [files.patient for files in training]
        if repeated := sorted(set(names) & {files.patient for files in testing}):
            raise FileFormatError(f"{shortened(repeated)} is in labelsTr and in labelsTs; remove one")
        self.training = len(training)
        folds = self._folds(names)
        if folds is not None:
            known = {*names, *(files.patient for files in testing)}
            training += [self._in_folder("Tr", name, {}, None) for name in folds if name not in known]
            training = [replace(files, split=folds.get(files.patient)) for files in training]
        return self.require_some([*training, *testing], self.root)

    def check_files(self) -> list[Problem]:
        """The number of cases against dataset.json, and cases that are in no fold."""
        problems = self.check_lists(self.lists)
        if isinstance(wanted := self.content.get("numTraining"), int) and wanted != self.training:
            what = f"dataset.json says numTraining {wanted}, there are {self.training}"
            problems.append(Problem("", what, "complete it or mend the number"))
        return problems

    def _in_folders(self, end: str, required: bool) -> list[CaseFiles]:
        images, labels = self.root / f"images{end}", self.root / f"labels{end}"
        for folder in (images, labels):
            if not folder.is_dir():
                if required:
                    raise self.missing(f"there is no {folder.name} in {self.root}")
                return []
        masks = {image_stem(p): p for p in sorted(labels.iterdir()) if image_suffix(p)}
        channels: dict[str, dict[int, Path]] = {}
        for path in sorted(images.iterdir()):
            found = _CHANNEL.match(image_stem(path)) if image_suffix(path) else None
            if found:
                channels.setdefault(found["name"], {})[int(found["channel"])] = path
        if required and not (masks and channels):
            raise self.missing(f"{images.name} and {labels.name} in {self.root} hold no pairs NAME_0000 and NAME")
        if masks and channels and not any(self.channel in found for found in channels.values()):
            self._chosen(*next(iter(channels.items())))  # raises: it is the option that is wrong
        # Images without labels are no defect of the test folder.
        names = dict.fromkeys([*masks, *(channels if required else ())])
        return [self._in_folder(end, name, channels.get(name, {}), masks.get(name)) for name in names]

    def _in_folder(self, end: str, name: str, channels: dict[int, Path], mask: Path | None) -> CaseFiles:
        """Files of a case in the folders; for those that are missing the path where they should be."""
        image = channels.get(self.channel)
        other = next((path for path in (mask, image, *channels.values()) if path is not None), None)
        ending = image_suffix(other) if other is not None else str(self.content.get("file_ending") or ".nii.gz")
        image = image or self.root / f"images{end}" / f"{name}_{self.channel:04d}{ending}"
        return self._files(name, image, mask or self.root / f"labels{end}" / f"{name}{ending}")

    def _listed(self, listed: dict[str, Any], path: Path) -> list[CaseFiles]:
        found = []
        for name, entry in listed.items():
            if not isinstance(entry, dict) or not entry.get("images") or not entry.get("label"):
                raise FileFormatError(f"{path}: entry {name!r} of 'dataset' lacks 'images' or 'label'; mend the file")
            channels = {i: self.root / file for i, file in enumerate(entry["images"])}
            found.append(self._files(name, self._chosen(name, channels), self.root / entry["label"]))
        return found

    def _chosen(self, name: str, channels: dict[int, Path]) -> Path:
        if self.channel not in channels:
            raise InputError(f"{name} has no channel {self.channel}; there are {', '.join(map(str, sorted(channels)))}")
        return channels[self.channel]

    def _files(self, name: str, image: Path, label: Path) -> CaseFiles:
        modality = modality_of(self.content, self.channel)
        return CaseFiles(case_name(name), name, image, (label,), modality, BY_HASH, *self.named)

    def _folds(self, names: list[str]) -> dict[str, str] | None:
        """Case -> split; None without splits_final.json."""
        path = self.root / self.lists
        if not path.is_file():
            return None
        folds = read_json(path)
        with explained(path, "It should be in nnU-Net's form, [{'train': [...], 'val': [...]}, ...]"):
            if self.fold >= len(folds):
                raise InputError(f"{path} has {len(folds)} fold(s), number {self.fold} is not among them")
            chosen = {str(n): split for split in ("train", "val") for n in folds[self.fold][split]}
        if chosen and not set(chosen) & set(names):
            raise MissingFileError(f"{path} lists {shortened(chosen)}, and none of them is there; copy the right list")
        return chosen


NnUNetDataModule = data_module(NnUNetDataset)
