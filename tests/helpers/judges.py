"""Programs that judge DICOM files, where they are installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest


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
