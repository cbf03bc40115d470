"""Data sets of NIfTI files: reading with slices first, by flips and swaps of axes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import CaseFiles, LabelledDataset
from limnet.data.files import read_labels as read_label_map
from limnet.errors import FileFormatError
from limnet.image.io.formats import read_single
from limnet.image.io.nifti import read_nifti_grid
from limnet.image.volume import Volume

Plane = Literal["axial", "acquired"]
# Directions of columns, rows and slices for each normal of a slice: head and front on top, the patient's left at right.
_AXIAL, _CORONAL, _SAGITTAL = ("L", "P", "S"), ("L", "I", "P"), ("P", "I", "L")
_THICK = 1.5  # slices this much further apart than pixels were acquired in that plane


class NiftiDataset(LabelledDataset):
    """A data set of NIfTI pairs, read in a common orientation; for `plane` see `display_axes`."""

    plane: ClassVar[Plane] = "axial"

    def image_of(self, files: CaseFiles) -> Callable[[], Volume]:
        """A partial of `read_image`."""
        return partial(read_image, files.image, files.modality, self.plane)

    def labels_of(self, files: CaseFiles) -> Callable[[], NDArray[Any]]:
        """A partial of `read_labels`."""
        return partial(read_labels, files.masks[0], files.image, self.plane)


def either(folder: Path, stem: str) -> Path:
    """`stem`.nii if only that is there, else `stem`.nii.gz, whether there or not."""
    packed, plain = folder / f"{stem}.nii.gz", folder / f"{stem}.nii"
    return plain if plain.is_file() and not packed.is_file() else packed


def read_image(path: Path, modality: str, plane: Plane = "axial") -> Volume:
    """Read a .nii or .nii.gz image with its slices along axis 0; InputError for a 4-D one."""
    volume = read_single(path)
    array, affine = reorient(volume.array, volume.affine, display_axes(volume.affine, plane))
    return Volume.from_array(array, affine=affine, convention="RAS", modality=modality, source=path)


def read_labels(path: Path, image: Path, plane: Plane = "axial") -> NDArray[Any]:
    """Read the labels of an image, turned as `read_image` turns it; the grid is the image's, whatever this file says.

    (D, H, W) in the smallest unsigned dtype. FileFormatError for fractions, negative labels, or another shape than the
    image's.
    """
    return combine({path: None}, image, plane)


def combine(values: Mapping[Path, int | None], image: Path, plane: Plane = "axial") -> NDArray[Any]:
    """Label files of one image as one label map, read one after the other; see `read_labels`.

    `values` has for a file the label of what it marks, None for its own numbers; later ones cover earlier ones.
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
    """Patient directions in which columns, rows and slices shall run, for a (4, 4) affine of file index -> RAS mm.

    "axial" always takes slices from feet to head; "acquired" the plane in which slices are clearly further apart than
    pixels, axial where there is none.
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

    Takes (D, H, W) or (D, H, W, 3), axis 0 the file's slowest, the (4, 4) affine from reversed index to RAS mm, and
    what `display_axes` gave; returns the contiguous array and its affine.
    """
    import nibabel

    order = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(axes))
    space = array.transpose(2, 1, 0, *range(3, array.ndim))
    turned = nibabel.orientations.apply_orientation(space, order)
    moved = affine @ nibabel.orientations.inv_ornt_aff(order, space.shape[:3])
    return np.ascontiguousarray(turned.transpose(2, 1, 0, *range(3, array.ndim))), moved
