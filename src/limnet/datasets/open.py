"""The open volumes: small labelled CT, MR and microscopy volumes listed in a manifest.json.

Layout: `<root>/manifest.json` with one entry per file; `<root>/<train|val>/**.npz` with keys image, label, spacing in
(z, y, x) order, millimetres. `kind` tells volumes, crops, single slices and label maps without an image apart.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.data.cache import GRAYS, read_gray
from limnet.data.clips import Source
from limnet.data.dataset import CaseFiles, LabelledDataset, Problem
from limnet.data.drawing import ClipDrawer, DrawnClips
from limnet.data.files import image_suffix, read_image, read_labels, shortened
from limnet.data.module import SampleDataModule, data_module
from limnet.errors import FileFormatError, MissingFileError
from limnet.image.io.pictures import PICTURES, read_picture
from limnet.image.volume import Volume
from limnet.simulation.volumes import paint

# Files of one person, by name: what the notes of the manifest say.
_PATIENTS = (
    (re.compile(r"lidc_(\d+)_"), r"lidc_\1"),
    (re.compile(r"openms_(p\d+)_"), r"openms_\1"),
    (re.compile(r"(sct_cord|spinegeneric)_"), "cord"),
    (re.compile(r"axon_sem_(rat\d+)_"), r"axon_\1"),
)
_MODALITIES = {"ct": "ct", "mr": "mr", "em": "microscopy", "fluorescence": "microscopy", "confocal": "microscopy"}


# Half of the targets in several pieces are cut down to one piece: people mean either.
SHARES: dict[str, Any] = {"paint": 0.3, "parts": 0.5, "synthetic": 0.15, "pasted": 0.12}
# The click network gets pairs of slices, the second of which may lie further away (`InteractionModule.start_from`).
DRAWN: dict[str, dict[str, Any]] = {
    "interaction": {"span": (0.08, 0.75), "defects": 0.12, "gaps": (1, 1, 2, 3, 4, 6), **SHARES},
    "propagation": {"span": (0.12, 0.6), "gaps": (1, 1, 1, 2, 3), **SHARES},
}
HELD_SPAN = (0.12, 0.6)
HELD, HELD_BATCH, HELD_SEED = 320, 40, 77  # clips of a validation
PAIR = 2


@dataclass(eq=False, repr=False)
class OpenDataset(LabelledDataset):
    """The open volumes, pictures and films as labelled cases; the owner's split into train and val.

    Args:
        groups: fragments of paths; only files with one of them. None takes all.
        painted: also label maps without an image, in one random appearance each.
    """

    title = "open volumes"
    licence = "permissive, per file in manifest.json"
    access = "gathered from public packages and repositories by the script beside the manifest"
    layout = "manifest.json\ntrain/NAME.npz    (keys image, label, spacing)\nval/NAME.npz"
    groups: tuple[str, ...] | None = None
    painted: bool = False

    def list_files(self) -> Iterable[CaseFiles]:
        """A case per entry, in the order of the manifest; its split as the manifest says, else by folder."""
        if not (self.root / "manifest.json").is_file():
            raise self.missing(f"there is no manifest.json in {self.root}")
        self.entries = [
            entry
            for entry in read_manifest(self.root)
            if (self.groups is None or any(group in entry["file"] for group in self.groups))
            and (self.painted or not _bare(entry))
        ]
        files = [_files(self.root, entry) for entry in self.entries]
        self._bare = {case.name for case, entry in zip(files, self.entries, strict=True) if _bare(entry)}
        if absent := [str(path) for case in files for path in (*_images(case), *case.masks) if not path.is_file()]:
            raise MissingFileError(
                f"{len(absent)} file(s) listed in {self.root / 'manifest.json'} are not there: {shortened(absent)}. "
                "Unpack the archive again, or take them out of the list"
            )
        return files

    def image_of(self, files: CaseFiles) -> Callable[[], Volume]:
        """Of the files, in their colours; painted where there are labels alone."""
        if files.name in self._bare:
            return partial(_paint, files.image)
        return partial(_read_image, _images(files), files.channel, files.modality)

    def labels_of(self, files: CaseFiles) -> Callable[[], NDArray[Any]]:
        """Of the files."""
        return partial(_read_labels, files.masks, files.channel)

    def check(self) -> list[Problem]:
        """The general checks, and the hash of every file where the manifest has one."""
        problems = super().check()
        for files, entry in zip(self.files, self.entries, strict=True):
            wanted = entry.get("sha256")
            if wanted and hashlib.sha256((self.root / entry["file"]).read_bytes()).hexdigest() != wanted:
                problems.append(Problem(files.name, "is not the file the manifest describes", "fetch it again"))
        return problems


def read_weights(path: Path | None, split: str = "train") -> dict[str, float]:
    """How often groups of files are drawn, from a JSON file: {"train": {fragment of a path: weight}, "val": {...}}.

    No file draws all alike; FileFormatError for something else.
    """
    if path is None:
        return {"": 1.0}
    try:
        weights = json.loads(Path(path).read_text(encoding="utf-8"))[split]
        if all(isinstance(name, str) and 0 <= weight < float("inf") for name, weight in weights.items()):
            return dict(weights)
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} does not exist; check the path") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise FileFormatError(
        f'{path} should hold {{"train": {{...}}, "val": {{...}}}}: a weight of at least 0 for fragments of file names'
    )


def _images(files: CaseFiles) -> tuple[Path, ...]:
    """Of every frame, in order."""
    return (files.image,) if files.frames is None else tuple(files.image / name for name, _ in files.frames)


def _files(root: Path, entry: Mapping[str, Any]) -> CaseFiles:
    """Files of an entry; its name is one of its own among all files: those of pictures are numbers within their set."""
    film = [(f["file"], f.get("label_file", f["file"])) for f in entry.get("frames") or [entry]]
    parts = (entry["set"], entry.get("clip") if "frames" in entry else None) if "set" in entry else ()
    stem = () if "frames" in entry else (Path(entry["file"]).stem, entry.get("index"))
    name = str(entry.get("name") or "_".join(str(part) for part in (*parts, *stem) if part is not None))
    person = next((found.expand(to) for p, to in _PATIENTS if (found := p.match(name))), name)
    kind = re.match(r"\w*", str(entry.get("modality", "")).lower())
    return CaseFiles(
        name,
        entry.get("patient") or person,
        root if "frames" in entry else root / entry["file"],
        tuple(root / mask for _, mask in film),
        _MODALITIES.get(kind[0] if kind else "", "other"),
        str(entry.get("split") or entry["file"].split("/")[0]),
        {int(i): str(label) for i, label in (entry.get("labels") or {}).items() if int(i)},
        channel=entry.get("index"),
        frames=tuple(film) if "frames" in entry else None,
    )


def _read_image(files: tuple[Path, ...], index: int | None, modality: str = "") -> Volume:
    """Image of an entry, its colours kept."""
    if len(files) == 1 and image_suffix(files[0]) not in PICTURES:
        volume = read_image(files[0])
        volume = replace(volume, modality=volume.modality or modality.upper() or None)
        return volume if index is None else replace(volume, array=volume.array[index : index + 1])
    return Volume.from_array(np.concatenate([read_picture(file, palette=False) for file in files]))


def _read_labels(files: tuple[Path, ...], index: int | None) -> NDArray[Any]:
    labels = np.concatenate([read_labels(file) for file in files])
    return labels if index is None else labels[index : index + 1]


def _paint(path: Path) -> Volume:
    """A label map without an image in a random look that depends on the file's name."""
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    return Volume.from_array(paint(rng, read_labels(path)), _spacing(path))


