"""NIfTI files in pieces: the grid from the header alone, and voxels slab by slab, so that memory stays small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError, InputError
from limnet.image.io.nifti import affine_of, check_voxels
from limnet.image.io.reading import check_gzip, explained

_SLAB_BYTES = 1 << 23


@dataclass(frozen=True, eq=False)
class NiftiGrid:
    """What the header of a file says.

    Attributes:
        shape: (D, H, W), axis 0 the file's slowest.
        volumes: images in the file; more than 1 if it is 4-D.
        affine: (4, 4), file index (x, y, z) = reversed array index -> RAS mm.
        dtype: of the voxels on disk.
    """

    shape: tuple[int, int, int]
    volumes: int
    affine: NDArray[np.float64]
    dtype: np.dtype[Any]


def read_nifti_grid(path: Path) -> NiftiGrid:
    """Read the header alone.

    Raises:
        FileFormatError: missing or damaged header, or no usable grid.
        InputError: fewer than three axes.
    """
    with explained(path):
        image = _open(path)
        return _grid(image, path)


def nifti_slabs(path: Path, index: int | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
    """Voxels from the file's first to its last slice, a few at a time, scaled as the header says.

    Args:
        path: the file.
        index: which image of a 4-D file.

    Yields:
        The number of the first slice and (d, H, W) voxels; about 8 MB, at least one slice.

    Raises:
        FileFormatError: damaged or cut short; of a compressed file only the end can tell, after the last slab.
        InputError: a 4-D file and no index.
    """
    with explained(path):
        image = _open(path)
        grid = _grid(image, path)
        if index is None and grid.volumes > 1:
            raise InputError(
                f"{path} holds {grid.volumes} images, a 4-D file; one is needed. Choose it with index=0.."
                f"{grid.volumes - 1}, or store the one that was meant"
            )
        last = tuple((index or 0) if n != 1 else 0 for n in image.shape[3:])
        bytes_each = max(1, image.shape[0] * image.shape[1] * image.get_data_dtype().itemsize)
        step = max(1, _SLAB_BYTES // bytes_each)
        for start in range(0, grid.shape[0], step):
            place = (slice(None), slice(None), slice(start, start + step), *last)
            piece = image.dataobj[place]
            yield start, np.asarray(piece).T
        check_gzip(path)  # damage that left the voxels readable, and wrong


def _open(path: Path) -> Any:
    import nibabel

    if path.name.startswith("._"):
        raise FileFormatError(f"{path} is a macOS side file without image data. Delete it")
    image: Any = nibabel.load(path, mmap=False, keep_file_open=True)
    if not isinstance(image, nibabel.Nifti1Image):
        raise FileFormatError(f"{path} is no NIfTI file by its content but {type(image).__name__}")
    check_voxels(image, path)
    return image


def _grid(image: Any, path: Path) -> NiftiGrid:
    shape = tuple(int(n) for n in image.shape)
    if len(shape) < 3:
        raise InputError(f"{path} holds a {len(shape)}-D image {shape}: a volume needs three axes")
    return NiftiGrid(
        shape=(shape[2], shape[1], shape[0]),
        volumes=int(np.prod(shape[3:], dtype=np.int64)) if len(shape) > 3 else 1,
        affine=affine_of(image, path),
        dtype=image.get_data_dtype(),
    )
