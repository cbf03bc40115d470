"""The open volumes: small labelled CT, MR and microscopy volumes listed in a manifest.json.

Layout: `<root>/manifest.json` with one entry per file; `<root>/<train|val>/**.npz` with keys image, label, spacing in
(z, y, x) order, millimetres. `kind` tells volumes, crops, single slices and label maps without an image apart.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from limnet.datasets.base import CaseDataModule, LabelledDataset, Problem
from limnet.datasets.clips import Source
from limnet.datasets.files import read_image_file, read_label_file
from limnet.datasets.labelled import LabelledCase
from limnet.datasets.paired import require_files
from limnet.errors import FileFormatError, MissingFileError
from limnet.simulation.volumes import paint
from limnet.volume import Volume

# How often a group of files is drawn; within a group every file has an equal share.
GROUP_WEIGHTS = {
    "ts_ct_abdomen": 14.0,
    "ts_ct_thorax": 5.0,
    "ts_mr_abdomen": 6.0,
    "ch2": 5.0,
    "inia19": 4.0,
    "openms": 8.0,
    "lidc": 9.0,
    "sct_": 2.0,
    "spinegeneric": 2.0,
    "dcmqi": 0.7,
    "synthseg": 12.0,
    "headneck": 6.0,
    "stroke": 3.0,
    "fib25": 2.0,
    "stardist": 1.5,
    "axon": 0.7,
}

# Nearer to what users segment: organs, lesions and bones on real images, few atlas regions without visible borders.
MEDICAL_WEIGHTS = {
    "ts_ct_abdomen": 26.0,
    "ts_ct_thorax": 9.0,
    "ts_mr_abdomen": 10.0,
    "ch2": 2.0,
    "inia19": 1.0,
    "openms": 9.0,
    "lidc": 12.0,
    "sct_": 3.0,
    "spinegeneric": 3.0,
    "dcmqi": 2.0,
    "synthseg": 8.0,
    "headneck": 5.0,
    "stroke": 1.0,
    "fib25": 1.0,
    "stardist": 1.0,
}
# Between the two: for long trainings that start from a trained network.
EVEN_WEIGHTS = {
    "ts_ct_abdomen": 18.0,
    "ts_ct_thorax": 8.0,
    "ts_mr_abdomen": 7.0,
    "ch2": 3.0,
    "inia19": 2.0,
    "openms": 9.0,
    "lidc": 10.0,
    "sct_": 2.0,
    "spinegeneric": 2.0,
    "dcmqi": 1.0,
    "synthseg": 14.0,
    "headneck": 6.0,
    "stroke": 2.0,
    "fib25": 2.0,
    "stardist": 3.0,
    "axon": 0.7,
}
VALIDATION_WEIGHTS = {
    "ts_ct_dicom": 4.0,
    "mni152": 1.0,
    "vxm_brain": 4.0,
    "openms": 3.0,
    "lidc": 3.0,
    "plantseg": 1.0,
    "axon": 0.3,
}
MIXES = {"broad": GROUP_WEIGHTS, "medical": MEDICAL_WEIGHTS, "even": EVEN_WEIGHTS}


# Files of one person, by name: what the notes of the manifest say.
_PATIENTS = (
    (re.compile(r"lidc_(\d+)_"), r"lidc_\1"),
    (re.compile(r"openms_(p\d+)_"), r"openms_\1"),
    (re.compile(r"(sct_cord|spinegeneric)_"), "cord"),
    (re.compile(r"axon_sem_(rat\d+)_"), r"axon_\1"),
)
_MODALITIES = {"ct": "ct", "mr": "mr", "em": "microscopy", "fluorescence": "microscopy", "confocal": "microscopy"}


class OpenDataset(LabelledDataset):
    """The open volumes as labelled cases; the owner's split into train and val.

    Args:
        root: folder with manifest.json.
        groups: name fragments; only files with one of them. None takes all.
        painted: also label maps without an image, in one random appearance each.

    Raises:
        MissingFileError: no manifest.json, or files it lists are missing.
    """

    title = "open volumes"
    licence = "permissive, per file in manifest.json"
    access = "gathered from public packages and repositories by the script beside the manifest"
    layout = "manifest.json\ntrain/NAME.npz    (keys image, label, spacing)\nval/NAME.npz"
    splits = ("train", "val")

    def __init__(self, root: Path | str, groups: tuple[str, ...] | None = None, painted: bool = False) -> None:
        self.groups, self.painted = groups, painted
        super().__init__(root)

    def find(self) -> None:
        """Read the manifest."""
        if not (self.root / "manifest.json").is_file():
            raise self.missing(f"there is no manifest.json in {self.root}")
        self.entries = [
            entry
            for entry in read_manifest(self.root)
            if (self.groups is None or any(group in entry["file"] for group in self.groups))
            and (self.painted or not str(entry.get("kind", "")).startswith("label"))
        ]
        require_files((self.root / entry["file"] for entry in self.entries), self.root / "manifest.json")
        self._places = {_name(entry): entry["file"].split("/")[0] for entry in self.entries}

    def all_cases(self) -> list[LabelledCase]:
        """A case per entry, in the order of the manifest."""
        return [self._case(entry) for entry in self.entries]

    def split_of(self, case: LabelledCase) -> str | None:
        """By the folder the file lies in."""
        return self._places.get(case.name)

    def check(self) -> list[Problem]:
        """The general checks, and the hash of every file where the manifest has one."""
        problems = super().check()
        for entry in self.entries:
            wanted = entry.get("sha256")
            if wanted and hashlib.sha256((self.root / entry["file"]).read_bytes()).hexdigest() != wanted:
                problems.append(Problem(_name(entry), "is not the file the manifest describes", "fetch it again"))
        return problems

    def _case(self, entry: dict[str, Any]) -> LabelledCase:
        path, name = self.root / entry["file"], _name(entry)
        words = str(entry.get("modality", "")).lower().split()
        modality = _MODALITIES.get(words[0] if words else "", "other")
        bare = str(entry.get("kind", "")).startswith("label")
        return LabelledCase(
            name=name,
            patient=next((found.expand(to) for p, to in _PATIENTS if (found := p.match(name))), name),
            modality=modality,
            labels={int(i): str(label) for i, label in (entry.get("labels") or {}).items() if int(i)},
            read_image=partial(read_painted, path) if bare else partial(read_image_file, path, None, modality.upper()),
            read_labels=partial(read_label_file, path),
        )


class OpenDataModule(CaseDataModule):
    """Training clips and whole cases of the open volumes, their groups mixed by `GROUP_WEIGHTS`."""

    dataset_class = OpenDataset

    @classmethod
    def mix_of(cls, root: Path) -> list[tuple[LabelledDataset, float]]:
        """A data set per group with its weight."""
        return open_mix(root)


def open_mix(
    root: Path, weights: Mapping[str, float] | None = None, painted: bool = True
) -> list[tuple[LabelledDataset, float]]:
    """The groups of the open volumes as weighted data sets for a `CaseDataModule`.

    Args:
        root: folder with manifest.json.
        weights: name fragment -> weight; `GROUP_WEIGHTS` by default. Groups that only validate are added.
        painted: also label maps without an image.

    Returns:
        One data set per group that has files.
    """
    found = {**VALIDATION_WEIGHTS, **(GROUP_WEIGHTS if weights is None else weights)}
    groups = [(OpenDataset(root, (name,), painted), weight) for name, weight in found.items()]
    return [(group, weight) for group, weight in groups if group.entries]


def read_painted(path: Path) -> Volume:
    """A label map without an image, in a random look that depends on the file's name."""
    with np.load(path) as data:
        spacing = [float(s) for s in data["spacing"]]
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    return Volume.from_array(paint(rng, read_label_file(path)), spacing)


