"""The robot user plays rounds on labelled images: what a model does for a person's clicks, object by object.

`play` is the loop, for one object and anything that answers clicks; `evaluate` runs it over a folder or list of images
with labels and keeps every finished object in a journal, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limnet._version import __version__
from limnet.data.files import files_below
from limnet.datasets.folder import IMAGE_FOLDERS, MASK_FOLDERS, match_by_name
from limnet.errors import FileFormatError, InputError, LimnetError, MissingFileError, SaveError
from limnet.image.io.atomic import made_folder
from limnet.image.io.formats import OBJECTS, READERS, known_suffix, read_single
from limnet.image.io.masks import read_segments
from limnet.image.volume import Volume
from limnet.learning.training import MOST_CASES
from limnet.metrics.masks import dice
from limnet.simulation.clicks import RobotUser

if TYPE_CHECKING:
    from limnet.case.case import Case
    from limnet.segmenter import InteractiveSegmenter

Click = Callable[[tuple[int, int, int], bool], NDArray[np.bool_]]
"""Takes a voxel (z, y, x) and whether it marks the object; gives the mask, bool (D, H, W)."""

_SUFFIXES = (*READERS, *OBJECTS)


class PlayedRound(NamedTuple):
    """One click and what came of it: Dice of the whole mask, surface Dice if asked for, seconds to the mask."""

    zyx: tuple[int, int, int]
    positive: bool
    dice: float
    nsd: float | None
    seconds: float


def play(
    click: Click,
    truth: NDArray[np.bool_],
    robot: RobotUser,
    rounds: int,
    tolerance: float | None = None,
    start: NDArray[np.bool_] | None = None,
) -> Iterator[PlayedRound]:
    """One object, click after click, until nothing is left to correct; each round when it is done.

    Args:
        click: what is measured.
        truth: (D, H, W), not empty, on the spacing of the robot.
        tolerance: of the surface Dice in mm; None leaves it out. It needs the package monai.
        start: mask (D, H, W) before the first click, None for none; with a perfect one there is nothing to click on.
    """
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; give at least 1")
    mask = start
    for number in range(1, rounds + 1):
        asked = robot.next_click(truth, mask, number)
        if asked is None:
            break
        begun = time.perf_counter()
        mask = click(asked.zyx, asked.positive)
        seconds = time.perf_counter() - begun
        nsd = None
        if tolerance is not None:
            from limnet.metrics.masks import normalized_surface_dice

            nsd = normalized_surface_dice(mask, truth, robot.spacing, tolerance)
        yield PlayedRound(asked.zyx, asked.positive, dice(mask, truth), nsd, seconds)
    if mask is None:
        raise InputError("the object is empty: there is nothing to click on")


@dataclass(frozen=True)
class Plan:
    """How every object is played; recorded with the results, which hold for this plan only.

    Clicks at most, tolerance of the surface Dice in mm (None without it), how often every object is played, how far
    clicks miss the middle at most (mm), the slice axis, and `learn`: each label is learned from the first so many
    images, for all numbers given; the images after the greatest of them are played, with each proposal and without.
    """

    rounds: int = 6
    nsd_mm: float | None = None
    seeds: int = 1
    jitter: float = 0.0
    axis: int = 0
    learn: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.learn and not 1 <= min(self.learn) <= max(self.learn) <= MOST_CASES:
            raise InputError(
                f"learn is {', '.join(map(str, self.learn))}; give numbers of images from 1 to {MOST_CASES}"
            )
        if self.rounds < 1 or self.seeds < 1:
            raise InputError(f"rounds is {self.rounds}, seeds is {self.seeds}; give at least 1 of each")
        if self.seeds > 1 and self.jitter == 0:
            raise InputError(
                f"{self.seeds} seeds came with a jitter of 0 mm: the robot user would give the same clicks every time. "
                "Give a jitter, such as 3 mm, or 1 seed"
            )


class Pair(NamedTuple):
    """An image with its labels: its name, the two files (a DICOM series is a folder), names of the labels of a map."""

    name: str
    image: Path
    labels: Path
    names: dict[int, str]


class Thing(NamedTuple):
    """An object of an image: its own name, unique there, and number and name of its label."""

    name: str
    number: int
    label: str


class PlayedObject(NamedTuple):
    """One object of a case, played with one seed.

    `learned` is the number of finished images its label was learned from, 0 without learning; `proposal` the Dice of
    the mask proposed before the first click, None without.
    """

    case: str
    thing: Thing
    seed: int
    rounds: list[PlayedRound]
    learned: int = 0
    proposal: float | None = None

    @property
    def curve(self) -> list[float]:
        """Dice after each click; that of the proposal alone where it left nothing to click on."""
        return [r.dice for r in self.rounds] or [self.proposal or 0.0]


def find_pairs(source: Path) -> list[Pair]:
    """Images with labels: of a folder with `images/` and `labels/`, by their names, or of a CSV or JSON list.

    A list has the columns (JSON: keys of a list of objects) image, label and, if wished, name; paths count from where
    the list lies. `labels.json` beside either names the labels: {"1": "liver"}.
    """
    if not source.exists():
        raise MissingFileError(
            f"{source} does not exist: give a folder with images/ and labels/, or a CSV or JSON list"
        )
    folder = source if source.is_dir() else source.parent
    names: dict[int, str] = {}
    try:
        if (folder / "labels.json").is_file():
            content = json.loads((folder / "labels.json").read_text(encoding="utf-8-sig"))
            names = {int(number): str(name) for number, name in content.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise FileFormatError(f'{folder / "labels.json"}: {error}; {{"1": "liver"}} is expected. Mend it') from error
    rows = _by_name(source) if source.is_dir() else _listed(source)
    pairs = [Pair(name, image, labels, names) for name, image, labels in rows]
    given = [pair.name for pair in pairs]
    if twice := sorted({name for name in given if given.count(name) > 1}):
        raise FileFormatError(f"{source} has {', '.join(twice)} more than once: give each a name, in a column `name`")
    return pairs


def evaluate(
    segmenter: InteractiveSegmenter,
    pairs: Sequence[Pair],
    plan: Plan,
    journal: Path,
    *,
    only: Sequence[str] = (),
    on_object: Callable[[PlayedObject], object] = lambda played: None,
    on_problem: Callable[[str, LimnetError | OSError], object] = lambda case, error: None,
) -> list[PlayedObject]:
    """Play every object of every image that the journal does not hold yet.

    Args:
        journal: file (JSON lines) that every finished object is appended to; what it holds is not played again.
        only: numbers or names of labels; all by default.
        on_object: told of every object, also of those that the journal holds.
        on_problem: told of images that could not be read or have none of the labels; the others go on.
    """
    about = {"limnet": __version__, "model": segmenter.identity, "device": str(segmenter.device), **asdict(plan)}
    about = json.loads(json.dumps(about))  # as the journal will hold it
    most = max(plan.learn, default=0)
    if most and most >= len(pairs):
        raise InputError(f"learning from {most} of {len(pairs)} images leaves none to play: learn from fewer")
    results: list[PlayedObject] = []
    with _Journal(journal, about) as kept, tempfile.TemporaryDirectory() as folder:
        for learned in (0, *sorted(set(plan.learn))):
            task = _Task(segmenter, pairs[:learned], plan.axis, Path(folder) / str(learned))
            for pair in pairs[most:]:
                before = len(results)
                try:
                    for played in _played(segmenter, pair, plan, kept, only, task):
                        results.append(played)
                        on_object(played)
                    if len(results) == before:
                        raise InputError(f"{pair.labels} holds no {' or '.join(only) or 'object'}; nothing to play")
                except SaveError:
                    raise
                except (LimnetError, OSError) as error:
                    on_problem(pair.name, error)
    return results


class _Task:
    """Labels learned from finished images, each when it is first asked for."""

    def __init__(self, segmenter: InteractiveSegmenter, finished: Sequence[Pair], axis: int, folder: Path) -> None:
        self.segmenter, self.finished, self.axis, self.folder = segmenter, finished, axis, folder
        self._cases: dict[str, list[tuple[Volume, NDArray[np.bool_]]]] | None = None
        self._known: set[str] = set()

    def __len__(self) -> int:
        return len(self.finished)

    def propose(self, case: Case, label: str) -> bool:
        """Give the case its first mask; False where no finished image has the label."""
        if self._cases is None:
            read: dict[str, list[tuple[Volume, NDArray[np.bool_]]]] = {}
            for pair in self.finished:
                volume = read_single(pair.image)
                for thing, truth in _objects(pair, volume):
                    read.setdefault(thing.label, []).append((volume, truth))
            self._cases = read  # only now: where one cannot be read, every image that asks is told
        if label not in self._cases:
            return False
        name = f"label {sorted(self._cases).index(label)}"
        if name not in self._known:
            cases = []
            for volume, truth in self._cases[label][:MOST_CASES]:
                cases.append(self.segmenter.open(volume, axis=self.axis))
                cases[-1].set_mask(truth, frozen=False)
            self.segmenter.learn(cases, name, folder=self.folder)
            self._known.add(name)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "no .* was found in this volume")  # a Dice of 0 says it
            case.propose(name, folder=self.folder)
        return True


def _played(
    segmenter: InteractiveSegmenter, pair: Pair, plan: Plan, kept: _Journal, only: Sequence[str], task: _Task
) -> Iterator[PlayedObject]:
    """The objects of one image; nothing is read where the journal holds all of them."""
    mark = [_mark(pair.image), _mark(pair.labels)]
    seeds = range(plan.seeds)
    known = kept.things(pair.name, mark)
    if known is not None:
        chosen = [thing for thing in known if _chosen(thing, only)]
        held = [kept.played(pair.name, thing, seed, len(task), mark) for thing in chosen for seed in seeds]
        if None not in held:
            yield from (played for played in held if played is not None)
            return
    volume = read_single(pair.image)
    found = []
    for thing, truth in _objects(pair, volume):
        found.append(thing)
        for seed in seeds if _chosen(thing, only) else ():
            played = kept.played(pair.name, thing, seed, len(task), mark)
            if played is None:
                # A case of its own: no object profits from what another one computed.
                target = segmenter.open(volume, axis=plan.axis)
                number = zlib.crc32(f"{pair.name}\0{thing.name}".encode())
                robot = RobotUser(volume.spacing, plan.axis, jitter=plan.jitter, seed=seed, case=number)
                start = target.mask if len(task) and task.propose(target, thing.label) else None
                rounds = list(play(target.click, truth, robot, plan.rounds, plan.nsd_mm, start))
                proposal = None if not len(task) else 0.0 if start is None else dice(start, truth)
                played = PlayedObject(pair.name, thing, seed, rounds, len(task), proposal)
                kept.keep_played(played, mark)
            yield played
    kept.keep_things(pair.name, found, mark)


def _objects(pair: Pair, volume: Volume) -> Iterator[tuple[Thing, NDArray[np.bool_]]]:
    """The objects of an image with their masks, one at a time."""
    labels = pair.labels
    if labels.is_dir():
        files = files_below(labels)
        if len(files) != 1:
            raise FileFormatError(f"{labels} holds {len(files)} files; one with the labels is expected")
        labels = files[0]
    seen: set[str] = set()
    for number, label, mask in read_segments(labels, volume, pair.names):
        name = label if label not in seen else f"{label} ({number})"
        seen.add(name)
        if mask.any():
            yield Thing(name, number, label), mask


def _chosen(thing: Thing, only: Sequence[str]) -> bool:
    return not only or thing.label in only or str(thing.number) in only


def _by_name(folder: Path) -> list[tuple[str, Path, Path]]:
    images, labels = _entries(folder, IMAGE_FOLDERS), _entries(folder, MASK_FOLDERS)
    return [(image, images[image], labels[label]) for image, label in match_by_name(images, labels, folder)]


def _entries(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Files and folders (DICOM) of the first of these folders that is there, by name without suffix."""
    place = next((folder / name for name in names if (folder / name).is_dir()), None)
    if place is None:
        raise MissingFileError(f"{folder} has no folder {names[0]}/: give one with images/ and labels/, or a list")
    found: dict[str, Path] = {}
    for path in sorted(place.iterdir()):
        suffix = "" if path.is_dir() else known_suffix(path, _SUFFIXES)
        if path.name.startswith(".") or suffix is None:
            continue
        stem = path.name[: len(path.name) - len(suffix)]
        if stem in found and {suffix, found[stem].suffix} != {".hdr", ".img"}:
            raise FileFormatError(f"{found[stem]} and {path} have the same name; keep one of them")
        found[stem] = path
    return found


