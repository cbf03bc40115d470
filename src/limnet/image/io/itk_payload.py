"""MetaImage and NRRD files looked at before ITK reads them.

ITK takes damaged voxels for other voxels, and some damaged headers end the process.
"""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path
from typing import IO

from limnet.errors import FileFormatError
from limnet.image.io.reading import check_room, unpacked_size

_HEADER = 1 << 20  # bytes: longer headers than this are no headers
_CHUNK = 1 << 22
_DIMENSIONS = 10  # as many as MetaIO has room for
_WORD = 400  # bytes; teem writes longer words into messages of about a thousand
_FREE = (b"content", b"labels", b"units", b"space units", b"sample units")


def check_header(path: Path) -> None:
    """Refuse headers that ITK does not survive: endless words in NRRD, many dimensions in MetaImage.

    Raises:
        FileFormatError: Such a header.
    """
    with open(path, "rb") as file:
        head = file.read(_HEADER)
    if path.suffix.lower() in (".mha", ".mhd"):
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


def check_payload(path: Path, needed: int) -> None:
    """Refuse voxels that are not there or that are damaged.

    Args:
        path: .mha, .mhd, .nrrd or .nhdr file.
        needed: Bytes of all voxels, by the header.

    Raises:
        FileFormatError: Too few bytes, a wrong checksum, or a data file that is missing.
        OSError, EOFError, zlib.error: What the decompression says of damaged data.
    """
    (_check_meta if path.suffix.lower() in (".mha", ".mhd") else _check_nrrd)(path, needed)


def _check_meta(path: Path, needed: int) -> None:
    with open(path, "rb") as file:
        head = file.read(_HEADER)
        found = re.search(rb"^ElementDataFile[ \t]*=[ \t]*(.*?)[ \t\r]*\n?$", head, re.MULTILINE)
        if found is None:
            raise FileFormatError(f"{path} is no MetaImage: ElementDataFile is missing. Copy or download it again")
        pairs = re.findall(
            r"^[ \t]*(\w+)[ \t]*=[ \t]*(.*?)[ \t\r]*$", head[: found.start()].decode("latin-1"), re.MULTILINE
        )
        fields = {key.lower(): value for key, value in pairs}
        packed = _true(fields.get("compresseddata", ""))
        name = found[1].decode("utf-8", "replace").split()
        if name in (["LOCAL"], ["Local"], ["local"]):
            file.seek(head.index(b"\n", found.start()) + 1 if b"\n" in head[found.start() :] else len(head))
            _check_meta_data(path, file, fields, packed, needed)
            return
    if len(name) == 1 and name[0].upper() != "LIST":
        data = path.parent / name[0]
        if not data.is_file():
            raise FileFormatError(f"{path} could not be read: its data file is missing, {name[0]}. Copy both files")
        with open(data, "rb") as file:
            _check_meta_data(path, file, fields, packed, needed)


def _true(value: str) -> bool:
    return value[:1] in ("T", "t", "1")  # as MetaIO has it


def _check_meta_data(path: Path, file: IO[bytes], fields: dict[str, str], packed: bool, needed: int) -> None:
    held = os.fstat(file.fileno()).st_size - file.tell()
    if not packed:
        skip = fields.get("headersize", "0")
        if skip == "-1":  # the voxels are at the end, whatever comes before
            check_room(path, needed, min(held, needed))
        elif skip.isdecimal() and _true(fields.get("binarydata", "true")):
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


def _check_nrrd(path: Path, needed: int) -> None:
    with open(path, "rb") as file:
        head = file.read(_HEADER)
        end = re.search(rb"\r?\n\r?\n", head)
        text = (head[: end.start()] if end else head).decode("latin-1")
        fields = {k.lower().replace(" ", ""): v for k, v in re.findall(r"^([^:#\n]+): *(.*?)\s*$", text, re.MULTILINE)}
        packed = fields.get("encoding", "").lower() in ("gzip", "gz")
        plain = fields.get("encoding", "").lower() == "raw"
        name = fields.get("datafile")
        if name is None:
            if end is None:
                raise FileFormatError(f"{path} is no NRRD file: its header has no end. Copy or download it again")
            file.seek(end.end())
            _check_nrrd_data(path, file, packed, plain and not _skips(fields), needed)
            return
    if len(name.split()) == 1 and name.upper() != "LIST":
        data = path.parent / name
        if not data.is_file():
            raise FileFormatError(f"{path} could not be read: its data file is missing, {name}. Copy both files")
        with open(data, "rb") as file:
            _check_nrrd_data(path, file, packed, plain and not _skips(fields), needed)


def _skips(fields: dict[str, str]) -> bool:
    return any(fields.get(key, "0") != "0" for key in ("byteskip", "lineskip"))


def _check_nrrd_data(path: Path, file: IO[bytes], packed: bool, plain: bool, needed: int) -> None:
    held = os.fstat(file.fileno()).st_size - file.tell()
    if plain:
        check_room(path, needed, held)
    elif packed:
        check_room(path, needed, held, packed=True)
        total = unpacked_size(file)
        if total < needed:
            raise _damaged(path, f"its header promises {needed} bytes of voxels, it unpacks to {total}")
