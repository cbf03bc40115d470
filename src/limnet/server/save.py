"""What the Save dialog writes: label maps, single objects, DICOM, sessions."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from limnet.case.case import Case
from limnet.errors import InputError, SaveError

FORMATS = [
    {"suffix": ".nii.gz", "name": "NIfTI (.nii.gz)", "what": ["labels", "object", "objects"]},
    {"suffix": ".nrrd", "name": "NRRD (.nrrd)", "what": ["labels", "object", "objects"]},
    {"suffix": ".mha", "name": "MetaImage (.mha)", "what": ["labels", "object", "objects"]},
    {"suffix": ".dcm", "name": "DICOM SEG (.dcm)", "what": ["labels", "object"]},
    {"suffix": ".rtstruct.dcm", "name": "DICOM RTSTRUCT (.rtstruct.dcm)", "what": ["labels", "object"]},
    {"suffix": ".limnet", "name": "limnet session (.limnet)", "what": ["session"]},
]
"""What the dialog offers, in its order."""


def save(case: Case, path: Path, what: str, name: str | None = None, overwrite: bool = False) -> list[Path]:
    """Write results of a case; returns the files.

    Args:
        path: File to write; for several objects their names are put before the suffix.
        what: "labels" (all in one file), "object" (the mask of `name`), "objects" (one mask each), "session".
        overwrite: Whether files of "objects" that are there already are replaced.

    Raises:
        InputError: nothing is marked, an unknown object or suffix, or the image itself.
        SaveError: a file cannot be written.
    """
    if what == "session":
        return [case.save_session(path, overwrite=overwrite)]
    if what == "labels":
        return list(case.save_labels(path))
    marked = [n for n in case.objects if case.object(n).rounds]
    if what == "object":
        if name not in marked:
            raise InputError(f"object {name!r} has no result yet: mark it first")
        return [case.object(name).save(path)]
    if what != "objects":
        raise InputError(f"{what!r} cannot be saved: labels, object, objects and session can")
    if not marked:
        raise InputError("no object is marked yet, there is nothing to save: click first")
    base, suffix = split_suffix(path.name)
    targets = {n: path.with_name(f"{base}_{file_name(n)}{suffix}") for n in marked}
    if not overwrite and (taken := [p.name for p in targets.values() if p.exists()]):
        raise SaveError(f"there already: {', '.join(taken)}. Choose another name, or allow to replace them")
    return [case.object(n).save(p) for n, p in targets.items()]


def saved_bytes(case: Case, title: str, what: str, suffix: str, name: str | None = None) -> tuple[bytes, str]:
    """What `save` would write as one file, and a name for it."""
    if suffix not in [f["suffix"] for f in FORMATS] or what == "objects":
        raise InputError(f"{what} as {suffix!r} cannot be downloaded as one file: save it into a folder")
    base = split_suffix(title)[0] or "volume"
    part = {"object": f"_{file_name(name or '')}", "session": ""}.get(what, "_labels")
    with tempfile.TemporaryDirectory(prefix="limnet-") as folder:
        file = save(case, Path(folder) / f"{base}{part}{suffix}", what, name)[0]
        return file.read_bytes(), file.name


def split_suffix(name: str) -> tuple[str, str]:
    """("ct", ".nii.gz") of "ct.nii.gz"; the longest suffix of `FORMATS`, else the last one."""
    for suffix in sorted((str(f["suffix"]) for f in FORMATS), key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], name[-len(suffix) :]
    path = Path(name)
    return path.stem, path.suffix


def file_name(name: str) -> str:
    """An object's name as part of a file name."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "object"
