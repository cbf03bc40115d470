"""Data sets of NIfTI files: reading with slices first, by flips and swaps of axes alone, and their check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import CaseFiles, LabelledCase, LabelledDataset, Problem, paths_of
from limnet.data.files import labels_in
from limnet.data.files import read_labels as read_label_map
from limnet.errors import FileFormatError, LimnetError
from limnet.image.io.nifti import NiftiGrid, read_nifti_grid
from limnet.image.volume import Volume

Plane = Literal["axial", "acquired"]
Found = tuple[str, str]
"""What is wrong, and what to do."""

AGAIN = "copy or download it again"
_APART = 0.1  # image and labels may lie this share of a voxel apart: rounding in headers
# Directions of columns, rows and slices for each normal of a slice: head and front on top, the patient's left at right.
_AXIAL, _CORONAL, _SAGITTAL = ("L", "P", "S"), ("L", "I", "P"), ("P", "I", "L")
_THICK = 1.5  # slices this much further apart than pixels were acquired in that plane


class NiftiDataset(LabelledDataset):
    """A data set of NIfTI pairs, read in a common orientation.

    Attributes:
        plane: see `display_axes`.
    """

    plane: ClassVar[Plane] = "axial"

    def image_of(self, files: CaseFiles) -> Callable[[], Volume]:
        """A partial of `read_image`."""
        return partial(read_image, files.image, files.modality, self.plane)

    def labels_of(self, files: CaseFiles) -> Callable[[], NDArray[Any]]:
        """A partial of `read_labels`."""
        return partial(read_labels, files.masks[0], files.image, self.plane)

    def check_case(self, case: LabelledCase) -> list[Problem]:
        """Both files: grids, dtypes, label numbers, damage."""
        return [Problem(case.name, *found) for found in check_pair(*paths_of(case), case.labels)]


def either(folder: Path, stem: str) -> Path:
    """`stem`.nii if only that is there, else `stem`.nii.gz, whether there or not."""
    packed, plain = folder / f"{stem}.nii.gz", folder / f"{stem}.nii"
    return plain if plain.is_file() and not packed.is_file() else packed


def read_image(path: Path, modality: str, plane: Plane = "axial") -> Volume:
    """Read an image with its slices along axis 0.

    Args:
        path: .nii or .nii.gz.
        modality: "ct", "mr", ...

    Raises:
        InputError: 4-D.
    """
    volume = Volume.read(path)
    array, affine = reorient(volume.array, volume.affine, display_axes(volume.affine, plane))
    return Volume.from_array(array, affine=affine, convention="RAS", modality=modality, source=path)


def read_labels(path: Path, image: Path, plane: Plane = "axial") -> NDArray[Any]:
    """Read the labels of an image, turned as `read_image` turns it; the grid is the image's, whatever this file says.

    Returns:
        Labels (D, H, W) in the smallest unsigned dtype. Floats that are whole numbers become integers.

    Raises:
        FileFormatError: damaged, fractions, negative labels, or another shape than the image.
    """
    return combine({path: None}, image, plane)


def combine(values: Mapping[Path, int | None], image: Path, plane: Plane = "axial") -> NDArray[Any]:
    """Label files of one image as one label map, read one after the other; see `read_labels`.

    Args:
        values: file -> label of what it marks, None for its own numbers; later ones cover earlier ones.
        image: whose grid counts.
    """
    grid = read_nifti_grid(image)
    labels: NDArray[Any] = np.zeros(grid.shape, np.uint8)
    for path, value in values.items():
        if (shape := read_nifti_grid(path).shape) != grid.shape:
            raise FileFormatError(
                f"{path} is {shape}, its image {image.name} {grid.shape} (slices, rows, columns as stored). They do "
                "not belong together: copy both again"
            )
        found = read_label_map(path)
        if value is None:
            labels = found
        else:
            labels[found > 0] = value
    return reorient(labels, grid.affine, display_axes(grid.affine, plane))[0]


def display_axes(affine: NDArray[np.float64], plane: Plane) -> tuple[str, str, str]:
    """Patient directions in which columns, rows and slices shall run.

    Args:
        affine: (4, 4), file index (x, y, z) -> RAS mm.
        plane: "axial" always takes slices from feet to head; "acquired" takes the plane in which slices are clearly
            further apart than pixels, axial where there is none.
    """
    import nibabel

    if plane == "acquired":
        steps = np.linalg.norm(affine[:3, :3], axis=0)
        widest = int(np.argmax(steps))
        if steps[widest] > _THICK * np.delete(steps, widest).max():
            normal = int(nibabel.io_orientation(affine)[widest, 0])
            return (_SAGITTAL, _CORONAL, _AXIAL)[normal]
    return _AXIAL


def reorient(
    array: NDArray[Any], affine: NDArray[np.float64], axes: tuple[str, str, str]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Swap and flip the axes of a volume, without resampling; its voxels stay where they are in the patient.

    Args:
        array: (D, H, W) or (D, H, W, 3), axis 0 the file's slowest.
        affine: (4, 4), reversed array index -> RAS mm.
        axes: from `display_axes`.

    Returns:
        The contiguous array, and its affine.
    """
    import nibabel

    order = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(axes))
    space = array.transpose(2, 1, 0, *range(3, array.ndim))
    turned = nibabel.orientations.apply_orientation(space, order)
    moved = affine @ nibabel.orientations.inv_ornt_aff(order, space.shape[:3])
    return np.ascontiguousarray(turned.transpose(2, 1, 0, *range(3, array.ndim))), moved


