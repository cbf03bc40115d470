"""NRRD and MetaImage files through SimpleITK; world axes are LPS."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError
from limnet.image.io.choice import chosen
from limnet.image.io.itk_payload import check_header, check_payload
from limnet.image.io.reading import explained, reason
from limnet.image.volume import ItkGrid, Volume

_SEGMENT = re.compile(r"Segment\d+_ID")  # how 3D Slicer marks a segmentation
_READERS = {  # chosen by hand: by the name ITK finds them only for suffixes in small letters
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
}


def read_itk(path: Path, index: int | None = None) -> Volume:
    """Read .nrrd, .nhdr, .mha or .mhd; `index` chooses in a 4-D file or among the components of vector voxels.

    A segmentation of 3D Slicer (.seg.nrrd) comes as the label map of one of its layers, chosen by `index`, and
    the modality SEG. Voxels of three 8- or 16-bit unsigned components are colour, (T, H, W, 3); a fourth is dropped.

    Raises:
        FileFormatError: damaged or truncated.
        InputError: several volumes and no index, or fewer than three axes.
    """
    image = load_image(path)
    if any(_SEGMENT.fullmatch(key) for key in image.GetMetaDataKeys()):
        return _layer(image, path, index)
    return from_image(image, path, index, _modality(image))


def _modality(image: Any) -> str | None:
    """What the header says of the modality; MetaImage says MET_MOD_UNKNOWN where it was told nothing."""
    said = next((image.GetMetaData(key) for key in image.GetMetaDataKeys() if key.lower() == "modality"), "")
    name = said.removeprefix("MET_MOD_")
    return None if name in ("", "UNKNOWN", "OTHER") else name


def from_image(image: Any, path: Path | None, index: int | None = None, modality: str | None = None) -> Volume:
    """Volume of a SimpleITK image, with its grid kept as it is; `path` is its file, if any."""
    import SimpleITK

    name = path or Path("the SimpleITK image")
    dimension = image.GetDimension()
    if dimension not in (3, 4):
        raise InputError(f"{name} holds a {dimension}-D image {image.GetSize()}: limnet works on volumes of slices")
    array = SimpleITK.GetArrayFromImage(image)
    parts = image.GetNumberOfComponentsPerPixel()
    if dimension == 4:
        if parts > 1:
            raise InputError(f"{name} holds {array.shape[0]} volumes of {parts} components: split it first")
        array = array[chosen(name, array.shape[0], index)]
    elif parts in (3, 4) and array.dtype in (np.uint8, np.uint16):
        chosen(name, 1, index)
        array = array[..., :3]
    elif parts > 1:
        array = array[..., chosen(name, parts, index, "components for each voxel")]
    else:
        chosen(name, 1, index)
    return _on_grid(image, array, path, modality)


def _layer(image: Any, path: Path, index: int | None) -> Volume:
    """The label map of one layer of a segmentation; segments that overlap lie in several layers."""
    import SimpleITK

    array = SimpleITK.GetArrayFromImage(image)
    layers = image.GetNumberOfComponentsPerPixel()
    number = chosen(path, layers, index, "layers of segments")
    return _on_grid(image, array[..., number] if layers > 1 else array, path, "SEG")


def _on_grid(image: Any, array: NDArray[Any], path: Path | None, modality: str | None) -> Volume:
    grid = _grid_of(image)
    return Volume.from_array(
        array, affine=itk_affine(grid), convention="LPS", modality=modality, source=path, header=grid
    )


def write_itk(volume: Volume, array: NDArray[Any], path: Path) -> None:
    """Write a (D, H, W) array, compressed; a volume from an ITK-type file keeps its grid as it was read.

    One from NIfTI gets the grid that ITK gives the image: of files with two different grids (qform and sform) or with
    none, ITK takes another than nibabel, and the array has to lie on the image where both are opened.
    """
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array))
    spacing, origin, direction = itk_grid(volume)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    try:
        SimpleITK.WriteImage(image, str(path), True)
    except RuntimeError as error:
        raise OSError(reason(error)) from error


def itk_grid(volume: Volume) -> ItkGrid:
    """Where ITK sees the image of a volume: for NIfTI not always where nibabel and `Volume.affine` see it."""
    grid = volume.header if isinstance(volume.header, ItkGrid) else None
    if isinstance(volume.header, bytes):
        grid = _nifti_grid(volume.header)
    if grid is not None:
        return grid
    affine = volume.affine_in("LPS")
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    direction = (affine[:3, :3] / steps).ravel().tolist()
    return ItkGrid(tuple(steps.tolist()), tuple(affine[:3, 3].tolist()), tuple(direction))


def itk_affine(grid: ItkGrid) -> NDArray[np.float64]:
    """(4, 4), index (x, y, z) -> LPS mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(grid.direction, (3, 3)) * np.array(grid.spacing)
    affine[:3, 3] = grid.origin
    return affine


def _grid_of(image: Any) -> ItkGrid:
    """Of a SimpleITK image or reader, its three axes of space."""
    size = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (size, size))[:3, :3]
    return ItkGrid(image.GetSpacing()[:3], image.GetOrigin()[:3], tuple(float(v) for v in direction.ravel()))


def _nifti_grid(header: bytes) -> ItkGrid | None:
    """Where ITK sees a NIfTI image, by its own reading of the header; None if it refuses it (a sheared grid)."""
    import SimpleITK

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "header.nii"
        path.write_bytes(header + bytes(4))  # no extension follows
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        try:
            with quiet():
                reader.ReadImageInformation()
        except RuntimeError:
            return None
    return _grid_of(reader)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep ITK from printing warnings."""
    import SimpleITK

    before = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(before)


def load_image(path: Path) -> Any:
    """The SimpleITK image in a file, its voxels checked against size and checksum where the format has them.

    Raises:
        FileFormatError: damaged, truncated, or its data file is missing.
        NotEnoughMemoryError: it does not fit into memory.
    """
    import SimpleITK

    name = _READERS.get(path.suffix.lower(), "")
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(name)
    with explained(path):
        if name:
            check_header(path)
        reader.ReadImageInformation()
        if name:
            kind = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
            bits = re.search(r"(\d+)-bit", kind)
            if bits is None or "complex" in kind:
                raise InputError(f"{path} holds voxels of the kind {kind}: allowed are integers and floats")
            check_payload(path, math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * int(bits[1]) // 8)
        return reader.Execute()
