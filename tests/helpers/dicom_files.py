"""Synthetic DICOM files, written by pydicom as scanners write them, and programs that judge some, where installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "US cine": "1.2.840.10008.5.1.4.1.1.3.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "NM": "1.2.840.10008.5.1.4.1.1.20",
    "RTDOSE": "1.2.840.10008.5.1.4.1.1.481.2",
    "enhanced CT": "1.2.840.10008.5.1.4.1.1.2.1",
    "enhanced MR": "1.2.840.10008.5.1.4.1.1.4.1",
}


def stored(seed: int = 0, shape: tuple[int, ...] = (7, 12, 10)) -> np.ndarray:
    """Random stored values of 11 bits."""
    return np.random.default_rng(seed).integers(0, 2000, shape).astype(np.uint16)


def picture(pixels: np.ndarray, kind: str = "CT", *, uid: str | None = None, **elements: Any) -> FileDataset:
    """A DICOM object with stored values (H, W), (N, H, W), or colours (..., H, W, 3); `elements` override."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CLASSES[kind]
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientID, data.PatientName, data.StudyInstanceUID = "1", "Doe^Jane", "1.2.3"
    data.SeriesInstanceUID = uid or generate_uid()
    data.FrameOfReferenceUID = "1.2.3.4"
    data.Modality = kind.removeprefix("enhanced ").removesuffix(" cine")
    data.SeriesNumber, data.SeriesDescription = 1, "abdomen"
    color = pixels.ndim > 2 and pixels.shape[-1] == 3
    data.Rows, data.Columns = pixels.shape[:-1][-2:] if color else pixels.shape[-2:]
    if pixels.ndim > (3 if color else 2):
        data.NumberOfFrames = len(pixels)
    data.SamplesPerPixel = 3 if color else 1
    data.PhotometricInterpretation = "RGB" if color else "MONOCHROME2"
    if color:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes()
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    return data


def place(data: Dataset, affine: np.ndarray, z: float) -> None:
    """Put a classic slice at index z of an LPS affine."""
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / steps
    data.ImagePositionPatient = [f"{v:.8g}" for v in affine[:3, 3] + z * affine[:3, 2]]
    data.ImageOrientationPatient = [f"{v:.8f}" for v in (*axes[:, 0], *axes[:, 1])]
    data.PixelSpacing = [f"{steps[1]:.6g}", f"{steps[0]:.6g}"]
    data.SliceThickness = f"{steps[2]:.6g}"


def write_slices(
    folder: Path,
    array: np.ndarray,
    affine: np.ndarray | None = None,
    *,
    kind: str = "CT",
    uid: str | None = None,
    at: Sequence[float] | None = None,
    start: int = 1,
    prefix: str = "s",
    change: Callable[[FileDataset, int], None] | None = None,
    **elements: Any,
) -> str:
    """A series of one file for each slice of (D, H, W) stored values, named by instance number; returns its UID.

    `affine` is an LPS grid, `at` are places along its third axis in steps (0, 1, 2, ... by default), `start` is the
    first instance number; `change` is called with every dataset and its number before it is written.
    """
    folder.mkdir(exist_ok=True)
    uid = uid or generate_uid()
    for z, pixels in enumerate(array):
        data = picture(pixels, kind, uid=uid, InstanceNumber=start + z, **elements)
        place(data, np.eye(4) if affine is None else affine, z if at is None else at[z])
        if change is not None:
            change(data, z)
        data.save_as(folder / f"{prefix}{data.InstanceNumber:03d}.dcm", enforce_file_format=True)
    return uid


def item(**elements: Any) -> Dataset:
    """A sequence item."""
    data = Dataset()
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    return data


def enhanced(
    array: np.ndarray,
    positions: Sequence[Sequence[float]],
    orientations: Sequence[Sequence[float]] | None = None,
    *,
    kind: str = "enhanced MR",
    spacing: tuple[float, float] = (0.9, 0.7),
    thickness: float = 2.5,
    scales: Sequence[tuple[float, float]] | None = None,
    content: Callable[[int], dict[str, Any]] | None = None,
    **elements: Any,
) -> FileDataset:
    """An enhanced multi-frame object of (N, H, W) stored values; the first voxel of frame i is at positions[i] in mm.

    `orientations` are axial by default, `scales` slope and intercept of each frame, `content(i)` more elements of the
    frame content of frame i.
    """
    data = picture(array, kind, **elements)
    data.InstanceNumber = 1
    measures = item(PixelSpacing=list(spacing), SliceThickness=thickness)
    data.SharedFunctionalGroupsSequence = [item(PixelMeasuresSequence=[measures])]
    frames = []
    for i, position in enumerate(positions):
        cosines = [1, 0, 0, 0, 1, 0] if orientations is None else list(orientations[i])
        frame = item(
            PlanePositionSequence=[item(ImagePositionPatient=list(position))],
            PlaneOrientationSequence=[item(ImageOrientationPatient=cosines)],
            FrameContentSequence=[item(**(content(i) if content else {}))],
        )
        if scales is not None:
            slope, intercept = scales[i]
            frame.PixelValueTransformationSequence = [item(RescaleSlope=slope, RescaleIntercept=intercept)]
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = frames
    return data


def save(data: FileDataset, path: Path) -> Path:
    """Write a dataset to a file."""
    data.save_as(path, enforce_file_format=True)
    return path


def dciodvfy(path: Path) -> list[str]:
    """Errors that David Clunie's validator (Debian: dicom3tools) finds in a DICOM file."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (apt-get install dicom3tools)")
    done = subprocess.run([program, str(path)], capture_output=True, encoding="utf-8", errors="replace", check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def dcmqi(path: Path, folder: Path) -> float:
    """Convert a DICOM SEG to NIfTI files in `folder` as 3D Slicer does; returns the volume marked in mm3."""
    program = shutil.which("segimage2itkimage") or str(Path(sys.executable).with_name("segimage2itkimage"))
    if not Path(program).exists():
        pytest.skip("dcmqi is not installed (pip install dcmqi)")
    folder.mkdir()
    words = [program, "--inputDICOM", str(path), "--outputDirectory", str(folder), "--outputType", "nii"]
    subprocess.run(words, capture_output=True, check=True)
    images = [nibabel.load(file) for file in folder.glob("*.nii.gz")]
    return sum(np.count_nonzero(image.dataobj) * float(np.prod(image.header.get_zooms())) for image in images)
