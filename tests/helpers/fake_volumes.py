"""Tiny data sets of volumes in their owners' layouts, each with the oddities of the real one.

AMOS22: sparse ids, orientations that vary, CT padding. BIDS: two pipelines, lesion masks and label maps with a table of
names, gz and plain files; VerSe's form of it. BTCV: another name for labels than for images, test images, an absent
organ. CVPR 2025: instance ids, boxes as pickled objects, labels in other files. KiTS19: slices on the first stored
axis, masks of two dtypes, images without labels from 210 on. MSD: sparse numbers, a misspelt key, test entries as plain
texts. TotalSegmentator v2: 117 files a subject, most all zero. The open volumes with their manifest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from limnet.datasets.totalsegmentator import STRUCTURES
from tests.helpers.fake_nifti import blocks, ct, oriented_affine, write_nifti, write_side_file

AMOS22_NAMES = "spleen,right kidney,left kidney,gall bladder,esophagus,liver,stomach,arota,postcava,pancreas,"
AMOS22_NAMES += "right adrenal gland,left adrenal gland,duodenum,bladder,prostate/uterus"
# list -> number -> (axis codes, index shape, steps, labels, dtype); the axis that runs head to feet has 6 slices
AMOS22 = {
    "training": {
        1: ("LAS", (17, 14, 6), (1.0, 1.0, 5.0), tuple(range(1, 16)), np.uint8),
        4: ("RAS", (12, 14, 6), (1.0, 1.0, 5.0), (1, 2, 6), np.float64),  # labels stored as floats
        7: ("PIR", (14, 6, 12), (1.0, 5.0, 1.0), (3, 6), np.uint16),  # sagittal array order
        507: ("LPS", (16, 14, 6), (1.5, 1.5, 5.0), (1, 6), np.uint8),  # MR
        555: ("PSR", (16, 14, 6), (1.5, 1.5, 6.0), (1, 6), np.uint8),  # MR acquired in sagittal slices
    },
    "validation": {
        8: ("LAS", (12, 14, 6), (1.0, 1.0, 5.0), (6,), np.uint8),
        600: ("LPS", (16, 14, 6), (1.5, 1.5, 5.0), (6,), np.uint8),
    },
    "test": {9: ("LAS", (12, 14, 6), (1.0, 1.0, 5.0), (), np.uint8)},
}


def build_amos22(root: Path) -> Path:
    """Write `root`/amos22 and return it."""
    base = root / "amos22"
    names = {str(i): name for i, name in enumerate(["background", *AMOS22_NAMES.split(",")])}
    content: dict = {"name": "AMOS", "labels": names}
    for (key, cases), end in zip(AMOS22.items(), ("Tr", "Va", "Ts"), strict=True):
        content[key] = []
        for number, (codes, shape, steps, ids, dtype) in cases.items():
            name = f"amos_{number:04d}.nii.gz"
            image = ct(shape, number).astype(np.float32)
            image[0] = -3024  # padding
            affine = oriented_affine(codes, steps)
            affine[:3, 3] = (-7.5, 3.0, 40.0 + number)
            entry = {"image": f"./images{end}/{name}"}
            write_side_file(write_nifti(base / f"images{end}" / name, image, affine))
            if ids:
                entry["label"] = f"./labels{end}/{name}"
                affine = affine + 1e-5 * (np.arange(16).reshape(4, 4) < 12)  # rounding, as between writers
                write_nifti(base / f"labels{end}" / name, blocks(shape, ids, dtype), affine)
            content[key].append(entry)
    (base / "dataset.json").write_text(json.dumps(content))
    write_side_file(root / "__MACOSX" / "amos22" / "imagesTr" / "amos_0001.nii.gz")
    return base


SUBJECTS = ("01", "02", "03", "04", "05", "06")


def build_bids(root: Path) -> Path:
    """Write the data set into `root`: 6 subjects, sub-02 with two sessions, sub-03 also with FLAIR; returns `root`."""
    _describe(root, {"Name": "fake", "BIDSVersion": "1.8.0", "DatasetType": "raw"})
    for number, subject in enumerate(SUBJECTS):
        for session in ("a", "b") if subject == "02" else ("",):
            ses = f"_ses-{session}" if session else ""
            place = f"sub-{subject}/ses-{session}/anat" if session else f"sub-{subject}/anat"
            stem = f"sub-{subject}{ses}"
            shape = (10, 12, 5)
            affine = oriented_affine("PSR" if subject == "04" else "LPS", (1.0, 1.0, 4.0))  # one in sagittal slices
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
        _describe(root / "derivatives" / pipeline, {"Name": pipeline, "DatasetType": "derivative"})
    table = "index\tname\n0\tbackground\n2\tleft white matter\n41\tright white matter\n"
    (root / "derivatives" / "synth" / "desc-aseg_dseg.tsv").write_text(table)
    return root


def build_verse(root: Path) -> Path:
    """VerSe's form: rawdata/ and derivatives/ without a pipeline, CT with ids of vertebrae; returns `root`."""
    affine, shape = oriented_affine("PIR", (0.9, 0.9, 3.0)), (12, 14, 6)
    for number in (4, 500):
        stem = f"sub-verse{number:03d}"
        write_nifti(root / "rawdata" / stem / f"{stem}_ct.nii.gz", ct(shape, number), affine)
        write_nifti(root / "derivatives" / stem / f"{stem}_seg-vert_msk.nii.gz", blocks(shape, (20, 21)), affine)
    return root