def check_pair(image: Path, label: Path, labels: Mapping[int, str]) -> list[Found]:
    """Read two files, one after the other, and compare them.

    Args:
        image: there, as is the next one.
        label: label map of the image.
        labels: ids that may occur; any where empty.
    """
    found = guarded(lambda: compare_grids(read_nifti_grid(image), read_nifti_grid(label)))
    found += guarded(lambda: check_intensities(image))
    return list(dict.fromkeys(found + guarded(lambda: check_ids(label_ids(label), labels))))


def guarded(check: Callable[[], Iterable[Found]]) -> list[Found]:
    """What a check finds; that a file is damaged is a finding, too."""
    try:
        return list(check())
    except (LimnetError, OSError) as error:
        return [(str(error), AGAIN)]


def compare_grids(image: NiftiGrid, label: NiftiGrid) -> list[Found]:
    """Shapes that differ, and grids that lie apart."""
    if image.shape != label.shape:
        what = f"the image is {image.shape}, its labels {label.shape} (slices, rows, columns as stored)"
        return [(what, "image and labels must lie on one grid: copy both again")]
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [*image.shape[::-1], 1]
    apart = float(np.linalg.norm((corners @ (image.affine - label.affine).T)[:, :3], axis=1).max())
    if apart > _APART * float(np.linalg.norm(image.affine[:3, :3], axis=0).min()):
        what = f"image and labels lie up to {apart:.3g} mm apart in space, though their shapes agree"
        return [(what, "compare them in a viewer; limnet takes them voxel by voxel and uses the image's affine")]
    return []


def check_intensities(path: Path) -> list[Found]:
    """Voxels that are not finite, and an image without contrast; raises if it is damaged."""
    volume = Volume.read(path)
    if volume.is_color:
        return [("the image holds colours", "save one intensity a voxel")]
    if not np.isfinite(volume.array).all():
        return [("some voxels of the image are NaN or infinite", "repair them; they are shown as darkest or brightest")]
    low, high = volume.array.min(), volume.array.max()
    return [(f"every voxel of the image is {low:g}", AGAIN)] if low == high else []


def check_ids(ids: Iterable[int], labels: Mapping[int, str]) -> list[Found]:
    """Labels that are not in the list, and none at all."""
    found = set(ids) - {0}
    if not found:
        return [("no voxel is labelled", "copy the labels again, or take the case out")]
    unknown = sorted(found - set(labels))
    if labels and unknown:
        names = ", ".join(f"{i} {name}" for i, name in sorted(labels.items())[:15])
        return [(f"labels {unknown[:10]} are not in the data set's list", f"known are {names}")]
    return []


def label_ids(path: Path) -> set[int]:
    """Labels that occur in a file; raises FileFormatError as `read_labels`."""
    return labels_in(read_label_map(path))
