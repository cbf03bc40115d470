"""Data sets of pictures and videos: a picture is a volume of one slice, a video one whose slices are its frames.

Readers raise MissingFileError for what is not there and FileFormatError for what is damaged.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import BY_HASH, CaseFiles, LabelledCase, LabelledDataset, Problem
from limnet.data.files import by_stem, case_name, pairs_by_stem, shortened, smallest_unsigned
from limnet.errors import FileFormatError, InputError
from limnet.image.io.pictures import read_picture
from limnet.image.volume import Volume

OBJECT: Mapping[int, str] = {1: "object"}
VOID = 255  # palette index of void pixels, which the owner left undecided


class PictureDataset(LabelledDataset):
    """A data set of single pictures with one mask file for each object.

    Images are (1, H, W, 3), or (1, H, W) where the file is gray, labels (1, H, W). Decoded copies of pictures are not
    kept in the cache: reading one costs little, and there are many.

    Attributes:
        above: a pixel belongs to the object if a channel of the mask file (0..255) is above this.
        images: folders in which the pictures may lie.
        masks: name of the folder of the masks beside it, in which each mask is one case.
        mask_kinds: suffixes, and `ending`: see `pairs_by_stem`.
        split: of all these cases.
    """

    labels = OBJECT
    cached = False
    above: ClassVar[int] = 128
    images: ClassVar[tuple[str, ...]] = ()
    masks: ClassVar[str] = ""
    mask_kinds: ClassVar[tuple[str, ...]] = ()
    ending: ClassVar[str] = ""
    split: ClassVar[str] = BY_HASH

    def list_files(self) -> Iterable[CaseFiles]:
        """A case for each mask, also for pictures without one, in the order of their names."""
        images = self.first_folder(*self.images)
        masks = images.with_name(self.masks)
        if not masks.is_dir():
            raise self.missing(f"there is no {masks.name} in {masks.parent}")
        pairs = pairs_by_stem(images, masks, (), self.mask_kinds, self.ending)
        cases = [CaseFiles(case_name(m), stem, image, (mask,), "photo", self.split) for m, stem, image, mask in pairs]
        return sorted(cases, key=lambda case: case.name)

    def image_of(self, files: CaseFiles) -> Callable[[], Volume]:
        """A partial of `read_photo`."""
        return partial(read_photo, files.image)

    def labels_of(self, files: CaseFiles) -> Callable[[], NDArray[Any]]:
        """A partial of `read_objects`."""
        return partial(read_objects, files.masks, self.above)


@dataclass(eq=False, repr=False)
class VideoDataset(LabelledDataset):
    """A data set of videos: folders of frames and folders of masks.

    Images are (T, H, W, 3) of the frames that have a mask, labels (T, H, W); spacing is 1 along every axis. `shrink` is
    a whole factor by which frames are made smaller, masks to the nearest pixel.
    """

    shrink: int = 1
    _lone_told = False

    def __post_init__(self) -> None:
        if self.shrink < 1:
            raise InputError(f"shrink is {self.shrink}; give a whole number of at least 1, such as 2 for half the size")
        super().__post_init__()

    def image_of(self, files: CaseFiles) -> Callable[[], Volume]:
        """A partial of `read_video`."""
        return partial(read_video, files.image, tuple(frame for frame, _ in files.frames or ()), self.shrink)

    def labels_of(self, files: CaseFiles) -> Callable[[], NDArray[Any]]:
        """A partial of `read_palette_masks`."""
        return partial(read_palette_masks, files.masks[0], tuple(mask for _, mask in files.frames or ()), self.shrink)

    def all_cases(self) -> list[LabelledCase]:
        """Every video with at least one frame that has a mask; warns once of frames and masks that are left out."""
        lone = [f"{video.name}/{stem}" for video in self.files for stem in video.lone]
        if lone and not self._lone_told:
            warnings.warn(
                f"{len(lone)} frame(s) in {self.root} lack their picture or mask and are left out: {shortened(lone)}. "
                "Unpack the archives again; limnet data check tells the videos"
            )
        self._told = self._lone_told = True
        return super().all_cases()

    def lacking(self, files: CaseFiles) -> tuple[str, str]:
        """What is wrong with a video without a frame that has a mask, and what to do."""
        what = f"no frame of {self.short(files.image)} has a mask in {self.short(files.masks[0])}"
        return what, "unpack frames and masks again"

    def check_frames(self, video: CaseFiles) -> list[Problem]:
        """A problem where not every frame has a mask, and every mask a frame."""
        if not video.lone:
            return []
        frames, masks = (len(by_stem(folder)) for folder in (video.image, video.masks[0]))
        what = f"{frames} frames and {masks} masks, {len(video.frames or ())} of them pairs"
        return [Problem(video.name, what, "unpack the archive again; frames without a mask are left out")]


def video_files(
    name: str,
    folders: tuple[Path, Path],
    labels: Mapping[int, str],
    modality: str,
    split: str | None = BY_HASH,
    every: bool = True,
) -> CaseFiles:
    """Frames and masks of one video in their two folders, paired by their names without suffix.

    `name` is its patient, too. With `every` each frame should have a mask; else those without one are none of it.
    """
    images, masks = (by_stem(folder) for folder in folders)
    frames = tuple((images[stem].name, mask.name) for stem, mask in masks.items() if stem in images)
    lone = tuple(sorted(images.keys() ^ masks.keys() if every else masks.keys() - images.keys()))
    return CaseFiles(case_name(name), name, folders[0], folders[1:], modality, split, labels, frames=frames, lone=lone)


def read_photo(path: Path) -> Volume:
    """A picture as a volume of one slice, (1, H, W, 3) or, if the file is gray, (1, H, W)."""
    return Volume.from_array(_single(path)[None], source=path)


def _single(path: Path, palette: bool = False) -> NDArray[Any]:
    """Pixels (H, W) or (H, W, 3) of a file that holds one picture."""
    pixels = read_picture(path, palette)
    if len(pixels) > 1:
        raise FileFormatError(f"{path} holds {len(pixels)} pictures, one is expected; the data set folder reads stacks")
    return pixels[0]


def read_objects(paths: tuple[Path, ...], above: int = 128) -> NDArray[Any]:
    """Masks of objects, one file each, as one label map: unsigned (1, H, W).

    File k (from 1) becomes label k; where masks overlap the later one stays. A pixel belongs to the object if the
    largest of its channels, 0..255, is above `above`: edges of masks are soft in many sets, JPEG or anti-aliasing.
    FileFormatError for masks of several sizes.
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
    """The largest channel of every pixel, uint8 (H, W) 0..255; palettes become their colours, alpha is dropped."""
    pixels = _single(path)
    if pixels.ndim == 3:
        pixels = pixels.max(axis=-1)
    return np.clip(pixels >> 8 if pixels.dtype == np.uint16 else pixels, 0, 255).astype(np.uint8)


