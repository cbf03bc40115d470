"""Tiny data sets in the layouts that users bring: a folder of images and masks, nnU-Net raw, decathlon."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import LabelledCase
from limnet.image.volume import Volume
from tests.helpers.fake_nifti import oriented_affine, write_nifti, write_side_file

SHAPE = (40, 36, 12)  # x, y, z as nibabel has it
STEPS = (1.0, 1.5, 2.5)


def body(seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """HU and labels in x, y, z order: a large ellipsoid (1) and a small one (2) that lie elsewhere for every seed."""
    rng = np.random.default_rng(seed)
    grid = np.moveaxis(np.indices(shape).astype(float), 0, -1)
    labels = np.zeros(shape, np.uint8)
    for number, share in ((1, 0.3), (2, 0.16)):
        centre = np.array(shape) * rng.uniform(0.4, 0.6, 3) + (0 if number == 1 else np.array([shape[0] * 0.25, 0, 0]))
        radius = np.array(shape) * share + np.array([0, 0, 2.5])
        labels[(((grid - centre) / radius) ** 2).sum(-1) < 1] = number
    image = rng.normal(-700, 20, shape) + 750 * (labels == 1) + 900 * (labels == 2)
    return np.rint(image).astype(np.int16), labels


def change(path: Path, **entries: Any) -> None:
    """Other entries in a JSON file, the dataset.json of a folder."""
    path = path / "dataset.json" if path.is_dir() else path
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def write_folder(root: Path, count: int = 4, masks: str = "masks", ending: str = "") -> Path:
    """ROOT/images/caseN.nii.gz with ROOT/masks/caseN.nii.gz, and side files of macOS."""
    for number in range(count):
        image, labels = body(number)
        affine = oriented_affine("LPS", STEPS)
        write_side_file(write_nifti(root / "images" / f"case{number}.nii.gz", image, affine))
        write_nifti(root / masks / f"case{number}{ending}.nii.gz", labels, affine)
    return root


def write_pictures(root: Path, count: int = 6, colour: bool = True) -> Path:
    """ROOT/image/p#_slice#.png with ROOT/label/p#_slice#.png, three slices a patient, masks 0 and 255."""
    from PIL import Image

    for folder in ("image", "label"):
        (root / folder).mkdir(parents=True)
    for number in range(count):
        image, labels = body(number // 3)
        plane, mask = image[:, :, 5 + number % 3], labels[:, :, 5 + number % 3]
        grey = np.clip((plane + 800) / 5, 0, 255).astype(np.uint8)
        name = f"p{number // 3}_slice{number % 3:02d}.png"
        Image.fromarray(np.stack([grey] * 3, -1) if colour else grey).save(root / "image" / name)
        Image.fromarray(((mask > 0) * 255).astype(np.uint8)).save(root / "label" / name)
    return root


def write_nnunet(root: Path, count: int = 4, version: int = 2, channels: int = 2) -> Path:
    """DatasetXXX_Name in nnU-Net's raw format; channel 1 is the negative of channel 0."""
    for number in range(count):
        image, labels = body(number)
        for channel in range(channels):
            path = root / "imagesTr" / f"abd_{number:03d}_{channel:04d}.nii.gz"
            write_side_file(write_nifti(path, image if channel == 0 else -image, oriented_affine("RAS", STEPS)))
        write_side_file(
            write_nifti(root / "labelsTr" / f"abd_{number:03d}.nii.gz", labels, oriented_affine("RAS", STEPS))
        )
    names = {str(i): ("CT", "T2")[i % 2] for i in range(channels)}
    content: dict[str, Any] = {"numTraining": count}
    if version == 2:
        content |= {
            "channel_names": names,
            "labels": {"background": 0, "liver": 1, "whole": [1, 2], "ignore": 3},
            "file_ending": ".nii.gz",
        }
    else:
        content |= {"modality": names, "labels": {"0": "background", "1": "liver", "2": "tumour"}, "name": "abd"}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def write_decathlon(root: Path, count: int = 4, channels: int = 0) -> Path:
    """TaskNN_Name of the decathlon, 4-D if there are channels (channel c is the image plus 1000 c)."""
    training = []
    for number in range(count):
        image, labels = body(number)
        if channels:
            image = np.stack([image + 1000 * c for c in range(channels)], -1)
        name = f"colon_{number + 5:03d}.nii.gz"
        write_side_file(write_nifti(root / "imagesTr" / name, image, oriented_affine("RAS", STEPS)))
        write_side_file(write_nifti(root / "labelsTr" / name, labels, oriented_affine("RAS", STEPS)))
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    content = {
        "name": "Colon",
        "relase": "1.0",
        "tensorImageSize": "4D" if channels else "3D",
        "modality": {"0": "FLAIR", "1": "T1w"} if channels else {"0": "CT"},
        "labels": {"0": "background", "1": "colon", "2": "cancer"},
        "numTraining": count,
        "training": training,
        "test": ["./imagesTs/colon_001.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def saved_case(folder: Path, name: str, image: NDArray[Any], voxels: NDArray[Any], **facts: Any) -> LabelledCase:
    """Write two .npy files and return the case that is read from them."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}_image.npy", image)
    np.save(folder / f"{name}_labels.npy", voxels)
    return array_case(folder, name, **facts)


def array_case(folder: Path, name: str, **facts: Any) -> LabelledCase:
    """A case whose two .npy files are there already, spacing (2.5, 1.5, 1.0) mm."""
    return LabelledCase(
        name=name,
        read_image=partial(load_image, folder / f"{name}_image.npy"),
        read_labels=partial(np.load, folder / f"{name}_labels.npy"),
        **{"patient": name, "modality": "other", "labels": {}, **facts},
    )


def load_image(path: Path) -> Volume:
    return Volume.from_array(np.load(path), spacing=(2.5, 1.5, 1.0))
