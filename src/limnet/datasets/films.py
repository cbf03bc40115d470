"""Data sets of films: every case is a folder of frames and a folder of masks, read frame by frame."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import LabelledCase, LabelledDataset, Problem
from limnet.datasets.paired import shortened
from limnet.errors import FileFormatError, InputError
from limnet.image.io.pictures import read_picture
from limnet.image.volume import Volume

VOID = 255  # palette index of pixels that nobody decided


@dataclass(frozen=True)
class Film:
    """Files of one case.

    Attributes:
        name: of the case.
        patient: splits keep films of one patient or scene together.
        frames: folder of the pictures.
        masks: folder of the masks.
        files: (picture, mask) file names of every frame that has both, in order.
        labels: ids -> names.
        lone: names without ending of frames or masks that lack their partner, where each should have one.
    """

    name: str
    patient: str
    frames: Path
    masks: Path
    files: tuple[tuple[str, str], ...]
    labels: Mapping[int, str]
    lone: tuple[str, ...] = ()


class FilmSet(LabelledDataset):
    """A data set of films: a subclass lists its files in `films`.

    Images are (T, H, W, 3) of the frames that have a mask, labels (T, H, W); spacing is 1 along every axis. A film is
    read frame by frame; `shrink` keeps long ones small.

    Args:
        root: see the layout.
        fraction: share held out where no split is published.
        seed: of that split.
        shrink: frames are made smaller by this whole factor, masks to the nearest pixel.
    """

    modality: ClassVar[str] = "video"

    def __init__(self, root: Path | str, fraction: float = 0.2, seed: int = 0, shrink: int = 1) -> None:
        if shrink < 1:
            raise InputError(f"shrink is {shrink}; give a whole number of at least 1, such as 2 for half the size")
        self.shrink, self._told = shrink, False
        super().__init__(root, fraction, seed)

    @abstractmethod
    def films(self) -> list[Film]:
        """Every film in a fixed order, without reading frames."""

    def labels_of(self, film: Film) -> Callable[[], NDArray[Any]]:
        """A partial that reads the labels; palette masks unless a subclass says otherwise."""
        return partial(read_palette_masks, film.masks, tuple(mask for _, mask in film.files), self.shrink)

    def check_files(self) -> list[Problem]:
        """What is missing or too many, by names alone."""
        return []

    def all_cases(self) -> list[LabelledCase]:
        """Every film with at least one frame that has a mask; warns once of frames and masks that are left out."""
        films = self.films()
        lone = [f"{film.name}/{stem}" for film in films for stem in film.lone]
        if lone and not self._told:
            self._told = True
            warnings.warn(
                f"{len(lone)} frame(s) in {self.root} lack their picture or mask and are left out: {shortened(lone)}. "
                "Unpack the archives again; limnet data check tells the films"
            )
        return [
            LabelledCase(
                name=film.name,
                patient=film.patient,
                modality=self.modality,
                labels=film.labels,
                read_image=partial(read_film, film.frames, tuple(frame for frame, _ in film.files), self.shrink),
                read_labels=self.labels_of(film),
            )
            for film in films
            if film.files
        ]

    def check(self) -> list[Problem]:
        """Names, then every frame: damage, sizes, labels."""
        problems = self.check_files()
        for film in self.films():
            if not film.files:
                what = f"no frame of {self.short(film.frames)} has a mask in {self.short(film.masks)}"
                problems.append(Problem(film.name, what, "unpack frames and masks again"))
        return problems + super().check()

    def short(self, path: Path) -> str:
        """A path as seen from the root."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def read_film(folder: Path, names: tuple[str, ...], shrink: int = 1) -> Volume:
    """Frames of a folder as one volume, (T, H, W, 3).

    Args:
        folder: of the pictures.
        names: file names in order.
        shrink: whole factor by which frames are made smaller (means of blocks; a rest of rows or columns is cut off).

    Raises:
        MissingFileError: a frame is not there.
        FileFormatError: a damaged frame, or frames of several sizes.
    """
    film: NDArray[np.uint8] | None = None
    for number, name in enumerate(names):
        frame = read_picture(folder / name, palette=False)[0]
        if frame.ndim == 2:
            frame = np.repeat(frame[..., None], 3, axis=-1)
        if frame.dtype != np.uint8:
            raise FileFormatError(f"{folder / name} has {frame.dtype} pixels; frames have 8 bits a channel")
        film = _place(film, number, len(names), _averaged(frame, shrink), folder / name)
    if film is None:
        raise FileFormatError(f"no frames of {folder} were named; unpack the archive again")
    return Volume.from_array(film, source=folder)


def read_palette_masks(
    folder: Path, names: tuple[str, ...], shrink: int = 1, binary: bool = False
) -> NDArray[np.uint8]:
    """Masks of a folder as labels (T, H, W): palette indices, 255 (undecided) as background.

    Args:
        folder: of the masks.
        names: file names in order.
        shrink: the middle pixel of every block is kept.
        binary: all objects are label 1; for masks of 0 and 255. Where there are other values 255 is undecided, too.

    Raises:
        MissingFileError: a mask is not there.
        FileFormatError: damaged, colours in place of indices, or several sizes.
    """
    film: NDArray[np.uint8] | None = None
    for number, name in enumerate(names):
        mask = read_picture(folder / name)[0]
        if mask.ndim == 3 and not binary:
            raise FileFormatError(
                f"{folder / name} holds colours; its palette indices are lost (saved anew by a program that does not "
                "know palettes). Unpack the archive again"
            )
        mask = mask.max(axis=-1) if mask.ndim == 3 else mask
        numbered = not binary or bool(((mask > 0) & (mask < VOID)).any())  # else 255 is the object
        labels = np.where(mask == VOID, 0, mask).astype(np.uint8) if numbered else (mask > 0).astype(np.uint8)
        labels = np.minimum(labels, 1) if binary else labels
        film = _place(film, number, len(names), nearest(labels, shrink), folder / name)
    if film is None:
        raise FileFormatError(f"no masks of {folder} were named; unpack the archive again")
    return film


def nearest(labels: NDArray[Any], shrink: int) -> NDArray[Any]:
    """Every `shrink`-th row and column of labels (H, W), from the middle of the blocks."""
    if shrink == 1:
        return labels
    rows, columns = (side // shrink * shrink for side in labels.shape)
    return labels[shrink // 2 : rows : shrink, shrink // 2 : columns : shrink]


def _averaged(frame: NDArray[np.uint8], shrink: int) -> NDArray[np.uint8]:
    if shrink == 1:
        return frame
    rows, columns = (side // shrink for side in frame.shape[:2])
    blocks = frame[: rows * shrink, : columns * shrink].reshape(rows, shrink, columns, shrink, 3)
    return np.rint(blocks.mean(axis=(1, 3), dtype=np.float32)).astype(np.uint8)


def _place(
    film: NDArray[np.uint8] | None, number: int, count: int, frame: NDArray[np.uint8], path: Path
) -> NDArray[np.uint8]:
    """The film with one more frame in it; made when the first one shows its size."""
    if film is None:
        film = np.empty((count, *frame.shape), np.uint8)
    if film.shape[1:] != frame.shape:
        raise FileFormatError(f"{path} is {frame.shape}, the first frame {film.shape[1:]}. Give frames of one size")
    film[number] = frame
    return film
