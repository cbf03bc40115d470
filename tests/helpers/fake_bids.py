"""A tiny BIDS data set with two pipelines: lesion masks, and label maps with a table of names; gz and plain files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.helpers.fake_nifti import blocks, ct, oriented_affine, write_nifti, write_side_file

SUBJECTS = ("01", "02", "03", "04", "05", "06")


def build(root: Path) -> Path:
    """Write the data set into `root`: 6 subjects, sub-02 with two sessions, sub-03 also with FLAIR; returns `root`."""
    describe(root, {"Name": "fake", "BIDSVersion": "1.8.0", "DatasetType": "raw"})
    for number, subject in enumerate(SUBJECTS):
        for session in ("a", "b") if subject == "02" else ("",):
            ses = f"_ses-{session}" if session else ""
            place = f"sub-{subject}/ses-{session}/anat" if session else f"sub-{subject}/anat"
            stem = f"sub-{subject}{ses}"
            shape, affine = (10, 12, 5), oriented_affine("LPS", (1.0, 1.0, 4.0))
            if subject == "04":  # sagittal slices
                affine = oriented_affine("PSR", (1.0, 1.0, 4.0))
            end = "nii" if subject == "05" else "nii.gz"
            write_side_file(write_nifti(root / place / f"{stem}_T1w.{end}", ct(shape, number), affine))
            lesion = root / "derivatives" / "manual" / place / f"{stem}_label-lesion_mask.nii.gz"
            write_nifti(lesion, blocks(shape, (1,), np.float32 if subject == "01" else np.uint8), affine)
            tissue = root / "derivatives" / "synth" / place / f"{stem}_desc-aseg_dseg.nii.gz"
            write_nifti(tissue, blocks(shape, (2, 41)), affine)
            write_nifti(tissue.with_name(f"{stem}_label-GM_probseg.nii.gz"), ct(shape), affine)
            if subject == "03":
                write_nifti(root / place / f"{stem}_FLAIR.nii.gz", ct(shape, 99), affine)
                for mask in (lesion, tissue):
                    sources = json.dumps({"Sources": [f"bids::{place}/{stem}_FLAIR.nii.gz"]})
                    mask.with_name(mask.name.replace(".nii.gz", ".json")).write_text(sources)
    for pipeline in ("manual", "synth"):
        describe(root / "derivatives" / pipeline, {"Name": pipeline, "DatasetType": "derivative"})
    table = "index\tname\n0\tbackground\n2\tleft white matter\n41\tright white matter\n"
    (root / "derivatives" / "synth" / "desc-aseg_dseg.tsv").write_text(table)
    return root


def build_verse(root: Path) -> Path:
    """VerSe's form: rawdata/ and derivatives/ without a pipeline, CT with ids of vertebrae; returns `root`."""
    for number in (4, 500):
        stem = f"sub-verse{number:03d}"
        affine = oriented_affine("PIR", (0.9, 0.9, 3.0))
        shape = (12, 14, 6)
        write_nifti(root / "rawdata" / stem / f"{stem}_ct.nii.gz", ct(shape, number), affine)
        write_nifti(root / "derivatives" / stem / f"{stem}_seg-vert_msk.nii.gz", blocks(shape, (20, 21)), affine)
    return root


def describe(folder: Path, content: dict[str, str]) -> None:
    """Write dataset_description.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_description.json").write_text(json.dumps(content))