def _listed(path: Path) -> list[tuple[str, Path, Path]]:
    """(name, image, labels) of a CSV or JSON list."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = json.load(file) if path.suffix.lower() == ".json" else list(csv.DictReader(file))
        found = []
        for row in rows:
            image, labels = (path.parent / row[column].strip() for column in ("image", "label"))
            stem = image.name[: len(image.name) - len(known_suffix(image, _SUFFIXES) or "")]
            found.append(((row.get("name") or stem).strip(), image, labels))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise FileFormatError(
            f"{path} is no list of images ({type(error).__name__}: {error}); give a CSV with the columns image,label "
            '(and name), or JSON: [{"image": "a.nii.gz", "label": "b.nii.gz"}]'
        ) from error
    if not found:
        raise FileFormatError(f"{path} lists no image")
    return found


def _mark(path: Path) -> list[int]:
    """Number, bytes and newest time of a file's or folder's files: whether it is still what was read."""
    if not path.exists():
        raise MissingFileError(f"{path} does not exist. Check the path")
    about = [file.stat() for file in (files_below(path) if path.is_dir() else [path])]
    return [len(about), sum(one.st_size for one in about), max((one.st_mtime_ns for one in about), default=0)]


class _Journal:
    """What is finished: a line of JSON each, on disk as soon as it is; the first line says how it was made."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path = path
        made_folder(path.parent)
        try:
            self._file = open(path, "ab+")  # noqa: SIM115 (closed by __exit__)
            self._file.seek(0)
            lines = self._file.read().split(b"\n")
        except OSError as error:
            raise SaveError(f"could not write {path} ({error}); choose another --out") from error
        records = [record for line in lines if (record := _record(line)) is not None]
        if lines[-1]:
            self._file.write(b"\n")  # a line that a crash cut short: the next one starts afresh
        if not records:
            self._write({"about": about})
        elif records[0].get("about") != about:
            self._file.close()
            then = records[0].get("about") or {}
            other = ", ".join(
                f"{k} was {_brief(then.get(k))}, is {_brief(v)}" for k, v in about.items() if then.get(k) != v
            )
            raise InputError(
                f"{path} was made otherwise: {other}. Go on as then, begin again by --fresh, or give another --out"
            )
        self._things = {r["case"]: r for r in records if "objects" in r}
        self._played = {(r["case"], r["object"], r["seed"], r["learned"]): r for r in records if "rounds" in r}

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def things(self, case: str, mark: list[list[int]]) -> list[Thing] | None:
        """All objects of a finished case; None if it is not known, or its files changed."""
        record = self._things.get(case)
        return [Thing(*thing) for thing in record["objects"]] if record and record["data"] == mark else None

    def played(self, case: str, thing: Thing, seed: int, learned: int, mark: list[list[int]]) -> PlayedObject | None:
        """What was kept of an object; None if nothing was, or its files changed."""
        record = self._played.get((case, thing.name, seed, learned))
        if record is None or record["data"] != mark:
            return None
        rounds = [PlayedRound((z, y, x), *rest) for (z, y, x), *rest in record["rounds"]]
        return PlayedObject(case, thing, seed, rounds, learned, record["proposal"])

    def keep_played(self, played: PlayedObject, mark: list[list[int]]) -> None:
        """Keep a finished object."""
        about = {"case": played.case, "object": played.thing.name, "seed": played.seed, "learned": played.learned}
        self._write({**about, "data": mark, "proposal": played.proposal, "rounds": played.rounds})

    def keep_things(self, case: str, things: list[Thing], mark: list[list[int]]) -> None:
        """Keep which objects a case has."""
        self._write({"case": case, "data": mark, "objects": things})

    def _write(self, record: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(record).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise SaveError(f"could not write {self.path} ({error}); what it holds is intact, go on later") from error


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _brief(value: Any) -> str:
    return f"{value.get('name')} ({str(value.get('sha256'))[:8]})" if isinstance(value, dict) else str(value)
