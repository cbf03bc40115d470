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

import json
import re
from pathlib import Path
from typing import Any

from limnet.data.dataset import LabelledCase, Problem, split_patients
from limnet.data.module import CaseDataModule
from limnet.datasets.datalist import label_names, modality_of, read_datalist
from limnet.datasets.files import image_stem, image_suffix
from limnet.datasets.paired import Pair, PairedDataset, fit_name, shortened
from limnet.errors import FileFormatError, InputError, MissingFileError

_CHANNEL = re.compile(r"^(?P<name>.+)_(?P<channel>\d{4})$")


class NnUNetDataset(PairedDataset):
    """One data set of nnUNet_raw.

    Args:
        root: the folder DatasetXXX_Name.
        fraction: share of cases held out where there is no splits_final.json.
        seed: of that split.
        channel: which channel to work on.
        fold: which fold of splits_final.json holds the validation cases.

    Raises:
        MissingFileError: no dataset.json, folders or splits_final.json of other files, or not one case with both files.
        FileFormatError: dataset.json or splits_final.json is not in nnU-Net's form.
        InputError: no such channel or fold.
    """

    title = "nnU-Net raw data set"
    licence = "its owner's"
    access = "your own files in nnU-Net's format"
    layout = "dataset.json\nimagesTr/NAME_0000.nii.gz\nlabelsTr/NAME.nii.gz"
    splits = ("train", "val", "test")

    def __init__(self, root: Path | str, fraction: float = 0.2, seed: int = 0, channel: int = 0, fold: int = 0) -> None:
        self.channel, self.fold = channel, fold
        super().__init__(root, fraction, seed)

    def find(self) -> None:
        """Read dataset.json and pair the files."""
        path = self.root / "dataset.json"
        if not path.is_file():
            raise self.missing(f"there is no dataset.json in {self.root}")
        self.content = read_datalist(path)
        self._labels, self._ignored = label_names(self.content, path)
        listed = self.content.get("dataset")
        training = self._listed(listed, path) if isinstance(listed, dict) and listed else self._in_folders("Tr", True)
        testing = self._in_folders("Ts", False)
        repeated = {p.patient for p in training} & {p.patient for p in testing}
        if repeated:
            raise FileFormatError(f"{shortened(sorted(repeated))} is in labelsTr and in labelsTs; remove one")
        folds = self._folds([p.patient for p in training])
        known = {p.patient for p in (*training, *testing)}
        lost = [self._pair_in("Tr", name, {}, None) for name in folds if name not in known]
        self.keep_complete([*training, *lost, *testing], self.root)
        self._training = len(training)
        self._places = {**folds, **dict.fromkeys((p.patient for p in testing), "test")}

    def split_of(self, case: LabelledCase) -> str | None:
        """Fold of splits_final.json or a stable hash for Tr; Ts is "test"."""
        return self._places.get(case.patient)

    def check(self) -> list[Problem]:
        """The general checks, and the number of cases against dataset.json."""
        problems = super().check() + self.in_no_list("splits_final.json")
        wanted, there = self.content.get("numTraining"), self._training
        if isinstance(wanted, int) and wanted != there:
            problems.append(
                Problem(
                    "", f"dataset.json says numTraining {wanted}, there are {there}", "complete it or mend the number"
                )
            )
        return problems

    def _in_folders(self, end: str, required: bool) -> list[Pair]:
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
        return [self._pair_in(end, name, channels.get(name, {}), masks.get(name)) for name in names]

    def _pair_in(self, end: str, name: str, channels: dict[int, Path], mask: Path | None) -> Pair:
        """Files of a case in the folders; for those that are missing the path where they should be."""
        image = channels.get(self.channel)
        other = next((path for path in (mask, image, *channels.values()) if path is not None), None)
        ending = image_suffix(other) if other is not None else str(self.content.get("file_ending") or ".nii.gz")
        return self._pair(
            name,
            image or self.root / f"images{end}" / f"{name}_{self.channel:04d}{ending}",
            mask or self.root / f"labels{end}" / f"{name}{ending}",
        )

    def _listed(self, listed: dict[str, Any], path: Path) -> list[Pair]:
        found = []
        for name, entry in listed.items():
            if not isinstance(entry, dict) or not entry.get("images") or not entry.get("label"):
                raise FileFormatError(f"{path}: entry {name!r} of 'dataset' lacks 'images' or 'label'; mend the file")
            channels = {i: self.root / file for i, file in enumerate(entry["images"])}
            found.append(self._pair(name, self._chosen(name, channels), self.root / entry["label"]))
        return found

    def _chosen(self, name: str, channels: dict[int, Path]) -> Path:
        if self.channel not in channels:
            raise InputError(f"{name} has no channel {self.channel}; there are {', '.join(map(str, sorted(channels)))}")
        return channels[self.channel]

    def _pair(self, name: str, image: Path, label: Path) -> Pair:
        modality = modality_of(self.content, self.channel)
        return Pair(fit_name(name), name, image, label, modality, labels=self._labels, ignored=self._ignored)

    def _folds(self, names: list[str]) -> dict[str, str]:
        path = self.root / "splits_final.json"
        if not path.is_file():
            return split_patients(names, ("train", "val"), self.fraction, self.seed)
        try:
            folds = json.loads(path.read_text(encoding="utf-8"))
            chosen = {str(n): split for split in ("train", "val") for n in folds[self.fold][split]}
        except IndexError as error:
            raise InputError(f"{path} has {len(folds)} fold(s), number {self.fold} is not among them") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileFormatError(
                f'{path} is not in nnU-Net\'s form, [{{"train": [...], "val": [...]}}, ...]: {error!r}'
            ) from error
        if chosen and not set(chosen) & set(names):
            raise MissingFileError(f"{path} lists {shortened(chosen)}, and none of them is there; copy the right list")
        return chosen


class NnUNetDataModule(CaseDataModule):
    """Training clips and whole cases of a data set in nnU-Net's raw format."""

    dataset_class = NnUNetDataset
