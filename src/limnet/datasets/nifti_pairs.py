"""Data sets of NIfTI pairs, one image and one label file a case: reading in a common orientation, and their check."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import LabelledCase, LabelledDataset, Problem, doubled
from limnet.datasets.orientation import Plane, display_axes, grids_apart, reorient
from limnet.datasets.paired import warn_left_out
from limnet.errors import FileFormatError, LimnetError
from limnet.image.io.nifti import NiftiGrid, nifti_slabs, read_nifti_grid
from limnet.image.volume import Volume

_AGAIN = "copy or download it again"
_APART = 0.1  # image and labels may lie this share of a voxel apart: rounding in headers


@dataclass(frozen=True)
class NiftiPair:
    """Files of one case: name and patient as in `LabelledCase`, modality "ct" or "mr"."""

    name: str
    patient: str
    modality: str
    image: Path
    label: Path


class NiftiPairs(LabelledDataset):
    """A data set of NIfTI pairs with one list of labels.

    A subclass sets the attributes below and lists its files in `pairs`.
    """

    labels: ClassVar[Mapping[int, str]]
    windows: ClassVar[Mapping[str, tuple[float, float]]] = {}  # modality -> customary window
    includes: ClassVar[Mapping[int, tuple[int, ...]]] = {}  # see `LabelledCase`
    plane: ClassVar[Plane] = "axial"
    _told = False

    @abstractmethod
    def pairs(self) -> list[NiftiPair]:
        """Files of every labelled case, in a fixed order; also those of which one file is missing."""

    @abstractmethod
    def check_files(self) -> list[Problem]:
        """What is missing or too many, by names alone."""

    def all_cases(self) -> list[LabelledCase]:
        """Every case of which both files are there; warns once if there are others."""
        pairs = self.pairs()
        whole = [pair for pair in pairs if pair.image.is_file() and pair.label.is_file()]
        if len(whole) < len(pairs) and not self._told:
            self._told = True
            warn_left_out([pair.name for pair in pairs if pair not in whole], len(pairs), self.root)
        return [self.case_of(pair) for pair in whole]

    def case_of(self, pair: NiftiPair) -> LabelledCase:
        """The case of two files."""
        return LabelledCase(
            name=pair.name,
            patient=pair.patient,
            modality=pair.modality,
            labels=self.labels,
            read_image=partial(read_image, pair.image, pair.modality, self.plane),
            read_labels=partial(read_labels, pair.label, pair.image, self.plane),
            window=self.windows.get(pair.modality),
            includes=self.includes,
        )

    def check(self) -> list[Problem]:
        """Names, then every file slab by slab: grids, dtypes, label numbers, damage."""
        self._told = True  # the problems say it
        pairs = self.pairs()
        problems = self.check_files()
        if not pairs:
            problems.append(Problem("", f"no labelled case in {self.root}", f"expected layout:\n{self.layout}"))
        problems += doubled(pair.name for pair in pairs)
        for pair in pairs:
            if not pair.image.is_file():
                advice = "add the image, or take the labels away"
                problems.append(Problem(pair.name, f"labels without an image: no {self.short(pair.image)}", advice))
            elif not pair.label.is_file():
                advice = "add the labels, or take the image away"
                problems.append(Problem(pair.name, f"an image without labels: no {self.short(pair.label)}", advice))
            else:
                problems += check_pair(pair, self.labels)
        return problems

    def short(self, path: Path) -> str:
        """A path as seen from the root."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def nifti_files(folder: Path) -> dict[str, Path]:
    """Stem -> .nii.gz or .nii file of a folder, sorted; hidden and macOS side files left out; empty if no folder."""
    found: dict[str, Path] = {}
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            suffix = next((s for s in (".nii", ".nii.gz") if path.name.endswith(s)), None)
            if suffix and not path.name.startswith("."):
                found[path.name.removesuffix(suffix)] = path
    return found


def either(folder: Path, stem: str) -> Path:
    """`stem`.nii if only that is there, else `stem`.nii.gz, whether there or not."""
    packed, plain = folder / f"{stem}.nii.gz", folder / f"{stem}.nii"
    return plain if plain.is_file() and not packed.is_file() else packed


def read_image(path: Path, modality: str, plane: Plane = "axial", index: int | None = None) -> Volume:
    """Read an image with its slices along axis 0.

    Args:
        path: .nii or .nii.gz.
        modality: "ct", "mr", ...
        plane: see `display_axes`.
        index: which image of a 4-D file.

    Raises:
        MissingFileError: not there.
        FileFormatError: damaged.
        InputError: 4-D and no index.
    """
    volume = Volume.read(path, index=index)
    array, affine = reorient(volume.array, volume.affine, display_axes(volume.affine, plane))
    return Volume.from_array(array, affine=affine, convention="RAS", modality=modality, source=path)


def read_labels(path: Path, image: Path, plane: Plane = "axial") -> NDArray[Any]:
    """Read the labels of an image, turned as `read_image` turns it; the grid is the image's, whatever this file says.

    Returns:
        uint8 (D, H, W), or uint16 or int32 where a label is larger. Floats that are whole numbers become integers.

    Raises:
        FileFormatError: damaged, fractions, negative labels, or another shape than the image.
    """
    grid = read_nifti_grid(image)
    labels: NDArray[Any] = np.zeros(grid.shape, np.uint8)
    other = read_nifti_grid(path)
    if other.shape != grid.shape:
        raise FileFormatError(
            f"{path} is {other.shape}, its image {image.name} {grid.shape} (slices, rows, columns as stored). They do "
            "not belong together: copy both again"
        )
    for start, slab in nifti_slabs(path):
        piece = whole_numbers(slab, path)
        dtype = np.promote_types(labels.dtype, piece.dtype)
        labels = labels.astype(dtype, copy=False)
        labels[start : start + len(piece)] = piece
    return reorient(labels, grid.affine, display_axes(grid.affine, plane))[0]


