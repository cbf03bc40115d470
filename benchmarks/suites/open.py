"""The open volumes: small labelled CT, MR and microscopy volumes listed in a manifest.json.

Objects of at least 300 voxels, lesions and nodules one by one, slices along axis 0. Images are handed over without
their modality: methods see what a plain array would tell them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.core.objects import ObjectChoice
from benchmarks.core.rounds import RobotRounds
from benchmarks.core.suite import Suite, SuiteOptions
from limnet.data.dataset import LabelledCase
from limnet.data.files import read_image, read_labels
from limnet.datasets.open import read_manifest
from limnet.errors import InputError

GROUPS = {
    "organs and bones, CT": ("ts_ct", "dcmqi"),
    "organs, MR": ("ts_mr", "spinegeneric", "sct_"),
    "nodules, CT": ("lidc",),
    "lesions, brain MR": ("openms",),
    "structures, brain MR": ("vxm", "mni152", "ch2", "inia19"),
    "microscopy": ("micro/",),
}
SINGLE = "2d/"  # in the name of files of one slice


def build(root: Path, options: SuiteOptions) -> Suite:
    """The validation volumes, or those of another split, without single slices."""
    split = options.split or "val"
    if split not in ("train", "val"):
        raise InputError(f"the open volumes have the splits train and val; got {split!r}")
    cases: list[LabelledCase] = []
    groups: list[str] = []
    for entry in read_manifest(root):
        file = entry["file"]
        if file.startswith(split + "/") and SINGLE not in file and entry["kind"] != "labels-only":
            cases.append(_case(root, file, entry))
            groups.append(group_of(file, entry.get("set")))
    return Suite(
        name="open",
        title=f"Open volumes, {split}",
        cases=options.few_of_groups(cases, groups),
        rounds=options.played(RobotRounds()),
        choice=options.chosen(ObjectChoice()),
        group=partial(_group, dict(zip((case.name for case in cases), groups, strict=True))),
    )


def group_of(file: str, collection: str | None = None) -> str:
    """Group of a file of the manifest; the set it comes from, where the manifest names one."""
    return collection or next(
        (group for group, parts in GROUPS.items() if any(part in file for part in parts)), "other"
    )


def _group(groups: dict[str, str], case: str, label: str) -> str:
    return groups[case]


def _case(root: Path, file: str, entry: dict[str, Any]) -> LabelledCase:
    name = Path(file).stem
    kind = str(entry.get("modality", "")).upper()
    return LabelledCase(
        name=name,
        patient=name,
        modality="ct" if kind.startswith("CT") else "mr" if kind.startswith("MR") else "other",
        labels={int(i): n for i, n in (entry.get("labels") or {}).items()},
        read_image=partial(read_image, root / file),
        read_labels=partial(read_labels, root / file),
    )