def _bare(entry: Mapping[str, Any]) -> bool:
    """Whether there are labels alone."""
    return str(entry.get("kind", "")).startswith("label")


def _spacing(path: Path) -> tuple[float, float, float]:
    """Of a label map without an image."""
    with np.load(path) as data:
        depth, row, column = (float(step) for step in data["spacing"])
    return depth, row, column


def read_manifest(root: Path) -> list[dict[str, Any]]:
    """Entries of `<root>/manifest.json`: volumes, pictures and films.

    Pictures and films have "axis0": "images" (independent) or "time". A film of single files is one entry, its frames
    in order in "frames"; every picture of a stack is one, with its number in "index".
    """
    path = Path(root) / "manifest.json"
    if not path.is_file():
        raise MissingFileError(
            f"no manifest.json in {root}; point to the folder that holds it together with train/ and val/"
        )
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        volumes, pictures = listed["volumes"], listed.get("pictures", [])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(f'{path} could not be read, or has no list "volumes": {error!r}') from error
    for name, entries in (("volumes", volumes), ("pictures", pictures)):
        if not isinstance(entries, list) or not all(
            isinstance(entry, dict) and isinstance(entry.get("file"), str) for entry in entries
        ):
            raise FileFormatError(f'{path}: "{name}" should be a list of objects, each with "file"; copy it again')
    if not volumes and not pictures:
        raise FileFormatError(f'{path}: "volumes" is empty; copy it again')
    films: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in pictures:
        if "frame" in entry:
            films.setdefault((entry.get("set", ""), entry.get("clip", "")), []).append(entry)
    still = [part for entry in pictures if "frame" not in entry for part in _parts(entry)]
    ordered = [sorted(film, key=lambda entry: int(entry["frame"])) for film in films.values()]
    return [*volumes, *still, *({**film[0], "frames": film} for film in ordered)]


