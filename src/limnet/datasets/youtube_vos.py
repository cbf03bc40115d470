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

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from limnet.data.dataset import CaseFiles, InstanceNames, Problem
from limnet.data.files import by_stem, folders_in, read_json, read_text, shortened
from limnet.data.module import data_module
from limnet.data.pictures import VideoDataset, video_files
from limnet.errors import MissingFileError
from limnet.image.io.reading import explained

STEP = 5  # every fifth frame is labelled
_PLACES = ("train_480p", "train", "YouTube/train_480p", "YouTube/train", "")


@dataclass(eq=False, repr=False)
class YouTubeVosDataset(VideoDataset):
    """The training part of YouTube-VOS; labels are the objects of a film by category.

    `subset` is a text file with the names of the films to take, one a line (XMem: yv_subset.txt, 3,464 films).
    """

    title = "YouTube-VOS"
    licence = "CC BY 4.0 for annotations, films for research"
    access = "registration at https://youtube-vos.org, train.zip"
    fraction: float = 0.05
    subset: Path | str | None = None

    def list_files(self) -> Iterable[CaseFiles]:
        """Films that have masks, of the subset if one was given."""
        if self.subset is not None and not Path(self.subset).is_file():
            raise MissingFileError(f"{self.subset} does not exist; give a text file with one film a line, or no subset")
        self.taken = None if self.subset is None else set(read_text(Path(self.subset)).split())
        base = next((p for p in map(self.root.joinpath, _PLACES) if (p / "Annotations").is_dir()), None)
        if base is None or not (base / "JPEGImages").is_dir():
            raise self.missing(f"there is no train/JPEGImages with train/Annotations in {self.root}")
        self.base = base
        metas = [base / "meta.json", base.parent / "train" / "meta.json"]
        self.meta = next((path for path in metas if path.is_file()), None)
        self.names, self.wanted = ({}, {}) if self.meta is None else _read_meta(self.meta)
        for folder in folders_in(base / "Annotations"):
            if self.taken is None or folder.name in self.taken:
                labels = self.names.get(folder.name) or InstanceNames(("object", 1, 254))
                frames = base / "JPEGImages" / folder.name
                yield video_files(folder.name, (frames, folder), labels, "video", every=False)

    def check_files(self) -> list[Problem]:
        """Films of meta.json or the subset; masks without a frame, and frames that lack a mask."""
        problems = []
        if self.meta is None:
            what = f"there is no meta.json in {self.base}: categories are not known"
            problems.append(Problem("", what, "copy it from the archive; objects are numbered until then"))
        if wanted := set(self.names) if self.taken is None else self.taken:
            source = "meta.json" if self.taken is None else "the subset"
            problems += self.compare(wanted, (film.patient for film in self.files), source)
        return problems + [problem for film in self.files if film.frames for problem in self.check_frames(film)]

    def check_frames(self, video: CaseFiles) -> list[Problem]:
        """Masks without a frame, masks that meta.json lists, and frames that should have one by their number."""
        frames, masks = by_stem(video.image, ".jpg"), by_stem(video.masks[0], ".png")
        found = []
        if video.lone:
            found.append((f"{len(video.lone)} of {len(masks)} masks have no frame", "unpack the frames again"))
        listed, first = self.wanted.get(video.patient, set()), min(masks)
        if lost := sorted(listed - set(masks)):
            what = f"{len(lost)} of {len(listed)} masks that meta.json lists are not there: {shortened(lost)}"
            found.append((what, "unpack the masks again"))
        due = [stem for stem in frames if stem >= first and stem not in {*listed, *masks} and _is_labelled(stem)]
        if due:
            what = f"{len(due)} frames from the first mask ({first}) on have no mask: {shortened(due)}"
            found.append((what, "unpack the masks again"))
        return [Problem(video.name, what, advice) for what, advice in found]


def _is_labelled(stem: str) -> bool:
    """Whether the owner labels a frame of that name: every fifth one, should the others lie there too."""
    return not stem.isdigit() or int(stem) % STEP == 0


def _read_meta(path: Path) -> tuple[dict[str, Mapping[int, str]], dict[str, set[str]]]:
    """What meta.json says: film -> object -> name, and film -> names of the frames in which an object is labelled.

    Names are those of categories: "sheep", or "sheep 1", "sheep 2" where there are several.
    """
    names: dict[str, Mapping[int, str]] = {}
    frames: dict[str, set[str]] = {}
    content = read_json(path)
    with explained(path, "It should be YouTube-VOS' list of videos: copy it again"):
        for film, entry in content["videos"].items():
            objects = {int(k): str(about["category"]) for k, about in sorted(entry["objects"].items(), key=_number)}
            several, seen, mine = Counter(objects.values()), Counter[str](), {}
            for number, name in objects.items():
                seen[name] += 1
                mine[number] = f"{name} {seen[name]}" if several[name] > 1 else name
            names[film] = mine
            frames[film] = {str(name) for about in entry["objects"].values() for name in about.get("frames") or ()}
    return names, frames


def _number(item: tuple[str, object]) -> int:
    return int(item[0])


YouTubeVosDataModule = data_module(YouTubeVosDataset)
