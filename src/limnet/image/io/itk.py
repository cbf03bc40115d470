"""NRRD and MetaImage files through SimpleITK; world axes are LPS.

Files are looked at before ITK reads them: it takes damaged voxels for other voxels, and some damaged headers end the
process.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError, InputError
from limnet.image.io.reading import check_room, chosen, explained, reason, unpacked_size
from limnet.image.volume import ItkGrid, Volume

_HEADER = 1 << 20  # bytes: longer headers than this are no headers
_CHUNK = 1 << 22
_DIMENSIONS = 10  # as many as MetaIO has room for
_WORD = 400  # bytes; teem writes longer words into messages of about a thousand
_FREE = (b"content", b"labels", b"units", b"space units", b"sample units")
_SEGMENT = re.compile(r"Segment\d+_ID")  # how 3D Slicer marks a segmentation
_READERS = {  # chosen by hand: by the name ITK finds them only for suffixes in small letters
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
}


def read_itk(path: Path, index: int | None = None) -> Volume:
    """Read .nrrd, .nhdr, .mha or .mhd; `index` chooses in a 4-D file or among the components of vector voxels.

    A segmentation of 3D Slicer (.seg.nrrd) comes as the label map of one of its layers, chosen by `index`, and the
    modality SEG. Voxels of three 8- or 16-bit unsigned components are colour, (T, H, W, 3); a fourth is dropped.
    """
    import SimpleITK

    image = load_image(path)
    if any(_SEGMENT.fullmatch(key) for key in image.GetMetaDataKeys()):  # segments that overlap lie in several layers
        array, layers = SimpleITK.GetArrayFromImage(image), image.GetNumberOfComponentsPerPixel()
        number = chosen(path, layers, index, "layers of segments")
        return _on_grid(image, array[..., number] if layers > 1 else array, path, "SEG")
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
        display = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            return None
        finally:
            SimpleITK.ProcessObject.SetGlobalWarningDisplay(display)
    return _grid_of(reader)


def load_image(path: Path) -> Any:
    """The SimpleITK image in a file, its voxels checked against size and checksum where the format has them."""
    import SimpleITK

    name = _READERS.get(path.suffix.lower(), "")
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(name)
    with explained(path):
        if name:
            _check_header(path)
        reader.ReadImageInformation()
        if name:
            kind = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
            bits = re.search(r"(\d+)-bit", kind)
            if bits is None or "complex" in kind:
                raise InputError(f"{path} holds voxels of the kind {kind}: allowed are integers and floats")
            _check_payload(path, math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * int(bits[1]) // 8)
        return reader.Execute()


def _check_header(path: Path) -> None:
    """Refuse headers that ITK does not survive: endless words in NRRD, many dimensions in MetaImage."""
    with open(path, "rb") as file:
        head = file.read(_HEADER)
    if _is_meta(path):
        for found in re.findall(rb"^[ \t]*NDims[ \t]*=[ \t]*(.*?)[ \t\r]*$", head, re.MULTILINE):
            if not found.isdigit() or not 1 <= int(found[:9]) <= _DIMENSIONS:
                raise _damaged(path, f"NDims is {found[:20].decode('latin-1')!r}")
        return
    lines = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0].splitlines()
    if not lines or not lines[0].startswith(b"NRRD"):
        raise _damaged(path, "it does not begin with NRRD")
    for line in lines[1:]:
        key, colon, value = line.partition(b":")
        if key.lower() in (b"data file", b"datafile") and value.strip().upper().startswith(b"LIST"):
            return  # names of files follow
        if line.startswith(b"#") or not line.strip():
            continue
        words = [] if value.startswith(b"=") or key.lower() in _FREE else value.split()
        if not colon or max(map(len, [key, *words])) > _WORD:
            raise _damaged(path, f"its header has the line {line[:40].decode('latin-1')!r}")


def _damaged(path: Path, what: str) -> FileFormatError:
    return FileFormatError(
        f"{path} could not be read: it is cut short, damaged or not what its name says ({what}). "
        "Copy or download it again"
    )


def _is_meta(path: Path) -> bool:
    return path.suffix.lower() in (".mha", ".mhd")


def _check_payload(path: Path, needed: int) -> None:
    """Refuse voxels that are not there or that are damaged: ITK would take them for other voxels.

    `needed` are the bytes of all voxels by the header. Raises FileFormatError, or what the decompression says.
    """
    read, check = (_meta_header, _check_meta_data) if _is_meta(path) else (_nrrd_header, _check_nrrd_data)
    with open(path, "rb") as file:
        fields, name, start = read(path, file.read(_HEADER))
        if name is None:
            file.seek(start)
            check(path, file, fields, needed)
            return
    if len(name.split()) == 1 and name.upper() != "LIST":
        data = path.parent / name
        if not data.is_file():
            raise FileFormatError(f"{path} could not be read: its data file is missing, {name}. Copy both files")
        with open(data, "rb") as file:
            check(path, file, fields, needed)


def _meta_header(path: Path, head: bytes) -> tuple[dict[str, str], str | None, int]:
    """Fields of a header, name of the file with the voxels or None, and where they begin in this one."""
    found = re.search(rb"^ElementDataFile[ \t]*=[ \t]*(.*?)[ \t\r]*\n?$", head, re.MULTILINE)
    if found is None:
        raise FileFormatError(f"{path} is no MetaImage: ElementDataFile is missing. Copy or download it again")
    text = head[: found.start()].decode("latin-1")
    pairs = re.findall(r"^[ \t]*(\w+)[ \t]*=[ \t]*(.*?)[ \t\r]*$", text, re.MULTILINE)
    name = found[1].decode("utf-8", "replace").strip()
    start = head.index(b"\n", found.start()) + 1 if b"\n" in head[found.start() :] else len(head)
    return {key.lower(): value for key, value in pairs}, None if name in ("LOCAL", "Local", "local") else name, start


def _nrrd_header(path: Path, head: bytes) -> tuple[dict[str, str], str | None, int]:
    """As `_meta_header`; keys without spaces."""
    end = re.search(rb"\r?\n\r?\n", head)
    text = (head[: end.start()] if end else head).decode("latin-1")
    fields = {k.lower().replace(" ", ""): v for k, v in re.findall(r"^([^:#\n]+): *(.*?)\s*$", text, re.MULTILINE)}
    name = fields.get("datafile")
    if name is None and end is None:
        raise FileFormatError(f"{path} is no NRRD file: its header has no end. Copy or download it again")
    return fields, name, end.end() if end else 0


def _check_meta_data(path: Path, file: IO[bytes], fields: dict[str, str], needed: int) -> None:
    def true(value: str) -> bool:
        return value[:1] in ("T", "t", "1")  # as MetaIO has it

    held = os.fstat(file.fileno()).st_size - file.tell()
    if not true(fields.get("compresseddata", "")):
        skip = fields.get("headersize", "0")
        if skip == "-1":  # the voxels are at the end, whatever comes before
            check_room(path, needed, min(held, needed))
        elif skip.isdecimal() and true(fields.get("binarydata", "true")):
            check_room(path, needed, held - int(skip))
        return
    check_room(path, needed, held, packed=True)
    size = fields.get("compresseddatasize", "")
    left = int(size) if size.isdecimal() else held
    unpacker, total = zlib.decompressobj(47), 0  # zlib or gzip, as MetaIO takes both
    while left > 0 and not unpacker.eof and (piece := file.read(min(_CHUNK, left))):
        left -= len(piece)
        while piece and not unpacker.eof:
            total += len(unpacker.decompress(piece, _CHUNK))
            piece = unpacker.unconsumed_tail
    if not unpacker.eof or total != needed:
        raise _damaged(path, f"its header promises {needed} bytes of voxels, it unpacks to {total}")


def _check_nrrd_data(path: Path, file: IO[bytes], fields: dict[str, str], needed: int) -> None:
    held = os.fstat(file.fileno()).st_size - file.tell()
    encoding = fields.get("encoding", "").lower()
    if encoding == "raw" and all(fields.get(key, "0") == "0" for key in ("byteskip", "lineskip")):
        check_room(path, needed, held)
    elif encoding in ("gzip", "gz"):
        check_room(path, needed, held, packed=True)
        total = unpacked_size(file)
        if total < needed:
            raise _damaged(path, f"its header promises {needed} bytes of voxels, it unpacks to {total}")
