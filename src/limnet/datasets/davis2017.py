"""DAVIS 2017: 90 films with several objects each, every frame labelled; pretraining of propagation.

Layout (the root may be `DAVIS`, the folder above, or XMem's `DAVIS/2017/trainval`)::

    DAVIS/JPEGImages/480p/bear/00000.jpg             widths from 854 to about 1140, not constant; also Full-Resolution
    DAVIS/Annotations/480p/bear/00000.png            palette: an index is an object, 255 is undecided
    DAVIS/ImageSets/2017/train.txt                   60 films, val.txt 30; 2016/ has lists of its own (or 480p/)
    DAVIS/Scribbles/                                 not used

Masks must be opened with their palette: a program that writes colours has lost the ids, which is refused. With year
2016 masks have one object, 0 and 255 (XMem's `DAVIS/2016`). Splits: the owner's lists. Films of test-dev have a mask on
their first frame alone and are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from limnet.data.dataset import LabelledCase, Problem
from limnet.data.module import CaseDataModule
from limnet.datasets.expected import absent, read_text
from limnet.datasets.films import Film, FilmSet, read_palette_masks
from limnet.datasets.instances import InstanceNames
from limnet.datasets.pictures import case_name, picture_files
from limnet.errors import InputError

_PLACES = ("", "DAVIS", "2017/trainval", "DAVIS/2017/trainval", "trainval")


class Davis2017Dataset(FilmSet):
    """DAVIS 2017; labels are the objects of a film.

    Args:
        root: see the layout.
        fraction: not used, the split is published.
        seed: not used.
        shrink: see `FilmSet`.
        resolution: "480p" or "Full-Resolution".
        year: 2017, or 2016 for one object a film.

    Raises:
        InputError: another resolution or year.
        MissingFileError: the folder does not look like DAVIS.
    """

    title = "DAVIS 2017"
    licence = "BSD for the toolkit; films for research"
    access = "free download of DAVIS-2017-trainval-480p.zip from https://davischallenge.org"
    layout = (
        "DAVIS/JPEGImages/480p/bear/00000.jpg\nDAVIS/Annotations/480p/bear/00000.png\nDAVIS/ImageSets/2017/train.txt"
    )
    splits = ("train", "val")

    def __init__(
        self,
        root: Path | str,
        fraction: float = 0.2,
        seed: int = 0,
        shrink: int = 1,
        resolution: Literal["480p", "Full-Resolution"] = "480p",
        year: Literal[2017, 2016] = 2017,
    ) -> None:
        if resolution not in ("480p", "Full-Resolution") or year not in (2016, 2017):
            raise InputError(
                f"resolution is {resolution!r} and year {year!r}; allowed are 480p and Full-Resolution, 2016 and 2017"
            )
        self.resolution, self.year = resolution, year
        super().__init__(root, fraction, seed, shrink)

    def find(self) -> None:
        """Look for JPEGImages in the usual places, and read the lists of films."""
        places = (
            [self.root / str(place).replace("2017/trainval", "2016") for place in _PLACES] if self.year == 2016 else []
        )
        places += [self.root / place for place in _PLACES]
        base = next((place for place in places if (place / "JPEGImages" / self.resolution).is_dir()), None)
        if base is None:
            raise self.missing(f"there is no JPEGImages/{self.resolution} in {self.root}")
        self.frames, self.masks = (base / name / self.resolution for name in ("JPEGImages", "Annotations"))
        self.listed: dict[str, str] = {}
        lists = [base / "ImageSets" / str(self.year)]
        if self.year == 2016:  # as DAVIS 2016 is shipped, and as XMem has it
            lists += [base / "ImageSets" / "480p", base.parent / "2017" / "trainval" / "ImageSets" / "2016"]
        folder = next((place for place in lists if (place / f"{self.splits[0]}.txt").is_file()), lists[0])
        for split in self.splits:
            path = folder / f"{split}.txt"
            if not path.is_file():
                where = path.relative_to(base) if path.is_relative_to(base) else path
                raise self.missing(f"there is no {where} in {base}")
            for line in read_text(path).splitlines():
                if line.strip():  # 2016 lists frames: /JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png
                    first = line.split()[0]
                    self.listed.setdefault(Path(first).parent.name if "/" in first else first, split)

    def films(self) -> list[Film]:
        """Films of the lists that have frames."""
        found = []
        for name in sorted(self.listed):
            frames, masks = picture_files(self.frames / name, ".jpg"), picture_files(self.masks / name, ".png")
            if frames or masks:
                files = tuple((frames[stem].name, masks[stem].name) for stem in frames if stem in masks)
                lone = tuple(sorted(frames.keys() ^ masks.keys()))
                labels = InstanceNames(("object", 1, 1 if self.year == 2016 else 254))
                found.append(Film(case_name(name), name, self.frames / name, self.masks / name, files, labels, lone))
        return found

    def labels_of(self, film: Film) -> Callable[[], NDArray[Any]]:
        """Palette indices; 0 and 1 for 2016."""
        names = tuple(mask for _, mask in film.files)
        return partial(read_palette_masks, film.masks, names, self.shrink, self.year == 2016)

    def split_of(self, case: LabelledCase) -> str | None:
        """By the lists."""
        return self.listed.get(case.patient)

    def check_files(self) -> list[Problem]:
        """Films of the lists, and frames without a mask."""
        problems = absent(self.listed, {f.patient for f in self.films()}, f"ImageSets/{self.year}", self.access)
        for film in self.films():
            frames, masks = len(picture_files(film.frames, ".jpg")), len(picture_files(film.masks, ".png"))
            if not len(film.files) == frames == masks:
                what = f"{frames} frames and {masks} masks, {len(film.files)} of them pairs"
                problems.append(Problem(film.name, what, "every frame should have a mask: unpack the archive again"))
        return problems


class Davis2017DataModule(CaseDataModule):
    """Training clips and whole cases of DAVIS 2017."""

    dataset_class = Davis2017Dataset
