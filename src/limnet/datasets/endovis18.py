"""EndoVis18, 2018 Robotic Scene Segmentation: surgical films with tissues, instruments, thread and needle by class.

Layout as unpacked, all releases side by side in the root; doubled folder names, `seq_1-<stamp>-001/seq_1` of drive
downloads and `__MACOSX` shadows are coped with::

    miccai_challenge_2018_release_1/seq_1/left_frames/frame000.png     1280 x 1024; also right_frames, not labelled
    miccai_challenge_2018_release_1/seq_1/labels/frame000.png          colours, RGB or RGBA
    miccai_challenge_2018_release_1/labels.json                        [{"name", "color", "classid"}, ...]
    repairs/seq_1_frame042.png                                         corrected labels, replace those of release 1
    test_data/seq_1/...                                                with labels.json {"classes": [... RGBA ...]}

Training sequences are 1-7 and 9-16 (there is no 8), 149 frames each; test sequences 1-4, about 250 each, in a folder
with a word that begins with "test" in its name. Both have 1-4, so cases are called "train_seq_1" and "test_seq_1".
Class numbers here are those of the challenge whatever a labels.json says; its colours are used, and the published ones
where there is none. Colours of no class are refused. Splits: protocol "scene" trains on all 15 and holds out none,
"isinet" holds out training sequences 2, 5, 9 and 15 as val; test is the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import CaseFiles, Problem, numbered
from limnet.data.files import by_stem, read_json, walk
from limnet.data.module import data_module
from limnet.data.pictures import VideoDataset, nearest, read_colours, stack_frames, video_files
from limnet.errors import FileFormatError
from limnet.image.io.reading import explained

Colour = tuple[int, int, int]

TRAINING = (*range(1, 8), *range(9, 17))
TEST = (1, 2, 3, 4)
FRAMES = 149  # of a training sequence
_DEEPEST = 4  # folders between the root and a sequence, at most
ISINET_HELD_OUT = frozenset((2, 5, 9, 15))
CLASSES = numbered(
    "instrument-shaft, instrument-clasper, instrument-wrist, kidney-parenchyma, covered-kidney, thread, "
    "clamps, suturing-needle, suction-instrument, small-intestine, ultrasound-probe"
)
COLOURS: dict[Colour, int] = {
    (0, 0, 0): 0,
    (0, 255, 0): 1,
    (0, 255, 255): 2,
    (125, 255, 12): 3,
    (255, 55, 0): 4,
    (24, 55, 125): 5,
    (187, 155, 25): 6,
    (128, 155, 25): 6,  # so in one public reader
    (0, 255, 125): 7,
    (255, 255, 125): 8,
    (123, 15, 175): 9,
    (124, 155, 5): 10,
    (12, 255, 141): 11,
}
_NUMBERS = {"background-tissue": 0, "background": 0, **{name: number for number, name in CLASSES.items()}}
_NUMBERS["intestine"] = 10


@dataclass(eq=False, repr=False)
class EndoVis18Dataset(VideoDataset):
    """EndoVis18, by a protocol, "scene" or "isinet"; a case is a sequence, labels are the eleven classes.

    A training sequence takes 590 MB in memory as it is, a quarter with `shrink=2`.
    """

    title = "EndoVis18 (2018 Robotic Scene Segmentation)"
    licence = "non-commercial, rules of the challenge (often cited as CC BY-NC-SA 4.0)"
    access = "registration and signed rules: https://endovissub2018-roboticscenesegmentation.grand-challenge.org"
    splits = ("train", "val", "test")
    choices: ClassVar = {"protocol": ("scene", "isinet")}
    protocol: Literal["scene", "isinet"] = "scene"

    def list_files(self) -> Iterable[CaseFiles]:
        """Sequences down to four folders below the root in the order of their numbers, training first."""
        sequences: dict[tuple[bool, int], Path] = {}
        self.double: list[tuple[Path, Path]] = []
        self.repairs: dict[tuple[str, str], Path] = {}
        for folder, files in walk(self.root, self._is_above_a_sequence):
            if (match := re.fullmatch(r"seq_(\d+)", folder.name)) and (folder / "left_frames").is_dir():
                first = sequences.setdefault((self._is_test(folder), int(match[1])), folder)
                self.double += [(first, folder)] if first != folder else []
            for file in files:
                if repaired := re.fullmatch(r"seq_(\d+)_(frame\d+)\.png", file.name):
                    self.repairs[f"train_seq_{int(repaired[1])}", f"{repaired[2]}.png"] = file
        if not sequences:
            raise self.missing(f"there is no seq_#/left_frames in {self.root}")
        self.colours = {folder: self._colours_near(folder) for folder in sequences.values()}
        for (test, number), folder in sorted(sequences.items()):
            name = split = "test" if test else "train"
            if self.protocol == "isinet" and not test and number in ISINET_HELD_OUT:
                split = "val"
            folders = folder / "left_frames", folder / "labels"
            yield video_files(f"{name}_seq_{number}", folders, CLASSES, "endoscopy", split)

    def labels_of(self, files: CaseFiles) -> Callable[[], NDArray[Any]]:
        """Classes by colour, corrected masks first."""
        folder = files.masks[0]
        paths = tuple(self.repairs.get((files.name, mask), folder / mask) for _, mask in files.frames or ())
        return partial(read_colour_masks, paths, self.colours[folder.parent], self.shrink)

    def check_files(self) -> list[Problem]:
        """Sequences, numbers of frames, corrections without a mask."""
        problems = []
        folders = {video.name: video.image.parent for video in self.files}
        for part, numbers in (("train", TRAINING), ("test", TEST)):
            if lost := [name for number in numbers if (name := f"{part}_seq_{number}") not in folders]:
                what = f"{len(lost)} of {len(numbers)} {part} sequences are missing: {', '.join(lost)}"
                problems.append(Problem("", what, f"get them: {self.access}"))
        names = {folder: name for name, folder in folders.items()}
        for first, second in self.double:
            what = f"there is a second one in {self.short(second)}"
            problems.append(Problem(names[first], what, f"{self.short(first)} is used; take one away"))
        for video in self.files:
            number = len(by_stem(video.image))
            problems += self.check_frames(video)
            if not video.lone and video.name.startswith("train") and number != FRAMES:
                what = f"{number} frames, released are {FRAMES}"
                problems.append(Problem(video.name, what, "unpack the archive again"))
        for (name, file), path in self.repairs.items():
            if name in folders and not (folders[name] / "labels" / file).is_file():
                what = f"{self.short(path)} corrects a mask that is not there"
                problems.append(Problem(name, what, "unpack the release again"))
        return problems

    def _is_above_a_sequence(self, folder: Path) -> bool:
        """Whether sequences may lie in a folder: down to four below the root, and not in a sequence itself."""
        if (folder.parent / "left_frames").is_dir():
            return False
        return len(folder.relative_to(self.root).parts) <= _DEEPEST

    def _is_test(self, folder: Path) -> bool:
        """Whether a word of a folder above, or the root's name (Test data and label release), begins with "test"."""
        above = folder.relative_to(self.root).parts[:-1]
        return self.root.name.lower().startswith("test") or any(re.search(r"(?<![a-z])test", n.lower()) for n in above)

    def _colours_near(self, folder: Path) -> tuple[tuple[Colour, int], ...]:
        """Colours of the labels.json nearest to a sequence, on the way up to the root; the published ones without."""
        for place in (folder, *folder.parents):
            if (place / "labels.json").is_file():
                return tuple(read_colour_table(place / "labels.json", _NUMBERS).items())
            if place == self.root:
                break
        return tuple(COLOURS.items())


