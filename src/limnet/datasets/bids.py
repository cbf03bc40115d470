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
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar, NamedTuple

from limnet.data.dataset import LabelledCase, LabelledDataset, Problem
from limnet.data.module import CaseDataModule
from limnet.datasets.bids_names import BidsName
from limnet.datasets.nifti_pairs import NiftiPair, check_pair, compare_grids, read_image, read_labels
from limnet.datasets.walk import files_below
from limnet.errors import LimnetError
from limnet.image.io.nifti import read_nifti_grid

_MASKS = ("dseg", "mask", "msk")


class _Found(NamedTuple):
    """A mask file and the images that may belong to it."""

    mask: Path
    name: BidsName
    pipeline: str
    images: list[Path]


class BidsDataset(LabelledDataset):
    """Masks of BIDS derivatives with their images. Case names are those of the mask files, after the pipeline's.

    Args:
        root: folder with sub-*/ or rawdata/sub-*/, and derivatives/.
        fraction: share of subjects held out.
        seed: of that split.
        pipeline: folder in derivatives/ to read; all by default.
        suffix: which image a mask belongs to where several fit, such as "T1w".

    Raises:
        MissingFileError: no derivatives, or no masks in them.
    """

    title = "BIDS derivatives"
    licence = "its owner's: see dataset_description.json"
    access = "your own data, or https://openneuro.org; VerSe: https://osf.io/nqjyw"
    layout = (
        "sub-01/anat/sub-01_T1w.nii.gz (or below rawdata/)\n"
        "derivatives/<pipeline>/sub-01/anat/sub-01_label-lesion_mask.nii.gz, or ..._dseg.nii.gz with a .tsv"
    )
    splits = ("train", "val")
    windows: ClassVar[dict[str, tuple[float, float]]] = {"ct": (-160.0, 240.0)}

    def __init__(
        self,
        root: Path | str,
        fraction: float = 0.2,
        seed: int = 0,
        pipeline: str | None = None,
        suffix: str | None = None,
    ) -> None:
        self.pipeline, self.suffix = pipeline, suffix
        super().__init__(root, fraction, seed)

    def find(self) -> None:
        """Look for derivatives with masks, and list the images."""
        self.derivatives = self.root / "derivatives"
        if not self.derivatives.is_dir():
            raise self.missing(f"there is no derivatives folder in {self.root}")
        if self.pipeline is not None and not (self.derivatives / self.pipeline).is_dir():
            there = ", ".join(p.name for p in sorted(self.derivatives.iterdir()) if p.is_dir())
            raise self.missing(f"there is no pipeline {self.pipeline!r} in {self.derivatives}, only {there}")
        self.found = list(self._masks())
        if not self.found:
            raise self.missing(f"there is no dseg, mask or msk file below {self.derivatives}")

    def all_cases(self) -> list[LabelledCase]:
        """Masks that belong to exactly one image."""
        cases, tables = [], _Tables(self.derivatives)
        several = len({found.pipeline for found in self.found}) > 1
        for found in self.found:
            if len(found.images) == 1:
                name = _stem(found.mask)
                image, modality = found.images[0], _modality(found.images[0])
                cases.append(
                    LabelledCase(
                        name=f"{found.pipeline}.{name}" if several and found.pipeline else name,
                        patient=found.name.get("sub"),
                        modality=modality,
                        labels=tables.labels(found.mask, found.name),
                        read_image=partial(read_image, image, modality, "acquired"),
                        read_labels=partial(read_labels, found.mask, image, "acquired"),
                        window=self.windows.get(modality),
                    )
                )
        return cases

    def check(self) -> list[Problem]:
        """Masks without an image or with several; names of labels; then every file, slab by slab."""
        problems, tables = [], _Tables(self.derivatives)
        for path in files_below(self.root):
            if path.match("sub-*.nii*") and path.is_symlink() and not path.exists():
                what = "a link to a file that is not here; it is left out"
                problems.append(Problem(_stem(path), what, "fetch its content, for example with datalad get"))
        for found in self.found:
            name = _stem(found.mask)
            labels = tables.labels(found.mask, found.name)
            if not found.images:
                what = "no image has the entities of this mask"
                problems.append(Problem(name, what, 'add the image, or name it in the mask\'s .json under "Sources"'))
            elif len(found.images) > 1:
                what = f"several images fit: {', '.join(p.name for p in found.images[:5])}"
                problems.append(Problem(name, what, 'choose with suffix=, or name one in its .json under "Sources"'))
            else:
                image = found.images[0]
                pair = NiftiPair(name, found.name.get("sub"), _modality(image), image, found.mask)
                problems += check_pair(pair, labels)
            if found.name.suffix == "dseg" and not labels:
                what = "its labels have no names: there is no dseg.tsv with columns index and name"
                problems.append(Problem(name, what, f"add {_stem(found.mask)}.tsv beside it, or dseg.tsv above"))
        return problems

    def _masks(self) -> Iterator[_Found]:
        raw_folder = self.root / "rawdata" if (self.root / "rawdata").is_dir() else self.root
        raw = _index(path for subject in sorted(raw_folder.glob("sub-*")) for path in _files(subject))
        pipelines: dict[str, list[Path]] = {}
        for path in _files(self.derivatives / self.pipeline if self.pipeline else self.derivatives):
            first = path.relative_to(self.derivatives).parts[0]
            pipelines.setdefault("" if first.startswith("sub-") else first, []).append(path)
        for pipeline, files in pipelines.items():
            derived = _index(files)
            for path in files:
                name = BidsName.parse(path)
                if name is not None and name.suffix in _MASKS:
                    yield _Found(path, name, pipeline, self._images(path, name, raw, derived))

    def _images(
        self,
        mask: Path,
        name: BidsName,
        raw: dict[frozenset[tuple[str, str]], list[Path]],
        derived: dict[frozenset[tuple[str, str]], list[Path]],
    ) -> list[Path]:
        fitting = raw.get(name.source) or derived.get(name.source) or []
        if name.source in raw and name.source in derived:  # preprocessed images may lie on a grid of their own
            candidates = (raw[name.source], derived[name.source])
            fitting = next(filter(None, ([p for p in c if _on_grid_of(p, mask)] for c in candidates)), fitting)
        if named := _sources(mask):
            everywhere = [p for index in (raw, derived) for paths in index.values() for p in paths]
            fitting = [p for p in everywhere if p.name in named] or fitting
        if len(fitting) > 1 and self.suffix is not None:
            fitting = [p for p in fitting if (BidsName.parse(p) or name).suffix == self.suffix]
        return fitting


