"""Images and labels of MONAI Label clients: a folder, in the layout of MONAI Label's own local data store.

Images lie in the folder, labels in `labels/final` (finished ones) and `labels/<tag>`; an image and its labels share
their name without suffix.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from limnet.errors import InputError, SaveError
from limnet.image.io.formats import READERS, known_suffix
from limnet.image.io.masks import read_labels
from limnet.image.volume import Volume
from limnet.server.protocols.requests import UnknownError

FINAL = "final"
_UPLOADED = (".nii.gz", ".nii", ".nrrd", ".mha", ".seg.nrrd")  # what clients send as one file
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]{0,119}")


class Datastore:
    """The folder with the images; InputError if it is none."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        if not self.root.is_dir():
            raise InputError(f"{root} is no folder: give one with images, or an empty one to collect them in")

    def images(self) -> dict[str, Path]:
        """Id and file of every image, in order of names."""
        found: dict[str, Path] = {}
        for path in sorted(self.root.iterdir(), key=lambda p: p.name.lower()):
            suffix = known_suffix(path, READERS)
            if suffix is not None and not path.name.startswith(".") and path.resolve().is_relative_to(self.root):
                found.setdefault(path.name[: -len(suffix)], path)
        return found

    def image(self, name: str) -> Path:
        """File of an image; UnknownError if there is none."""
        found = self.images().get(name)
        if found is None:
            raise UnknownError(f"there is no image {name[:60]!r} in the data store")
        return found

    def labels(self, name: str) -> dict[str, Path]:
        """Tag and file of every label map of an image."""
        found: dict[str, Path] = {}
        with suppress(OSError):
            for folder in sorted((self.root / "labels").iterdir()):
                for suffix in _UPLOADED:
                    path = folder / f"{name}{suffix}"
                    if path.is_file() and path.resolve().is_relative_to(self.root):
                        found[folder.name] = path
        return found

    def add_image(self, name: str, data: bytes, sent_as: str) -> str:
        """Add an image, by an id or else the name the file has at the client; returns its id.

        InputError if it cannot be read, has a bad name, or there is an image of that name.
        """
        suffix = upload_suffix(sent_as)
        name = checked_name(name or Path(sent_as.replace("\\", "/")).name[: -len(suffix)])
        if name in self.images():
            raise InputError(f"there is an image {name!r} already: give another id")
        with upload(data, suffix, self.root) as path:
            Volume.read(path)
            os.replace(path, self.root / f"{name}{suffix}")
        return name

    def add_label(self, name: str, tag: str, data: bytes, sent_as: str, volume: Volume) -> Path:
        """Keep a label map of an image; one of that tag that is there is replaced.

        InputError if it cannot be read or does not lie on the image's grid.
        """
        suffix, folder = upload_suffix(sent_as or "label.nii.gz"), self.root / "labels" / checked_name(tag or FINAL)
        self.image(name)
        with upload(data, suffix, self.root) as path:
            read_labels(path, volume)
            folder.mkdir(parents=True, exist_ok=True)
            kept = folder / f"{name}{suffix}"
            before = self.labels(name).get(folder.name)
            os.replace(path, kept)
            if before is not None and before != kept:
                before.unlink(missing_ok=True)
        return kept

    def status(self) -> dict[str, Any]:
        """How many images there are, and how many have finished labels."""
        tags: dict[str, int] = {}
        images = self.images()
        for name in images:
            for tag in self.labels(name):
                tags[tag] = tags.get(tag, 0) + 1
        return {"total": len(images), "completed": tags.get(FINAL, 0), "label_tags": tags}

    def listing(self) -> dict[str, Any]:
        """Everything, as MONAI Label lists it."""
        objects = {}
        for name, path in self.images().items():
            labels = {
                tag: {"ext": found.name[len(name) :], "info": {"name": found.name}}
                for tag, found in self.labels(name).items()
            }
            image = {"ext": path.name[len(name) :], "info": {"name": path.name}}
            objects[name] = {"image": image, "labels": labels}
        return {"name": self.root.name, "description": "images and labels of limnet serve", "objects": objects}


@contextmanager
def upload(data: bytes, suffix: str, folder: Path) -> Iterator[Path]:
    """A file with the bytes of an upload, hidden and for its owner alone; removed at the end."""
    path = folder / f".{secrets.token_hex(8)}-upload{suffix}"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "wb") as file:
            file.write(data)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise SaveError(f"an upload could not be stored ({error.strerror}): free some space") from error
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def upload_suffix(name: str) -> str:
    """The suffix of an uploaded file; InputError for a format that is not taken."""
    found = max((s for s in _UPLOADED if name.lower().endswith(s)), key=len, default=None)
    if found is None:
        raise InputError(f"files like {name[-20:]!r} are not taken: send {', '.join(_UPLOADED)}")
    return found


def checked_name(name: str) -> str:
    """An id or tag that is safe as part of a file name; InputError for any other."""
    if not _NAME.fullmatch(name) or name.endswith((".", " ")):
        raise InputError(f"{name[:60]!r} is no name for an image or tag: use letters, digits, '_', '-', '.' and blanks")
    return name
