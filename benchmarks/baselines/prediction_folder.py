"""Baseline: finished predictions in a folder, of nnU-Net or any other automatic method. Clicks are ignored."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.core.rounds import Voxel, config_hash
from limnet.datasets.decathlon import label_names, read_datalist
from limnet.errors import InputError, MissingFileError
from limnet.image.io.masks import read_labels
from limnet.image.volume import Volume

_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
_PLACED = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")  # formats that say where voxels lie
_NAME = "predictions"


@dataclass(frozen=True)
class PredictionFolder:
    """A folder of predictions, found by the name of the case.

    Looked for in this order, with the suffixes .nii.gz, .nii, .nrrd and .mha: `CASE/OBJECT` and `CASE_OBJECT` (anything
    but 0 is the object), then `CASE` (a label map, or a mask). The label of an object in a label map is `label`, else
    that of its name in `dataset.json` (as nnU-Net leaves it beside its predictions); with one label neither is needed.

    A prediction is turned to the axes of the image by its affine, and must then lie on the image's grid. Images without
    an affine (pictures, films, NumPy files) are compared by shape alone.

    Attributes:
        folder: the folder.
        label: label of the object, 0 to look it up.
        component: keep only the connected component at (or next to) the first click, for objects that are one of many.
        title: name in tables.
    """

    folder: str = ""
    label: int = 0
    component: bool = False
    title: str = "predictions"

    @property
    def name(self) -> str:
        """Name in tables."""
        return self.title

    def describe(self) -> dict[str, Any]:
        """Configuration with a hash of names, sizes and times of the files: other predictions are another method."""
        return {"class": type(self).__name__, **asdict(self), "files": _files(self.folder)}

    def check(self) -> None:
        """Raise MissingFileError where there is no folder."""
        if not self.folder or not Path(self.folder).expanduser().is_dir():
            raise MissingFileError(
                f"the baseline {_NAME!r} needs a folder of predictions, got {self.folder!r}; give {_NAME}:folder=FOLDER"
            )

    def start(self, volume: Volume, axis: int, case: str = "", object: str = "") -> PredictionSession:
        """Begin the object of a case; see `benchmarks.core.rounds.Predictor`.

        Raises:
            MissingFileError: no folder, or no prediction of this case.
            FileFormatError: a prediction that is no label map.
            InputError: a prediction on another grid, or which label is the object cannot be told.
        """
        self.check()
        path, own = self._find(case, object)
        labels = _read(path, volume)
        mask = labels > 0 if own else labels == self._label(labels, object, path)
        return PredictionSession(mask, self.component, volume.spacing)

    def _find(self, case: str, object: str) -> tuple[Path, bool]:
        folder = Path(self.folder).expanduser()
        stems = [(case, False)]
        if object:
            stems = [(f"{case}/{object}", True), (f"{case}_{object}", True), *stems]
        for stem, own in stems:
            for suffix in _SUFFIXES:
                path = folder / f"{stem}{suffix}"
                if path.is_file():
                    return path, own
        wanted = " or ".join(f"{stem}.nii.gz" for stem, _ in stems)
        raise MissingFileError(f"{folder} has no prediction of case {case!r}; expected {wanted} (or .nii, .nrrd, .mha)")

    def _label(self, labels: NDArray[Any], object: str, path: Path) -> int:
        if self.label:
            return self.label
        names = _names(Path(self.folder).expanduser())
        for name in (object, re.sub(r"( \d+| \(id \d+\))$", "", object)):  # "lesion 3" is a lesion
            if name in names:
                return names[name]
        present = np.unique(labels[labels > 0]).astype(int)
        if len(present) > 1:
            known = ", ".join(names) or "none (no dataset.json there)"
            raise InputError(
                f"{path} holds the labels {present.tolist()}, and which of them is {object!r} is not known; known are: "
                f"{known}. Give {_NAME}:label=NUMBER, or put dataset.json with the labels into the folder"
            )
        return int(present[0]) if len(present) else 1


class PredictionSession:
    """A finished mask."""

    def __init__(self, mask: NDArray[np.bool_], component: bool, spacing: tuple[float, float, float]) -> None:
        self.mask, self.component, self.spacing = mask, component, spacing

    def click(self, zyx: Voxel, positive: bool) -> NDArray[np.bool_]:
        """The mask, whatever was clicked; the first click chooses a component where that is wanted."""
        if self.component and self.mask.any():
            labels, _ = ndimage.label(self.mask, np.ones((3, 3, 3)))
            nearest = ndimage.distance_transform_edt(
                ~self.mask, sampling=self.spacing, return_distances=False, return_indices=True
            )
            self.mask = labels == labels[tuple(nearest[:, zyx[0], zyx[1], zyx[2]])]
            self.component = False
        return self.mask

    def box(self, lo: Voxel, hi: Voxel) -> NDArray[np.bool_]:
        """The mask, whatever the box."""
        z, y, x = ((a + b) // 2 for a, b in zip(lo, hi, strict=True))
        return self.click((z, y, x), True)


def _files(name: str) -> str | None:
    """Hash of names, sizes and times of the predictions in a folder; None without one."""
    folder = Path(name).expanduser()
    if not name or not folder.is_dir():
        return None
    found = [p for p in folder.rglob("*") if p.name.endswith((*_SUFFIXES, ".json")) and p.is_file()]
    facts = ((p.relative_to(folder).as_posix(), p.stat().st_size, p.stat().st_mtime_ns) for p in found)
    return config_hash({"files": sorted(facts)})


def _read(path: Path, volume: Volume) -> NDArray[Any]:
    """Labels of a prediction on the image's grid; where the image does not say where it lies, in the file's order."""
    if not _is_placed(volume):
        found = Volume.read(path)
        volume = replace(volume, affine=found.affine, convention=found.convention)
    return read_labels(path, volume)


def _is_placed(volume: Volume) -> bool:
    """Whether the affine says where the volume lies; that of bare arrays, pictures and NumPy files does not."""
    if volume.source is not None and volume.source.name.lower().endswith(_PLACED):
        return True
    bare = np.diag([*volume.spacing[::-1], 1.0])
    return volume.convention != "LPS" or not np.allclose(volume.affine, bare)


def _names(folder: Path) -> dict[str, int]:
    """Label ids by name in a `dataset.json`; regions, which are several labels, are left out."""
    path = folder / "dataset.json"
    if not path.is_file():
        return {}
    names, _ = label_names(read_datalist(path), path)
    found = [(name, number) for number, several in names.items() for name in several.split(" / ")]
    times = Counter(name for name, _ in found)
    return {name: number for name, number in found if times[name] == 1}
