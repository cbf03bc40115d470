"""Data sets of single pictures: every case is a picture and the masks of its objects, a volume of one slice."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limnet.data.cache import smallest_unsigned
from limnet.data.dataset import LabelledCase, LabelledDataset, Problem
from limnet.datasets.files import image_suffix
from limnet.datasets.paired import warn_left_out
from limnet.errors import FileFormatError
from limnet.image.io.pictures import PICTURES, natural, read_picture
from limnet.image.volume import Volume

OBJECT: Mapping[int, str] = {1: "object"}


@dataclass(frozen=True)
class Picture:
    """Files of one case.

    Attributes:
        name: of the case, see `case_name`.
        patient: splits keep pictures of one patient, scene or film together.
        image: the picture.
        masks: its mask files, whether there or not.
        labels: ids -> names.
        modality: one of `limnet.data.dataset.MODALITIES`.
    """

    name: str
    patient: str
    image: Path
    masks: tuple[Path, ...]
    labels: Mapping[int, str] = field(default_factory=lambda: OBJECT)
    modality: str = "photo"


class PictureSet(LabelledDataset):
    """A data set of single pictures: a subclass lists its files in `pictures`.

    Images are (1, H, W, 3), or (1, H, W) where the file is gray, labels (1, H, W). Decoded copies of pictures are not
    kept in the cache: reading one costs little, and there are many.

    Attributes:
        above: a pixel belongs to the object if a channel of the mask file (0..255) is above this.
    """

    above: ClassVar[int] = 128
    _told = False

    @abstractmethod
    def pictures(self) -> list[Picture]:
        """Files of every case in a fixed order; also those of which a file is missing."""

    def check_files(self) -> list[Problem]:
        """What is missing or too many, by names alone."""
        return []

    def labels_of(self, picture: Picture) -> Callable[[], NDArray[Any]]:
        """A partial that reads the labels."""
        return partial(read_objects, picture.masks, self.above)

    def all_cases(self) -> list[LabelledCase]:
        """Every case of which all files are there; warns once if there are others."""
        whole: list[Picture] = []
        lost: list[str] = []
        for picture in self.pictures():
            if picture.image.is_file() and all(mask.is_file() for mask in picture.masks):
                whole.append(picture)
            else:
                lost.append(picture.name)
        if lost and not self._told:
            self._told = True
            warn_left_out(lost, len(whole) + len(lost), self.root)
        return [
            LabelledCase(
                name=picture.name,
                patient=picture.patient,
                modality=picture.modality,
                labels=picture.labels,
                read_image=partial(read_photo, picture.image),
                read_labels=self.labels_of(picture),
                cached=False,
            )
            for picture in whole
        ]

    def check(self) -> list[Problem]:
        """Names, then every file: damage, sizes, labels."""
        self._told = True  # the problems say it
        problems = self.check_files()
        for picture in self.pictures():
            lost = [path for path in picture.masks if not path.is_file()]
            if not picture.image.is_file():
                what = f"a mask without a picture: no {self.short(picture.image)}"
                problems.append(Problem(picture.name, what, "add the picture, or take the mask away"))
            elif lost:
                what = f"a picture without a mask: no {self.short(lost[0])}"
                problems.append(Problem(picture.name, what, "add the mask, or take the picture away"))
        return problems + super().check()

    def short(self, path: Path) -> str:
        """A path as seen from the root."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def first_folder(self, *names: str) -> Path:
        """The first of these folders below the root that is there.

        Raises:
            MissingFileError: none is.
        """
        for name in names:
            if (self.root / name).is_dir():
                return self.root / name
        raise self.missing(f"there is no {' or '.join(names)} in {self.root}")


def case_name(*parts: str) -> str:
    """A name for a case out of parts of its path: characters awkward in file names become "_"."""
    name = re.sub(r"[^\w.+=@-]+", "_", "_".join(parts))
    return name if re.match(r"\w", name) else f"_{name}"


def picture_files(folder: Path, *suffixes: str) -> dict[str, Path]:
    """Stem -> picture file of a folder in natural order (2 before 10), whatever the case of the suffix.

    Hidden files, among them those of macOS (`._x.jpg`), are left out. Empty if there is no such folder.

    Args:
        folder: looked at itself, not below.
        suffixes: allowed ones, such as ".jpg"; all of pictures by default.
    """
    if not folder.is_dir():
        return {}
    wanted = suffixes or PICTURES
    found = sorted((p for p in folder.iterdir() if image_suffix(p) in wanted), key=natural)
    return {path.name[: -len(path.suffix)]: path for path in found}


def read_photo(path: Path) -> Volume:
    """A picture as a volume of one slice, (1, H, W, 3) or, if the file is gray, (1, H, W).

    Raises:
        MissingFileError: not there.
        FileFormatError: damaged.
    """
    return Volume.from_array(_single(path, palette=False)[None], source=path)


def _single(path: Path, palette: bool) -> NDArray[Any]:
    """Pixels (H, W) or (H, W, 3) of a file that holds one picture."""
    pixels = read_picture(path, palette)
    if len(pixels) > 1:
        raise FileFormatError(f"{path} holds {len(pixels)} pictures, one is expected; the data set folder reads stacks")
    return pixels[0]


def read_objects(paths: tuple[Path, ...], above: int = 128) -> NDArray[Any]:
    """Masks of objects, one file each, as one label map.

    Args:
        paths: file k of them (from 1) becomes label k; where masks overlap the later one stays.
        above: a pixel belongs to the object if its value, the largest of its channels on a scale of 0..255, is above
            this. Edges of masks are soft in many sets, JPEG or anti-aliasing.

    Returns:
        uint8 (1, H, W), or uint16 from 256 masks on.

    Raises:
        FileFormatError: damaged, or masks of several sizes.
    """
    labels: NDArray[Any] | None = None
    for number, path in enumerate(paths, 1):
        inside = brightness(path) > above
        if labels is None:
            labels = np.zeros((1, *inside.shape), np.uint8 if len(paths) < 256 else np.uint16)
        elif labels.shape[1:] != inside.shape:
            raise FileFormatError(f"{path} is {inside.shape}, {paths[0].name} {labels.shape[1:]}. Copy both again")
        labels[0][inside] = number
    if labels is None:
        raise FileFormatError("no mask file was given; name at least one")
    return labels


def brightness(path: Path) -> NDArray[np.uint8]:
    """The largest channel of every pixel, uint8 (H, W) 0..255; palettes become their colours, alpha is dropped.

    Raises:
        MissingFileError: not there.
        FileFormatError: damaged.
    """
    pixels = _single(path, palette=False)
    if pixels.ndim == 3:
        pixels = pixels.max(axis=-1)
    if pixels.dtype == np.uint16:
        return (pixels >> 8).astype(np.uint8)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def read_instances(path: Path, least: int) -> NDArray[Any]:
    """A 16-bit map of instances.

    Args:
        path: PNG or TIFF.
        least: smaller values are background.

    Returns:
        Integers (1, H, W), values as stored.

    Raises:
        FileFormatError: damaged, colours, or 8-bit where ids need more.
    """
    pixels = _single(path, palette=True)[None]
    if pixels.ndim != 3 or pixels.dtype.itemsize < 2:
        raise FileFormatError(
            f"{path} is {pixels.dtype} {pixels.shape[1:]}: ids from {least} need a gray picture of 16 bits. It was "
            "saved anew with fewer; unpack the archive again"
        )
    return smallest_unsigned(np.where(pixels >= least, pixels, 0))