def whole_numbers(values: NDArray[Any], path: Path) -> NDArray[Any]:
    """Labels of any dtype as uint8, or uint16 or int32 where one is larger.

    Raises:
        FileFormatError: fractions, negative or huge numbers.
    """
    if values.dtype.kind not in "biuf":
        raise FileFormatError(f"{path} holds {values.dtype} voxels (colours?) where labels are expected. Copy it again")
    if values.dtype.kind == "f":
        rounded = np.rint(values)
        if not np.array_equal(rounded, values):
            raise FileFormatError(
                f"{path} holds fractions or NaN where labels are expected: it was resampled with interpolation, or is "
                "no label map. Copy it again, or resample it to the nearest label"
            )
        values = rounded
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if low < 0 or high > np.iinfo(np.int32).max:
        raise FileFormatError(f"{path} holds labels {low:g}..{high:g}: they start at 0. Copy it again")
    return values.astype(np.uint8 if high < 256 else np.uint16 if high < 65536 else np.int32)


def check_pair(pair: NiftiPair, labels: Mapping[int, str], index: int | None = None) -> list[Problem]:
    """Read both files slab by slab and compare them; memory stays at a few slices.

    Args:
        pair: the files, which are there.
        labels: ids that may occur.
        index: which image of a 4-D file.
    """
    grids: list[NiftiGrid] = []
    for path in (pair.image, pair.label):
        try:
            grids.append(read_nifti_grid(path))
        except (LimnetError, OSError) as error:
            return [Problem(pair.name, str(error), _AGAIN)]
    problems = [Problem(pair.name, *found) for found in compare_grids(*grids)]
    try:
        problems += [Problem(pair.name, *found) for found in check_intensities(pair.image, index)]
    except (LimnetError, OSError) as error:
        problems.append(Problem(pair.name, str(error), _AGAIN))
    try:
        ids = label_ids(pair.label)
    except (LimnetError, OSError) as error:
        return [*problems, Problem(pair.name, str(error), _AGAIN)]
    return problems + [Problem(pair.name, *found) for found in check_ids(ids, labels)]


def compare_grids(image: NiftiGrid, label: NiftiGrid) -> list[tuple[str, str]]:
    """(what, advice) for shapes that differ and for grids that lie apart."""
    if image.shape != label.shape:
        what = f"the image is {image.shape}, its labels {label.shape} (slices, rows, columns as stored)"
        return [(what, "image and labels must lie on one grid: copy both again")]
    apart = grids_apart(image.shape, image.affine, label.affine)
    voxel = float(np.linalg.norm(image.affine[:3, :3], axis=0).min())
    if apart > _APART * voxel:
        what = f"image and labels lie up to {apart:.3g} mm apart in space, though their shapes agree"
        return [(what, "compare them in a viewer; limnet takes them voxel by voxel and uses the image's affine")]
    return []


def check_intensities(path: Path, index: int | None = None) -> list[tuple[str, str]]:
    """(what, advice) for voxels that are not finite, and for an image without contrast; raises if it is damaged."""
    low, high, finite = np.inf, -np.inf, True
    for _, slab in nifti_slabs(path, index):
        if slab.dtype.kind not in "biuf":
            return [(f"the image has {slab.dtype} voxels (colours?)", "save one intensity a voxel")]
        finite = finite and bool(np.isfinite(slab).all())
        low, high = min(low, float(slab.min())), max(high, float(slab.max()))
    if not finite:
        return [("some voxels of the image are NaN or infinite", "repair them; they are shown as darkest or brightest")]
    return [(f"every voxel of the image is {low:g}", _AGAIN)] if low == high else []


def check_ids(ids: Iterable[int], labels: Mapping[int, str]) -> list[tuple[str, str]]:
    """(what, advice) for labels that are not in the list, and for none at all."""
    found = set(ids) - {0}
    if not found:
        return [("no voxel is labelled", "copy the labels again, or take the case out")]
    unknown = sorted(found - set(labels))
    if labels and unknown:
        names = ", ".join(f"{i} {name}" for i, name in sorted(labels.items())[:15])
        return [(f"labels {unknown[:10]} are not in the data set's list", f"known are {names}")]
    return []


def label_ids(path: Path) -> set[int]:
    """Labels that occur in a file, read slab by slab; raises FileFormatError as `read_labels`."""
    ids: set[int] = set()
    for _, slab in nifti_slabs(path):
        ids |= ids_in(whole_numbers(slab, path))
    return ids


def ids_in(labels: NDArray[Any]) -> set[int]:
    """The values that occur in a (D, H, W) array from `whole_numbers`; faster and smaller than numpy.unique."""
    if labels.dtype.itemsize > 2:
        return set(np.unique(labels).tolist())
    present = np.zeros(np.iinfo(labels.dtype).max + 1, bool)
    for plane in labels:
        present[plane] = True
    return set(np.flatnonzero(present).tolist())
