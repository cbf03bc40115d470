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

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from numpy.typing import NDArray

from limnet.data.dataset import CaseFiles, InstanceNames, Problem
from limnet.data.files import read_text
from limnet.data.module import data_module
from limnet.data.pictures import VideoDataset, read_palette_masks, video_files

_PLACES = ("", "DAVIS", "2017/trainval", "DAVIS/2017/trainval", "trainval")


@dataclass(eq=False, repr=False)
class Davis2017Dataset(VideoDataset):
    """DAVIS 2017, in a `resolution`, or with `year` 2016 and one object a film; labels are the objects of a film."""

    title = "DAVIS 2017"
    licence = "BSD for the toolkit; films for research"
    access = "free download of DAVIS-2017-trainval-480p.zip from https://davischallenge.org"
    choices: ClassVar = {"resolution": ("480p", "Full-Resolution"), "year": (2017, 2016)}
    resolution: Literal["480p", "Full-Resolution"] = "480p"
    year: Literal[2017, 2016] = 2017

    def list_files(self) -> Iterable[CaseFiles]:
        """Films of the lists that have frames."""
        places = [p.replace("2017/trainval", "2016") for p in _PLACES if self.year == 2016] + [*_PLACES]
        base = next((p for p in map(self.root.joinpath, places) if (p / "JPEGImages" / self.resolution).is_dir()), None)
        if base is None:
            raise self.missing(f"there is no JPEGImages/{self.resolution} in {self.root}")
        self.listed = self._read_lists(base)
        labels = InstanceNames(("object", 1, 1 if self.year == 2016 else 254))
        for name, split in sorted(self.listed.items()):
            frames, masks = (base / kind / self.resolution / name for kind in ("JPEGImages", "Annotations"))
            film = video_files(name, (frames, masks), labels, "video", split)
            if film.frames or film.lone:
                yield film

    def _read_lists(self, base: Path) -> dict[str, str]:
        """Film -> split."""
        lists = [base / "ImageSets" / str(self.year)]
        if self.year == 2016:  # as DAVIS 2016 is shipped, and as XMem has it
            lists += [base / "ImageSets" / "480p", base.parent / "2017" / "trainval" / "ImageSets" / "2016"]
        folder = next((place for place in lists if (place / "train.txt").is_file()), lists[0])
        listed: dict[str, str] = {}
        for split in self.splits:
            path = folder / f"{split}.txt"
            if not path.is_file():
                raise self.missing(f"there is no {path.relative_to(base) if path.is_relative_to(base) else path}")
            for line in filter(None, map(str.strip, read_text(path).splitlines())):
                first = line.split()[0]  # 2016 lists frames: /JPEGImages/480p/bear/00000.jpg /Annotations/...
                listed.setdefault(Path(first).parent.name if "/" in first else first, split)
        return listed

    def labels_of(self, files: CaseFiles) -> Callable[[], NDArray[Any]]:
        """Palette indices; 0 and 1 for 2016."""
        names = tuple(mask for _, mask in files.frames or ())
        return partial(read_palette_masks, files.masks[0], names, self.shrink, self.year == 2016)

    def check_files(self) -> list[Problem]:
        """Films of the lists, and frames without a mask."""
        problems = self.compare(self.listed, (film.patient for film in self.files), f"ImageSets/{self.year}")
        return problems + [problem for film in self.files for problem in self.check_frames(film)]


Davis2017DataModule = data_module(Davis2017Dataset)