class _Tables:
    """Names of labels from .tsv files, each read once."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.read: dict[Path, dict[int, str]] = {}
        self.lists: dict[Path, list[Path]] = {}

    def labels(self, mask: Path, name: BidsName) -> dict[int, str]:
        """Ids and names of a mask: 1 for a binary one, else from the nearest table whose entities it has."""
        if name.suffix == "mask":
            return {1: name.get("label") or name.get("desc") or "mask"}
        folder = mask.parent
        while True:
            fitting = [p for p in self._tables(folder) if _fits(p, name)]
            if fitting:
                best = max(fitting, key=lambda p: len(p.name))
                return self.read.setdefault(best, _read_table(best))
            if folder in (self.top, folder.parent):
                return {}
            folder = folder.parent

    def _tables(self, folder: Path) -> list[Path]:
        if folder not in self.lists:
            self.lists[folder] = sorted(p for p in folder.glob("*.tsv") if not p.name.startswith("."))
        return self.lists[folder]


def _fits(table: Path, name: BidsName) -> bool:
    *entities, suffix = table.name.removesuffix(".tsv").split("_")
    own = {f"{key}-{value}" for key, value in name.entities}
    return suffix == name.suffix and set(entities) <= own


def _read_table(path: Path) -> dict[int, str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t")
            return {int(float(row["index"])): row["name"] for row in rows if float(row["index"]) > 0}
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return {}


def _files(folder: Path) -> list[Path]:
    """NIfTI files of a folder and its folders, sorted."""
    named = (p for p in files_below(folder) if p.name.startswith("sub-") and p.name.endswith((".nii", ".nii.gz")))
    return [path for path in named if path.is_file()]


def _on_grid_of(image: Path, mask: Path) -> bool:
    """Whether image and mask agree in shape and place, by their headers."""
    try:
        return not compare_grids(read_nifti_grid(image), read_nifti_grid(mask))
    except LimnetError:
        return False


def _index(paths: Iterator[Path] | list[Path]) -> dict[frozenset[tuple[str, str]], list[Path]]:
    """Entities -> images that have them."""
    index: dict[frozenset[tuple[str, str]], list[Path]] = {}
    for path in paths:
        name = BidsName.parse(path)
        if name is not None and name.modality:
            index.setdefault(name.source, []).append(path)
    return index


def _sources(mask: Path) -> set[str]:
    """File names in the Sources of a mask's .json; empty if there are none."""
    try:
        content = json.loads((mask.parent / f"{_stem(mask)}.json").read_text(encoding="utf-8"))
        given = [content.get(key) or [] for key in ("Sources", "RawSources")]
    except (OSError, ValueError, AttributeError):
        return set()
    texts = [text for entry in given for text in (entry if isinstance(entry, list) else [entry])]
    return {PurePosixPath(text).name for text in texts if isinstance(text, str)}


def _modality(image: Path) -> str:
    name = BidsName.parse(image)
    return name.modality if name else "other"


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


class BidsDataModule(CaseDataModule):
    """Training clips and whole cases of BIDS derivatives."""

    dataset_class = BidsDataset