def _name(entry: dict[str, Any]) -> str:
    return str(entry.get("name") or Path(entry["file"]).stem)


def read_manifest(root: Path) -> list[dict[str, Any]]:
    """Entries of `<root>/manifest.json`.

    Raises:
        MissingFileError: there is no manifest at `root`.
        FileFormatError: it is damaged, or something else.
    """
    path = Path(root) / "manifest.json"
    if not path.is_file():
        raise MissingFileError(
            f"no manifest.json in {root}; point to the folder that holds it together with train/ and val/"
        )
    try:
        volumes = json.loads(path.read_text(encoding="utf-8"))["volumes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f'{path} could not be read, or has no list "volumes": {error!r}') from error
    named = isinstance(volumes, list) and [v for v in volumes if isinstance(v, dict) and isinstance(v.get("file"), str)]
    if not named or len(named) < len(volumes):
        raise FileFormatError(f'{path}: "volumes" should be a list of objects, each with "file"; copy it again')
    return volumes


def load_sources(root: Path, split: str = "train", groups: dict[str, float] | None = None) -> list[Source]:
    """Read every volume of a split into memory (about 1 GB for train).

    Args:
        root: folder with manifest.json.
        split: "train" or "val".
        groups: name fragment -> weight of that group; files of no group are left out.

    Returns:
        Sources with ids of at least 40 voxels.
    """
    weights = GROUP_WEIGHTS if groups is None else groups
    entries = [e for e in read_manifest(root) if e["file"].startswith(split + "/")]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in weights}
    for entry in entries:
        for name in weights:
            if name in entry["file"]:
                found[name].append(entry)
                break
    sources = []
    for name, group in found.items():
        for entry in group:
            with np.load(Path(root) / entry["file"]) as data:
                labels = data["label"]
                image = data["image"] if "image" in data.files else None
                spacing = tuple(float(s) for s in data["spacing"])
            flat = labels.shape[0] < 8 or spacing[0] > 2.2 * max(spacing[1:])
            source = Source(
                labels=labels,
                spacing=spacing,  # type: ignore[arg-type]
                image=image,
                modality="ct"
                if str(entry.get("modality", "")).upper().startswith("CT") and image is not None
                else "other",
                weight=weights[name] / len(group),
                axes=(0,) if flat else (0, 0, 1, 2),
                name=entry["file"],
            ).with_ids()
            if source.ids:
                sources.append(source)
    return sources
