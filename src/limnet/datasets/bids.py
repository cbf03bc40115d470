"""BIDS: masks and label maps in the derivatives of a data set in the Brain Imaging Data Structure.

Layout (images may lie in the root or in rawdata/, the session and data type folders may be absent)::

    dataset_description.json
    sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz
    derivatives/<pipeline>/sub-01/ses-a/anat/sub-01_ses-a_label-lesion_mask.nii.gz      0 and 1
    derivatives/<pipeline>/sub-01/ses-a/anat/sub-01_ses-a_desc-aseg_dseg.nii.gz         ids
    derivatives/<pipeline>/desc-aseg_dseg.tsv                                           columns index, name

Also rawdata/sub-X/.../sub-X_ct.nii.gz with derivatives/sub-X/.../sub-X_seg-vert_msk.nii.gz (VerSe). Masks have the
suffix dseg, mask or msk; probseg is no label map and is skipped.

A mask says in its name which entities its image has, not which suffix. Its image is the one its .json names under
"Sources" or "RawSources"; else the only one with the same entities apart from what a derivative adds (desc, label, res,
den, atlas, seg), in the raw data or in the same pipeline (where `space` has to agree), and of those on the mask's own
grid if there are any, raw ones first; else, of several, the one with `suffix`. A mask that fits several images is left
out, and `check` says so. Each mask is a case of its own, a subject a patient. There are no published splits: subjects
are divided by a hash.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import ClassVar

from limnet.data.dataset import CaseFiles, Problem, compare_grids
from limnet.data.files import NIFTI, files_below
from limnet.data.module import data_module
from limnet.data.nifti import NiftiDataset
from limnet.errors import LimnetError
from limnet.image.io.nifti import read_nifti_grid

_MASKS = ("dseg", "mask", "msk")
# Entities that a derivative adds to the name of what it was made from.
DERIVED = frozenset(("desc", "label", "res", "den", "atlas", "seg"))
_MR = (
    *("t1w", "t2w", "t2star", "t2starw", "flair", "pd", "pdw", "pdt2", "inplanet1", "inplanet2", "t1map", "t2map"),
    *("r1map", "m0map", "swi", "adc", "angio", "bold", "sbref", "dwi", "mp2rage", "unit1", "mese", "megre", "dixon"),
    *("vibe", "t1rho", "mtw", "trace"),
)
_MODALITIES = {"ct": "ct", "us": "us", **dict.fromkeys(_MR, "mr")}


@dataclass(frozen=True)
class BidsName:
    """A parsed file name, sub-01_ses-a_label-lesion_mask.nii.gz: entities in the order of the name, suffix "mask"."""

    path: Path
    entities: Mapping[str, str]
    suffix: str

    @classmethod
    def parse(cls, path: Path) -> BidsName | None:
        """Parts of a .nii or .nii.gz file, or None if its name is not of this form."""
        match = re.fullmatch(r"(.+)\.nii(?:\.gz)?", path.name)
        *pairs, suffix = match[1].split("_") if match else [""]
        found = [re.fullmatch(r"([A-Za-z]+)-([A-Za-z0-9.+]+(?:-[A-Za-z0-9.+]+)*)", pair) for pair in pairs]
        entities = {m[1]: m[2] for m in found if m is not None}
        if not suffix.isalnum() or not pairs or len(entities) < len(pairs) or next(iter(entities)) != "sub":
            return None
        return cls(path, entities, suffix)

    @property
    def stem(self) -> str:
        """The file's name without .nii.gz."""
        return self.path.name.removesuffix(".gz").removesuffix(".nii")

    @property
    def source(self) -> frozenset[tuple[str, str]]:
        """Entities without what a derivative adds; space "orig" is no space."""
        return frozenset(e for e in self.entities.items() if e[0] not in DERIVED and e != ("space", "orig"))

    @property
    def modality(self) -> str:
        """ "ct", "mr", "us", or "" for a suffix that is no image."""
        return _MODALITIES.get(self.suffix.lower(), "")


BySource = dict[frozenset[tuple[str, str]], list[BidsName]]


def _by_source(names: Iterable[BidsName]) -> BySource:
    """Images by the entities of their names."""
    found: BySource = {}
    for name in names:
        found.setdefault(name.source, []).append(name)
    return found