def _describe(folder: Path, content: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_description.json").write_text(json.dumps(content))


def build_btcv(root: Path, decathlon_like: bool = False) -> Path:
    """Write `root`/RawData, or imagesTr and labelsTr in `root`; returns `root`."""
    images, labels = ("imagesTr", "labelsTr") if decathlon_like else ("RawData/Training/img", "RawData/Training/label")
    for number in (*range(1, 11), *range(21, 41)):
        shape = (30, 10, 4 + number % 3)
        affine = oriented_affine("LAS" if number % 2 else "RAS", (0.8, 0.8, 3.0))
        ids = tuple(i for i in range(1, 14) if not (number == 3 and i == 2))  # no right kidney
        write_nifti(root / images / f"img{number:04d}.nii.gz", ct(shape, number), affine)
        dtype = np.float32 if number == 5 else np.uint8
        write_nifti(root / labels / f"label{number:04d}.nii.gz", blocks(shape, ids, dtype), affine)
    write_side_file(root / images / "img0001.nii.gz")
    if not decathlon_like:
        write_nifti(root / "RawData/Testing/img/img0061.nii.gz", ct((10, 10, 4)))
        write_side_file(root / "RawData/Training/label/label0001.nii.gz")
    return root


CVPR25_TRAINING = {
    "CT/CT_AbdomenAtlas/CT_AbdomenAtlas_0001.npz": 3,
    "MRI/MR_BraTS-T1c/MR_BraTS-T1c_bench 7.npz": 1,
    "Microscopy/Microscopy_NucMM/Microscopy_NucMM_2.npz": 2,
}
WITHOUT_BOXES = "PET_Lesion_5.npz"
CVPR25_VALIDATION = {"CT_AMOS_amos_0018.npz": 2, "US_Cardiac_patient0003.npz": 1, WITHOUT_BOXES: 1}


def cvpr25_arrays(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image uint8, labels 1..number, spacing."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (5, 12, 14)).astype(np.uint8)
    labels = np.zeros(image.shape, np.uint16)
    for i in range(number):
        labels[1:4, 2:10, 2 + 4 * i : 5 + 4 * i] = i + 1
    return image, labels, np.array([3.0, 0.7, 0.9])


def boxes_of(labels: np.ndarray) -> list[dict[str, int]]:
    """One box for each id, as the challenge writes them."""
    boxes = []
    for i in range(1, int(labels.max()) + 1):
        z, y, x = np.nonzero(labels == i)
        middle = int(np.median(np.unique(z)))
        here = z == middle
        sides = {"x_min": x[here].min(), "y_min": y[here].min(), "x_max": x[here].max(), "y_max": y[here].max()}
        box = {"z_min": int(z.min()), "z_max": int(z.max()), "z_mid": middle}
        boxes.append(box | {f"z_mid_{key}": int(value) for key, value in sides.items()})
    return boxes


def build_cvpr25(root: Path) -> Path:
    """Write `root`/3D_train_npz_all, 3D_val_npz and 3D_val_gt; returns `root`."""

    def save(path: Path, **content: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **content)
        return path

    for seed, (name, number) in enumerate(CVPR25_TRAINING.items()):
        image, labels, spacing = cvpr25_arrays(number, seed)
        write_side_file(save(root / "3D_train_npz_all" / name, imgs=image, gts=labels, spacing=spacing))
    for seed, (name, number) in enumerate(CVPR25_VALIDATION.items()):
        image, labels, spacing = cvpr25_arrays(number, 10 + seed)
        boxes = {} if name == WITHOUT_BOXES else {"boxes": np.array(boxes_of(labels), dtype=object)}
        save(root / "3D_val_npz" / name, imgs=image, spacing=spacing, **boxes)
        save(root / "3D_val_gt/3D_val_gt_interactive" / name, gts=labels)
    return root


def build_kits19(root: Path, cases: Sequence[int] = (0, 1, 2, 7, 160, 208, 210)) -> Path:
    """Write `root`/data; returns `root`. Slice z of every volume is z hundred, so that the slice axis can be seen."""
    for number in cases:
        depth, rows, columns = (5, 12, 18) if number == 160 else (6 + number % 3, 12, 12)
        affine = oriented_affine("IPL", (5.0, 0.8, 0.8))
        folder = root / "data" / f"case_{number:05d}"
        image = ct((depth, rows, columns), number).astype(np.float32) % 50 + 100 * np.arange(depth)[:, None, None]
        write_side_file(write_nifti(folder / "imaging.nii.gz", image.astype(np.float32), affine))
        if number < 210:
            labels = np.zeros((depth, rows, columns), np.uint16 if number % 2 else np.uint8)
            labels[1:4, 2:9, 3:9] = 1
            labels[2:4, 4:7, 4:7] = 2
            write_nifti(folder / "segmentation.nii.gz", labels, affine)
    entries = [{"case_id": f"case_{n:05d}", "voxel_spacing": {"x": 0.8, "y": 0.8, "z": 5.0}} for n in cases]
    (root / "data" / "kits.json").write_text(json.dumps(entries))
    return root


TASKS = {
    "Task06_Lung": ({"0": "background", "1": "cancer"}, (1, 3, 4, 5, 6, 9, 10, 14, 15)),
    "Task07_Pancreas": ({"0": "background", "1": "pancreas", "2": "cancer"}, tuple(range(1, 21))),
    "Task10_Colon": ({"0": "background", "1": "colon cancer primaries"}, (1, 5, 11, 22, 26, 212, 218)),
}


def build_msd(root: Path, task: str, numbers: Sequence[int] | None = None) -> Path:
    """Write `root`/`task` of the decathlon and return it."""
    names, usual = TASKS[task]
    prefix = task.split("_")[1].lower()
    base, training = root / task, []
    for number in usual if numbers is None else numbers:
        name = f"{prefix}_{number:03d}.nii.gz"
        shape = (14, 12, 5 + number % 3)
        affine = oriented_affine("RAS" if number % 2 else "LAS", (0.8, 0.8, 5.0))
        labels = np.zeros(shape, np.float32 if number % 5 == 0 else np.uint8)
        labels[3:8, 3:8, 2:4] = 1
        if "2" in names:
            labels[4:6, 4:6, 2] = 2
        write_side_file(write_nifti(base / "imagesTr" / name, ct(shape, number), affine))
        write_side_file(write_nifti(base / "labelsTr" / name, labels, affine))
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    write_nifti(base / "imagesTs" / f"{prefix}_002.nii.gz", ct((14, 12, 5)))
    content = {
        "name": prefix,
        "licence": "CC-BY-SA 4.0",
        "relase": "1.0",  # misspelt in some tasks
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": names,
        "numTraining": len(training),
        "numTest": 1,
        "training": training,
        "test": [f"./imagesTs/{prefix}_002.nii.gz"],
    }
    (base / "dataset.json").write_text(json.dumps(content))
    return base


SPLITS = {"s0000": "train", "s0011": "train", "s0058": "val", "s1429": "test"}
PRESENT = {"liver": 3, "spleen": 1, "vertebrae_L3": 5, "costal_cartilages": 7}  # structure -> first row of its bar


def build_totalsegmentator(root: Path, structures: Sequence[str] = STRUCTURES) -> Path:
    """Write the subjects straight into `root`; returns it."""
    for number, subject in enumerate(SPLITS):
        shape = (12, 10, 6 + number)
        affine = oriented_affine("RAS" if number else "LPS", (1.5, 1.5, 1.5))
        write_side_file(write_nifti(root / subject / "ct.nii.gz", ct(shape, number), affine))
        empty = write_nifti(root / subject / "segmentations" / "spleen.nii.gz", np.zeros(shape, np.uint8), affine)
        absent = empty.read_bytes()
        for name in structures:
            path = empty.with_name(f"{name}.nii.gz")
            if name in PRESENT:
                mask = np.zeros(shape, np.uint8)
                mask[2:10, PRESENT[name] : PRESENT[name] + 2, 1:5] = 1
                write_nifti(path, mask, affine)
            else:
                path.write_bytes(absent)
    lines = ["image_id;age;gender;institute;study_type;split;manufacturer"]
    lines += [f"{subject};67;m;A;ct abdomen;{split};x" for subject, split in SPLITS.items()]
    (root / "meta.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


OPEN_FILES = (  # file, shape, spacing, modality
    ("train/ts_ct_abdomen_1.npz", (10, 32, 32), (1.5, 1.5, 1.5), "CT"),
    ("train/ts_ct_abdomen_2.npz", (10, 32, 32), (5.0, 1.0, 1.0), "CT"),
    ("train/deep/openms_1.npz", (9, 32, 32), (1.0, 1.0, 1.0), "MR FLAIR"),
    ("train/dcmqi_1.npz", (1, 32, 32), (1.0, 1.0, 1.0), "CT"),
    ("train/synthseg_1.npz", (9, 32, 32), (1.0, 1.0, 1.0), "none"),  # labels alone
    ("train/unknown_thing.npz", (9, 32, 32), (1.0, 1.0, 1.0), "CT"),
    ("val/ts_ct_abdomen_9.npz", (10, 32, 32), (1.5, 1.5, 1.5), "CT"),
)


def build_open(root: Path) -> Path:
    """The open volumes in small, with manifest.json, as limnet trains on them."""
    rng = np.random.default_rng(0)
    entries = []
    for file, shape, spacing, modality in OPEN_FILES:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        label = np.zeros(shape, np.uint8)
        label[:, 2:14, 3:15] = 1
        label[:, 20:24, 20:26] = 4
        label[0, 0, 0] = 9
        arrays = {"label": label, "spacing": np.asarray(spacing, np.float32)}
        if modality != "none":
            arrays["image"] = rng.integers(-500, 500, shape).astype(np.int16)
        np.savez_compressed(root / file, **arrays)
        kind = "volume" if "image" in arrays else "labelmap"
        entries.append({"file": file, "kind": kind, "modality": modality, "shape": shape})
    (root / "manifest.json").write_text(json.dumps({"format": "npz", "volumes": entries}))
    return root
