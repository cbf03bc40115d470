"""YouTube-VOS: 3,471 films of everyday objects, every fifth frame labelled; pretraining of propagation.

Layout (the root may be the folder that holds `train`, or `YouTube`, or `train` itself)::

    train/JPEGImages/<film>/00000.jpg, 00005.jpg, ...      XMem's smaller copy is called train_480p and comes first
    train/Annotations/<film>/00000.png, 00005.png, ...     palette: an index is an object
    train/meta.json                              {"videos": {film: {"objects": {"1": {"category", "frames"}}}}}

Names go in steps of 5, so neighbouring slices here lie five frames apart. Objects may appear later than the first
frame. The owner's `valid` and `test` have masks only where an object appears first: they are not labelled films and are
not read. Splits: train and val by a stable hash of the film. XMem leaves out seven films; its list can be given.

Decoded copies of all films take about 80 GB in the cache at 480p, a quarter of that with `shrink=2`, none with
`cached=False` of the data module, which then reads a film anew for every clip.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limnet.data.dataset import Problem
from limnet.data.module import CaseDataModule
from limnet.datasets.expected import absent
from limnet.datasets.films import Film, FilmSet
from limnet.datasets.instances import InstanceNames
from limnet.datasets.paired import shortened
from limnet.datasets.pictures import case_name, picture_files
from limnet.errors import FileFormatError, MissingFileError

STEP = 5  # every fifth frame is labelled
_PLACES = ("train_480p", "train", "YouTube/train_480p", "YouTube/train", "")


class YouTubeVosDataset(FilmSet):
    """The training part of YouTube-VOS; labels are the objects of a film by category.

    Args:
        root: see the layout.
        fraction: share of films held out.
        seed: of that split.
        shrink: see `FilmSet`.
        subset: text file with the names of the films to take, one a line (XMem: yv_subset.txt, 3,464 films).

    Raises:
        MissingFileError: the folder does not look like it, or no such text file.
        FileFormatError: a meta.json that is not as described.
    """

    title = "YouTube-VOS"
    licence = "CC BY 4.0 for annotations, films for research"
    access = "registration at https://youtube-vos.org, train.zip"
    layout = "train/JPEGImages/<film>/00000.jpg\ntrain/Annotations/<film>/00000.png\ntrain/meta.json (optional)"
    splits = ("train", "val")

    def __init__(
        self,
        root: Path | str,
        fraction: float = 0.05,
        seed: int = 0,
        shrink: int = 1,
        subset: Path | str | None = None,
    ) -> None:
        self.subset: set[str] | None = None
        if subset is not None:
            if not Path(subset).is_file():
                raise MissingFileError(f"{subset} does not exist; give a text file with one film a line, or no subset")
            self.subset = set(Path(subset).read_text(encoding="utf-8").split())
        super().__init__(root, fraction, seed, shrink)

    def find(self) -> None:
        """Look for JPEGImages and Annotations in the usual places."""
        base = next((p for place in _PLACES if ((p := self.root / place) / "Annotations").is_dir()), None)
        if base is None or not (base / "JPEGImages").is_dir():
            raise self.missing(f"there is no train/JPEGImages with train/Annotations in {self.root}")
        self.base = base
        metas = [base / "meta.json", base.parent / "train" / "meta.json"]
        self.meta = next((path for path in metas if path.is_file()), None)
        self.videos, self.wanted = ({}, {}) if self.meta is None else _read_meta(self.meta)

    def films(self) -> list[Film]:
        """Films that have frames and masks, of the subset if one was given."""
        frames, masks = self.base / "JPEGImages", self.base / "Annotations"
        found = []
        for folder in sorted(p for p in masks.iterdir() if p.is_dir() and not p.name.startswith((".", "__"))):
            name = folder.name
            if self.subset is not None and name not in self.subset:
                continue
            pictures, labelled = picture_files(frames / name, ".jpg"), picture_files(folder, ".png")
            files = tuple((pictures[stem].name, labelled[stem].name) for stem in labelled if stem in pictures)
            lone = tuple(stem for stem in labelled if stem not in pictures)
            labels = self.videos.get(name) or InstanceNames(("object", 1, 254))
            found.append(Film(case_name(name), name, frames / name, folder, files, labels, lone))
        return found

    def check_files(self) -> list[Problem]:
        """Films of meta.json or the subset; masks without a frame, and frames that lack a mask."""
        films = self.films()
        problems = []
        if self.meta is None:
            what = f"there is no meta.json in {self.base}: categories are not known"
            problems.append(Problem("", what, "copy it from the archive; objects are numbered until then"))
        wanted = self.subset if self.subset is not None else set(self.videos)
        if wanted:
            source = "the subset" if self.subset is not None else "meta.json"
            problems += absent(wanted, {film.patient for film in films}, source, self.access)
        for film in films:
            if film.files:
                problems += self._check_masks(film)
        return problems

    def _check_masks(self, film: Film) -> list[Problem]:
        frames, masks = picture_files(film.frames, ".jpg"), picture_files(film.masks, ".png")
        problems = []
        if lone := [stem for stem in masks if stem not in frames]:
            what = f"{len(lone)} of {len(masks)} masks have no frame"
            problems.append(Problem(film.name, what, "unpack the frames again"))
        listed = self.wanted.get(film.patient, set())
        if lost := sorted(listed - set(masks)):
            what = f"{len(lost)} of {len(listed)} masks that meta.json lists are not there: {shortened(lost)}"
            problems.append(Problem(film.name, what, "unpack the masks again"))
        first = min(masks)
        due = [stem for stem in frames if stem >= first and stem not in listed and _is_labelled(stem)]
        if bare := [stem for stem in due if stem not in masks]:
            what = f"{len(bare)} frames from the first mask ({first}) on have no mask: {shortened(bare)}"
            problems.append(Problem(film.name, what, "unpack the masks again"))
        return problems


def _is_labelled(stem: str) -> bool:
    """Whether the owner labels a frame of that name: every fifth one, should the others lie there too."""
    return not stem.isdigit() or int(stem) % STEP == 0


def _read_meta(path: Path) -> tuple[dict[str, Mapping[int, str]], dict[str, set[str]]]:
    """What meta.json says about the films.

    Returns:
        Film -> object -> name by category: "sheep", or "sheep 1", "sheep 2" where there are several; and film -> names
        of the frames in which an object is labelled.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        videos = {
            str(film): {int(k): str(about["category"]) for k, about in entry["objects"].items()}
            for film, entry in content["videos"].items()
        }
        frames = {
            str(film): {str(name) for about in entry["objects"].values() for name in about.get("frames") or ()}
            for film, entry in content["videos"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(f"{path} is not as expected ({type(error).__name__}: {error}). Copy it again") from error
    named: dict[str, Mapping[int, str]] = {}
    for film, objects in videos.items():
        names = list(objects.values())
        seen: dict[str, int] = {}
        mine = {}
        for number, name in sorted(objects.items()):
            seen[name] = seen.get(name, 0) + 1
            mine[number] = f"{name} {seen[name]}" if names.count(name) > 1 else name
        named[film] = mine
    return named, frames


class YouTubeVosDataModule(CaseDataModule):
    """Training clips and whole cases of YouTube-VOS."""

    dataset_class = YouTubeVosDataset
