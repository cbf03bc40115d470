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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from numpy.typing import NDArray

from limnet.data.dataset import LabelledCase, Problem
from limnet.data.module import CaseDataModule
from limnet.datasets.class_colours import Colour, read_colour_masks, read_colour_table
from limnet.datasets.films import Film, FilmSet
from limnet.datasets.pictures import picture_files
from limnet.datasets.walk import walk
from limnet.errors import InputError

TRAINING = (*range(1, 8), *range(9, 17))
TEST = (1, 2, 3, 4)
FRAMES = 149  # of a training sequence
_DEEPEST = 4  # folders between the root and a sequence, at most
ISINET_HELD_OUT = frozenset((2, 5, 9, 15))
CLASSES: dict[int, str] = {
    1: "instrument-shaft",
    2: "instrument-clasper",
    3: "instrument-wrist",
    4: "kidney-parenchyma",
    5: "covered-kidney",
    6: "thread",
    7: "clamps",
    8: "suturing-needle",
    9: "suction-instrument",
    10: "small-intestine",
    11: "ultrasound-probe",
}
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


class EndoVis18Dataset(FilmSet):
    """EndoVis18; a case is a sequence, labels are the eleven classes.

    Args:
        root: see the layout.
        fraction: not used, splits are published.
        seed: not used.
        shrink: see `FilmSet`; a training sequence takes 590 MB in memory as it is, a quarter with 2.
        protocol: "scene" or "isinet".

    Raises:
        InputError: another protocol.
        MissingFileError: the folder does not look like it.
        FileFormatError: a labels.json that is not as described.
    """

    title = "EndoVis18 (2018 Robotic Scene Segmentation)"
    licence = "non-commercial, rules of the challenge (often cited as CC BY-NC-SA 4.0)"
    access = "registration and signed rules: https://endovissub2018-roboticscenesegmentation.grand-challenge.org"
    layout = (
        "miccai_challenge_2018_release_1/seq_1/left_frames/frame000.png\n"
        "miccai_challenge_2018_release_1/seq_1/labels/frame000.png\nmiccai_challenge_2018_release_1/labels.json\n"
        "(releases 1-4) repairs/seq_1_frame042.png\ntest_data/seq_1/left_frames/frame000.png (and labels)"
    )
    splits = ("train", "val", "test")
    modality: ClassVar[str] = "endoscopy"

    def __init__(
        self,
        root: Path | str,
        fraction: float = 0.2,
        seed: int = 0,
        shrink: int = 1,
        protocol: Literal["scene", "isinet"] = "scene",
    ) -> None:
        if protocol not in ("scene", "isinet"):
            raise InputError(f"protocol is {protocol!r}; allowed are scene and isinet")
        self.protocol = protocol
        super().__init__(root, fraction, seed, shrink)

    def find(self) -> None:
        """Look for sequences and corrected labels down to four folders below the root."""
        self.sequences: dict[str, Path] = {}
        self.double: list[tuple[str, Path]] = []
        self.repairs: dict[tuple[str, str], Path] = {}
        for folder, files in walk(self.root, self._is_above_a_sequence):
            if (match := re.fullmatch(r"seq_(\d+)", folder.name)) and (folder / "left_frames").is_dir():
                part = "test" if self._is_test(folder) else "train"
                name = f"{part}_seq_{int(match[1])}"
                if name in self.sequences:
                    self.double.append((name, folder))
                else:
                    self.sequences[name] = folder
            for file in files:
                if repaired := re.fullmatch(r"seq_(\d+)_(frame\d+)\.png", file.name):
                    self.repairs[f"train_seq_{int(repaired[1])}", f"{repaired[2]}.png"] = file
        if not self.sequences:
            raise self.missing(f"there is no seq_#/left_frames in {self.root}")
        self.colours = {name: self._colours_near(folder) for name, folder in self.sequences.items()}

    def films(self) -> list[Film]:
        """Sequences in the order of their numbers, training first."""
        found = []
        for name in sorted(self.sequences, key=_order):
            folder = self.sequences[name]
            frames, masks = picture_files(folder / "left_frames", ".png"), picture_files(folder / "labels", ".png")
            files = tuple((frames[stem].name, masks[stem].name) for stem in frames if stem in masks)
            lone = tuple(sorted(frames.keys() ^ masks.keys()))
            found.append(Film(name, name, folder / "left_frames", folder / "labels", files, CLASSES, lone))
        return found

    def labels_of(self, film: Film) -> Callable[[], NDArray[Any]]:
        """Classes by colour, corrected masks first."""
        paths = tuple(self.repairs.get((film.name, mask), film.masks / mask) for _, mask in film.files)
        return partial(read_colour_masks, paths, self.colours[film.name], self.shrink)

    def split_of(self, case: LabelledCase) -> str | None:
        """By folder and protocol."""
        part, _, number = case.name.partition("_seq_")
        if part == "train" and self.protocol == "isinet" and int(number) in ISINET_HELD_OUT:
            return "val"
        return part

    def check_files(self) -> list[Problem]:
        """Sequences, numbers of frames, corrections without a mask."""
        problems = []
        wanted = {"train": [f"train_seq_{n}" for n in TRAINING], "test": [f"test_seq_{n}" for n in TEST]}
        for part, names in wanted.items():
            if lost := [name for name in names if name not in self.sequences]:
                what = f"{len(lost)} of {len(names)} {part} sequences are missing: {', '.join(lost)}"
                problems.append(Problem("", what, f"get them: {self.access}"))
        for name, folder in self.double:
            what = f"there is a second one in {self.short(folder)}"
            problems.append(Problem(name, what, f"{self.short(self.sequences[name])} is used; take one away"))
        for film in self.films():
            number = len(picture_files(film.frames, ".png"))
            masks = len(picture_files(film.masks, ".png"))
            if not number == masks == len(film.files):
                what = f"{number} frames and {masks} masks, {len(film.files)} of them pairs"
                problems.append(
                    Problem(film.name, what, "unpack the archive again; frames without a mask are left out")
                )
            elif film.name.startswith("train") and number != FRAMES:
                problems.append(
                    Problem(film.name, f"{number} frames, released are {FRAMES}", "unpack the archive again")
                )
        for (name, file), path in self.repairs.items():
            if name in self.sequences and not (self.sequences[name] / "labels" / file).is_file():
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


def _order(name: str) -> tuple[bool, int]:
    part, _, number = name.partition("_seq_")
    return part == "test", int(number)


class EndoVis18DataModule(CaseDataModule):
    """Training clips and whole cases of EndoVis18."""

    dataset_class = EndoVis18Dataset