def read_colour_table(path: Path, numbers: Mapping[str, int]) -> dict[Colour, int]:
    """Colour -> label of a JSON table of classes, given the labels of their names.

    Entries have "name" (compared in lower case with "-" for "_" and blanks) and "color" of three or four numbers (alpha
    is dropped), in a list or {"classes": [...]}. FileFormatError for another form, or a class of no known name.
    """
    content, found = read_json(path), {}
    with explained(path, "It should be a table of classes with name and color: copy it again"):
        for entry in content["classes"] if isinstance(content, dict) else content:
            name = str(entry["name"]).strip().lower().replace("_", "-").replace(" ", "-")
            red, green, blue = (int(value) for value in entry["color"][:3])
            if name not in numbers:
                raise FileFormatError(
                    f"{path} names class {name!r}; known are {', '.join(numbers)}. Is it another set?"
                )
            found[red, green, blue] = numbers[name]
    return found


def read_colour_masks(
    paths: tuple[Path, ...], colours: tuple[tuple[Colour, int], ...], shrink: int = 1
) -> NDArray[np.uint8]:
    """Masks of a video by colour as labels (T, H, W), read one after the other; alpha is dropped.

    `colours` are (colour, label) of every class; with `shrink` the middle pixel of every block is kept. FileFormatError
    for several sizes, or a colour of no class.
    """
    keys, labels = (np.array(part) for part in zip(*sorted((_key(colour), n) for colour, n in colours), strict=True))

    def read(path: Path) -> NDArray[Any]:
        pixels = nearest(_key(read_colours(path)), shrink)
        place = np.minimum(np.searchsorted(keys, pixels), len(keys) - 1)
        strange = pixels[keys[place] != pixels]
        if strange.size:
            values, counts = np.unique(strange, return_counts=True)
            value = int(values[counts.argmax()])
            raise FileFormatError(
                f"{path} has {strange.size} pixels in {len(values)} colour(s) of no class, such as "
                f"{(value >> 16, value >> 8 & 255, value & 255)}. It was resized with interpolation or saved with "
                "loss, or labels.json is of another release: unpack the archive again"
            )
        return labels[place]

    return stack_frames(paths, len(paths), read)


def _key(pixels: Any) -> Any:
    """Colours (..., 3) as one number each."""
    red, green, blue = np.moveaxis(np.asarray(pixels, np.int32), -1, 0)
    return (red << 16) | (green << 8) | blue


EndoVis18DataModule = data_module(EndoVis18Dataset)