@dataclass(eq=False, repr=False)
class BidsDataset(NiftiDataset):
    """Masks of BIDS derivatives with their images. Case names are those of the mask files, after the pipeline's.

    `pipeline` is a folder in derivatives/, all by default; `suffix` the image of a mask where several fit, such as
    "T1w".
    """

    title = "BIDS derivatives"
    licence = "its owner's: see dataset_description.json"
    access = "your own data, or https://openneuro.org; VerSe: https://osf.io/nqjyw"
    windows: ClassVar = {"ct": (-160.0, 240.0)}
    plane = "acquired"
    pipeline: str | None = None
    suffix: str | None = None

    def list_files(self) -> Iterable[CaseFiles]:
        """Masks that belong to exactly one image; `found` has all of them, with the images that may belong to each."""
        self.derivatives = self.root / "derivatives"
        if not self.derivatives.is_dir():
            raise self.missing(f"there is no derivatives folder in {self.root}")
        if self.pipeline is not None and not (self.derivatives / self.pipeline).is_dir():
            there = ", ".join(p.name for p in sorted(self.derivatives.iterdir()) if p.is_dir())
            raise self.missing(f"there is no pipeline {self.pipeline!r} in {self.derivatives}, only {there}")
        raw_folder = self.root / "rawdata" if (self.root / "rawdata").is_dir() else self.root
        subjects = sorted(raw_folder.glob("sub-*"))
        raw = _by_source(name for subject in subjects for name in _names(subject) if name.modality)
        pipelines: dict[str, list[BidsName]] = {}
        for name in _names(self.derivatives / (self.pipeline or "")):
            first = name.path.relative_to(self.derivatives).parts[0]
            pipelines.setdefault("" if first.startswith("sub-") else first, []).append(name)
        self.found: list[tuple[str, BidsName, list[BidsName]]] = []
        for pipeline, names in pipelines.items():
            indexes = [raw, _by_source(name for name in names if name.modality)]
            masks = [name for name in names if name.suffix in _MASKS]
            self.found += [(pipeline, mask, self._images(mask, indexes)) for mask in masks]
        if not self.found:
            raise self.missing(f"there is no dseg, mask or msk file below {self.derivatives}")
        tables, read = cache(_tables), cache(_read_table)  # each folder and table is read once
        self.names = {mask.path: _label_names(mask, self.derivatives, tables, read) for _, mask, _ in self.found}
        several = len({pipeline for pipeline, _, _ in self.found}) > 1
        for pipeline, mask, images in self.found:
            if len(images) == 1:
                case = f"{pipeline}.{mask.stem}" if several and pipeline else mask.stem
                image, labels = images[0], self.names[mask.path]
                modality = image.modality or "other"
                yield CaseFiles(case, mask.entities["sub"], image.path, (mask.path,), modality, labels=labels)

    def check_files(self) -> list[Problem]:
        """Links to nowhere, masks without an image or with several, and labels without names."""
        problems = []
        for path in files_below(self.root):
            if path.match("sub-*.nii*") and path.is_symlink() and not path.exists():
                what = "a link to a file that is not here; it is left out"
                name = path.name.removesuffix(".gz").removesuffix(".nii")
                problems.append(Problem(name, what, "fetch its content, for example with datalad get"))
        for _, mask, images in self.found:
            if not images:
                what = "no image has the entities of this mask"
                advice = 'add the image, or name it in the mask\'s .json under "Sources"'
                problems.append(Problem(mask.stem, what, advice))
            elif len(images) > 1:
                what = f"several images fit: {', '.join(image.path.name for image in images[:5])}"
                advice = 'choose with suffix=, or name one in its .json under "Sources"'
                problems.append(Problem(mask.stem, what, advice))
            if mask.suffix == "dseg" and not self.names[mask.path]:
                what = "its labels have no names: there is no dseg.tsv with columns index and name"
                problems.append(Problem(mask.stem, what, f"add {mask.stem}.tsv beside it, or dseg.tsv above"))
        return problems

    def _images(self, mask: BidsName, indexes: list[BySource]) -> list[BidsName]:
        """Images that a mask may belong to, out of the raw ones and those of its pipeline."""
        alike = [index.get(mask.source, []) for index in indexes]
        fitting = alike[0] or alike[1]
        if all(alike):  # preprocessed images may lie on a grid of their own
            own = ([image for image in images if _on_grid_of(image, mask)] for images in alike)
            fitting = next(filter(None, own), fitting)
        if named := _sources(mask):
            every = (image for index in indexes for images in index.values() for image in images)
            fitting = [image for image in every if image.path.name in named] or fitting
        if len(fitting) > 1 and self.suffix is not None:
            fitting = [image for image in fitting if image.suffix == self.suffix]
        return fitting


def _label_names(
    mask: BidsName, top: Path, tables: Callable[[Path], list[Path]], read: Callable[[Path], dict[int, str]]
) -> dict[int, str]:
    """Ids and names of a mask: 1 for a binary one, else from the nearest table whose entities it has, below `top`."""
    if mask.suffix == "mask":
        return {1: mask.entities.get("label") or mask.entities.get("desc") or "mask"}
    own = {f"{key}-{value}" for key, value in mask.entities.items()}
    for folder in mask.path.parents:
        named = {table: table.name.removesuffix(".tsv").split("_") for table in tables(folder)}
        fitting = [table for table, (*parts, suffix) in named.items() if suffix == mask.suffix and {*parts} <= own]
        if fitting:
            return read(max(fitting, key=lambda table: len(table.name)))
        if folder == top:
            break
    return {}


def _tables(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.tsv") if not p.name.startswith("."))


def _read_table(path: Path) -> dict[int, str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t")
            return {int(float(row["index"])): row["name"] for row in rows if float(row["index"]) > 0}
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return {}


def _names(folder: Path) -> Iterator[BidsName]:
    """NIfTI files of a folder and its folders that have a BIDS name, sorted."""
    for path in files_below(folder):
        if path.name.endswith(NIFTI) and path.is_file() and (name := BidsName.parse(path)) is not None:
            yield name


def _on_grid_of(image: BidsName, mask: BidsName) -> bool:
    """Whether image and mask agree in shape and place, by their headers."""
    try:
        return not compare_grids(read_nifti_grid(image.path), read_nifti_grid(mask.path))
    except LimnetError:
        return False


def _sources(mask: BidsName) -> set[str]:
    """File names in the Sources of a mask's .json; empty if there are none."""
    try:
        content = json.loads((mask.path.parent / f"{mask.stem}.json").read_text(encoding="utf-8"))
        given = [content.get(key) or [] for key in ("Sources", "RawSources")]
    except (OSError, ValueError, AttributeError):
        return set()
    texts = [text for entry in given for text in (entry if isinstance(entry, list) else [entry])]
    return {PurePosixPath(text).name for text in texts if isinstance(text, str)}


BidsDataModule = data_module(BidsDataset)