def read_instances(path: Path, least: int) -> NDArray[Any]:
    """A 16-bit map of instances (PNG, TIFF), integers (1, H, W), values below `least` as background.

    FileFormatError for colours, or 8 bits where ids need more.
    """
    pixels = _single(path, palette=True)[None]
    if pixels.ndim != 3 or pixels.dtype.itemsize < 2:
        raise FileFormatError(
            f"{path} is {pixels.dtype} {pixels.shape[1:]}: ids from {least} need a gray picture of 16 bits. It was "
            "saved anew with fewer; unpack the archive again"
        )
    return smallest_unsigned(np.where(pixels >= least, pixels, 0))


def stack_frames(paths: Iterable[Path], count: int, read: Callable[[Path], NDArray[Any]]) -> NDArray[np.uint8]:
    """What `read` makes of files, uint8, in one array; FileFormatError for no file, or frames of several sizes."""
    video: NDArray[np.uint8] | None = None
    for number, path in enumerate(paths):
        frame = read(path)
        if video is None:
            video = np.empty((count, *frame.shape), np.uint8)
        if video.shape[1:] != frame.shape:
            raise FileFormatError(
                f"{path} is {frame.shape}, the first frame {video.shape[1:]}. Give frames of one size"
            )
        video[number] = frame
    if video is None:
        raise FileFormatError("no frame or mask was named; unpack the archive again")
    return video


def read_video(folder: Path, names: tuple[str, ...], shrink: int = 1) -> Volume:
    """Frames of a folder as one volume, (T, H, W, 3), by file names in order.

    `shrink` is a whole factor by which frames are made smaller (means of blocks; a rest of rows or columns is cut off).
    FileFormatError for frames of several sizes.
    """

    def read(path: Path) -> NDArray[Any]:
        frame = read_colours(path)
        if frame.dtype != np.uint8:
            raise FileFormatError(f"{path} has {frame.dtype} pixels; frames have 8 bits a channel")
        if shrink == 1:
            return frame
        rows, columns = (side // shrink for side in frame.shape[:2])
        blocks = frame[: rows * shrink, : columns * shrink].reshape(rows, shrink, columns, shrink, 3)
        return np.rint(blocks.mean(axis=(1, 3), dtype=np.float32)).astype(np.uint8)

    return Volume.from_array(stack_frames((folder / name for name in names), len(names), read), source=folder)


def read_colours(path: Path) -> NDArray[Any]:
    """A picture as (H, W, 3), gray ones too; alpha is dropped."""
    pixels = read_picture(path, palette=False)[0]
    return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels


def read_palette_masks(
    folder: Path, names: tuple[str, ...], shrink: int = 1, binary: bool = False
) -> NDArray[np.uint8]:
    """Masks of a folder as labels (T, H, W): palette indices, 255 (void) as background.

    With `shrink` the middle pixel of every block is kept. `binary` makes all objects label 1, for masks of 0 and 255;
    where there are other values 255 is void, too. FileFormatError for colours in place of indices, or several sizes.
    """

    def read(path: Path) -> NDArray[Any]:
        mask = read_picture(path)[0]
        if mask.ndim == 3 and not binary:
            raise FileFormatError(
                f"{path} holds colours; its palette indices are lost (saved anew by a program that does not know "
                "palettes). Unpack the archive again"
            )
        mask = mask.max(axis=-1) if mask.ndim == 3 else mask
        numbered = not binary or bool(((mask > 0) & (mask < VOID)).any())  # else 255 is the object
        labels = np.where(mask == VOID, 0, mask).astype(np.uint8) if numbered else (mask > 0).astype(np.uint8)
        return nearest(np.minimum(labels, 1) if binary else labels, shrink)

    return stack_frames((folder / name for name in names), len(names), read)


def nearest(labels: NDArray[Any], shrink: int) -> NDArray[Any]:
    """Every `shrink`-th row and column of labels (H, W), from the middle of the blocks."""
    if shrink == 1:
        return labels
    rows, columns = (side // shrink * shrink for side in labels.shape)
    return labels[shrink // 2 : rows : shrink, shrink // 2 : columns : shrink]
