"""NRRD and MetaImage files through SimpleITK; world axes are LPS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError, InputError
from limnet.volume import ItkGrid, Volume
from limnet.volume_io.choice import chosen

_READERS = {  # chosen by hand: by the name ITK finds them only for suffixes in small letters
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
}
_ALSO = {".mhd": "its data file", ".nhdr": "its data file"}


def read_itk(path: Path, index: int | None = None) -> Volume:
    """Read .nrrd, .nhdr, .mha or .mhd; `index` chooses in a 4-D file or among the components of vector voxels.

    Voxels of three 8- or 16-bit unsigned components are colour, (T, H, W, 3); a fourth (alpha) is dropped.

    Raises:
        FileFormatError: damaged or truncated.
        InputError: several volumes and no index, or fewer than three axes.
    """
    image = load_image(path)
    modality = next((image.GetMetaData(k) for k in image.GetMetaDataKeys() if k.lower() == "modality"), None)
    return from_image(image, path, index, modality)


def from_image(image: Any, path: Path, index: int | None = None, modality: str | None = None) -> Volume:
    """Volume of a SimpleITK image, with its grid kept as it is."""
    import SimpleITK

    dimension = image.GetDimension()
    if dimension not in (3, 4):
        raise InputError(f"{path} holds a {dimension}-D image {image.GetSize()}: limnet works on volumes of slices")
    array = SimpleITK.GetArrayFromImage(image)
    parts = image.GetNumberOfComponentsPerPixel()
    if dimension == 4:
        if parts > 1:
            raise InputError(f"{path} holds {array.shape[0]} volumes of {parts} components: split it first")
        array = array[chosen(path, array.shape[0], index)]
    elif parts in (3, 4) and array.dtype in (np.uint8, np.uint16):
        chosen(path, 1, index)
        array = array[..., :3]
    elif parts > 1:
        array = array[..., chosen(path, parts, index, "components for each voxel")]
    else:
        chosen(path, 1, index)
    direction = np.reshape(image.GetDirection(), (dimension, dimension))[:3, :3]
    grid = ItkGrid(image.GetSpacing()[:3], image.GetOrigin()[:3], tuple(float(v) for v in direction.ravel()))
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(grid.spacing)
    affine[:3, 3] = grid.origin
    return Volume.from_array(array, affine=affine, convention="LPS", modality=modality, source=path, header=grid)


def write_itk(volume: Volume, array: NDArray[Any], path: Path) -> None:
    """Write a (D, H, W) array, compressed; a volume from an ITK-type file keeps its grid as it was read."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array))
    if isinstance(volume.header, ItkGrid):
        spacing, origin, direction = volume.header
    else:
        affine = volume.affine_in("LPS")
        steps = np.linalg.norm(affine[:3, :3], axis=0)
        spacing, origin = tuple(steps.tolist()), tuple(affine[:3, 3].tolist())
        direction = tuple((affine[:3, :3] / steps).ravel().tolist())
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    try:
        SimpleITK.WriteImage(image, str(path), True)
    except RuntimeError as error:
        raise OSError(reason(error)) from error


def load_image(path: Path) -> Any:
    """The SimpleITK image in a file; FileFormatError with the cause if it cannot be read."""
    import SimpleITK

    try:
        return SimpleITK.ReadImage(str(path), imageIO=_READERS.get(path.suffix.lower(), ""))
    except RuntimeError as error:
        also = _ALSO.get(path.suffix.lower())
        raise FileFormatError(
            f"{path} could not be read: it is cut short, damaged or not what its name says"
            f"{f', or {also} is missing' if also else ''} ({reason(error)}). Copy or download it again"
        ) from error


def reason(error: RuntimeError) -> str:
    """The telling line of a SimpleITK error; `No such file` is dropped, which it says of damaged files too."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [
        line for line in lines if line and "No such file" not in line and not line.startswith("Exception thrown")
    ]
    return telling[-1] if telling else "no details"