def load_sources(
    roots: Path | Sequence[Path], split: str = "train", groups: Mapping[str, float] | None = None
) -> list[Source]:
    """Read every volume, picture and film of a split into memory (about 1 GB for train), with ids of 40 voxels or more.

    Colour becomes gray (luminance). A picture is a source of one slice, a film one whose slices are its frames.
    `groups` has for a fragment of a file's path the weight of that group, shared by its files alike; files of no group
    are left out. By default every file has the same weight.
    """
    weights = {"": 1.0} if groups is None else groups
    found: dict[str, list[Source]] = {name: [] for name in weights}
    for root in [roots] if isinstance(roots, Path) else roots:
        for entry in read_manifest(root):
            name, files = next((name for name in weights if name in entry["file"]), None), _files(Path(root), entry)
            if name is not None and files.split == split:
                found[name].append(_source(files, entry))
    return [
        replace(source, weight=weights[name] / len(group))
        for name, group in found.items()
        for source in group
        if source.ids
    ]


def _parts(entry: dict[str, Any]) -> list[dict[str, Any]]:
    if entry.get("axis0") != "images" or not entry["file"].endswith(".npz"):
        return [entry]
    return [{**entry, "index": number} for number in range(int(entry["shape"][0]))]


def _source(files: CaseFiles, entry: Mapping[str, Any]) -> Source:
    labels = _read_labels(files.masks, files.channel)
    volume = None if _bare(entry) else _read_image(_images(files), files.channel)
    depth, row, column = _spacing(files.image) if volume is None else volume.spacing
    flat = "axis0" in entry or labels.shape[0] < 8 or depth > 2.2 * max(row, column)
    return Source(
        labels=labels,
        spacing=(depth, row, column),
        image=None if volume is None else read_gray(lambda: volume, GRAYS["luminance"]).array,
        modality="ct" if volume is not None and files.modality == "ct" else "other",
        axes=(0,) if flat else (0, 0, 1, 2),
        name=entry["file"],
    ).with_ids()


def drawn_data(
    roots: Path | Sequence[Path],
    task: str,
    batch_size: int,
    samples: int,
    size: int,
    length: int,
    workers: int = 0,
    seed: int = 0,
    weights: Path | None = None,
) -> SampleDataModule:
    """Clips drawn while the training runs, synthetic and pasted ones among them; the volumes held out validate.

    Args:
        roots: folders with manifest.json.
        task: "interaction" or "propagation".
        batch_size: clips per process and step.
        samples: clips in an epoch, over all processes.
        size: side of the windows in network pixels.
        length: slices of a clip of "propagation"; "interaction" has pairs.
        workers: processes that draw.
        seed: of the training clips.
        weights: file of `read_weights`.
    """
    pairs = task == "interaction"
    training, held = (load_sources(roots, split, read_weights(weights, split)) for split in ("train", "val"))
    drawer = ClipDrawer(training, PAIR if pairs else length, size, **DRAWN[task])
    shown = None
    if held:
        fixed = ClipDrawer(held, 1 if pairs else length, size, HELD_SPAN, paint=0.0, parts=1.0, synthetic=0.0)
        shown = DrawnClips(fixed, HELD, HELD_SEED)
    return SampleDataModule(DrawnClips(drawer, samples, seed), shown, batch_size, HELD_BATCH, workers)


OpenDataModule = data_module(OpenDataset)
