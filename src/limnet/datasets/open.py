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
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, TensorDataset

from limnet.data.clips import Source
from limnet.data.dataset import Problem
from limnet.data.drawing import ClipDrawer
from limnet.data.files import image_suffix, read_image, read_labels, shortened
from limnet.data.gray import GRAYS, read_gray
from limnet.data.module import LightningDataModule
from limnet.data.pairs import CaseFiles, FileDataset
from limnet.data.pool import BLOCK, ClipPool, DrawnBlocks
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
HELD_BATCH = 40
PAIR = 2


@dataclass(frozen=True)
class EntryFiles(CaseFiles):
    """Files of an entry of the manifest.

    Attributes:
        images: of every frame, in order; `masks` likewise.
        index: which picture of a stack.
        bare: there are labels alone.
    """

    images: tuple[Path, ...] = ()
    index: int | None = None
    bare: bool = False

    @property
    def absent(self) -> list[Path]:
        """Those of the files that are not there."""
        return [path for path in (*self.images, *self.masks) if not path.is_file()]


@dataclass(eq=False, repr=False)
class OpenDataset(FileDataset):
    """The open volumes, pictures and films as labelled cases; the owner's split into train and val.

    Args:
        root: folder with manifest.json.
        fraction: not used, the split is the owner's.
        seed: not used.
        groups: fragments of paths; only files with one of them. None takes all.
        painted: also label maps without an image, in one random appearance each.

    Raises:
        MissingFileError: no manifest.json, or files it lists are missing.
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
            and (self.painted or not str(entry.get("kind", "")).startswith("label"))
        ]
        files = [_files(self.root, entry) for entry in self.entries]
        if absent := [str(path) for case in files for path in case.absent]:
            raise MissingFileError(
                f"{len(absent)} file(s) listed in {self.root / 'manifest.json'} are not there: {shortened(absent)}. "
                "Unpack the archive again, or take them out of the list"
            )
        return files

    def image_of(self, files: CaseFiles) -> Callable[[], Volume]:
        """Of the files, in their colours; painted where there are labels alone."""
        assert isinstance(files, EntryFiles)
        return partial(_read_image, files.images, files.index, files.modality, files.bare)

    def labels_of(self, files: CaseFiles) -> Callable[[], NDArray[Any]]:
        """Of the files."""
        assert isinstance(files, EntryFiles)
        return partial(_read_labels, files.masks, files.index)

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

    Args:
        path: the file; None draws every file alike.
        split: "train" or "val".

    Raises:
        MissingFileError: not there.
        FileFormatError: something else.
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


def _files(root: Path, entry: Mapping[str, Any]) -> EntryFiles:
    """Files of an entry; its name is one of its own among all files: those of pictures are numbers within their set."""
    frames = entry.get("frames") or [entry]
    images, masks = (tuple(root / f.get(key, f["file"]) for f in frames) for key in ("file", "label_file"))
    parts = (entry["set"], entry.get("clip") if "frames" in entry else None) if "set" in entry else ()
    stem = () if "frames" in entry else (Path(entry["file"]).stem, entry.get("index"))
    name = str(entry.get("name") or "_".join(str(part) for part in (*parts, *stem) if part is not None))
    person = next((found.expand(to) for p, to in _PATIENTS if (found := p.match(name))), name)
    kind = re.match(r"\w*", str(entry.get("modality", "")).lower())
    return EntryFiles(
        name,
        entry.get("patient") or person,
        images[0],
        masks,
        _MODALITIES.get(kind[0] if kind else "", "other"),
        str(entry.get("split") or entry["file"].split("/")[0]),
        {int(i): str(label) for i, label in (entry.get("labels") or {}).items() if int(i)},
        images=images,
        index=entry.get("index"),
        bare=str(entry.get("kind", "")).startswith("label"),
    )


def _read_image(files: tuple[Path, ...], index: int | None, modality: str = "", bare: bool = False) -> Volume:
    """Image of an entry, its colours kept; labels alone in a random look that depends on the file's name."""
    if bare:
        rng = np.random.default_rng(zlib.crc32(files[0].name.encode()))
        return Volume.from_array(paint(rng, read_labels(files[0])), _spacing(files[0]))
    if len(files) == 1 and image_suffix(files[0]) not in PICTURES:
        volume = read_image(files[0])
        volume = replace(volume, modality=volume.modality or modality.upper() or None)
        return volume if index is None else replace(volume, array=volume.array[index : index + 1])
    return Volume.from_array(np.concatenate([read_picture(file, palette=False) for file in files]))


def _read_labels(files: tuple[Path, ...], index: int | None) -> NDArray[Any]:
    labels = np.concatenate([read_labels(file) for file in files])
    return labels if index is None else labels[index : index + 1]


def _spacing(path: Path) -> tuple[float, float, float]:
    """Of a label map without an image."""
    with np.load(path) as data:
        depth, row, column = (float(step) for step in data["spacing"])
    return depth, row, column


def read_manifest(root: Path) -> list[dict[str, Any]]:
    """Entries of `<root>/manifest.json`: volumes, pictures and films.

    Pictures and films have "axis0": "images" (independent) or "time". A film of single files is one entry, its frames
    in order in "frames"; every picture of a stack is one, with its number in "index".

    Raises:
        MissingFileError: there is no manifest at `root`.
        FileFormatError: it is damaged, or something else.
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
    """Read every volume, picture and film of a split into memory (about 1 GB for train).

    Colour becomes gray (luminance). A picture is a source of one slice, a film one whose slices are its frames.

    Args:
        roots: folders with manifest.json.
        split: "train" or "val".
        groups: fragment of a file's path -> weight of that group, shared by its files alike; files of no group are
            left out. By default every file has the same weight.

    Returns:
        Sources with ids of at least 40 voxels.
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


def _source(files: EntryFiles, entry: Mapping[str, Any]) -> Source:
    labels = _read_labels(files.masks, files.index)
    volume = None if files.bare else _read_image(files.images, files.index)
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


class LiveDataModule(LightningDataModule):
    """Batches from a `ClipPool` on the training's device; validation on clips of the volumes held out, if any.

    Args:
        roots: folders with manifest.json (`limnet.datasets.open`).
        task: "interaction" or "propagation".
        batch_size: clips per process and step.
        size: side of the windows in network pixels.
        length: slices of a clip of "propagation"; "interaction" has pairs.
        pool: clips kept on the device.
        workers: processes that draw; at least one is started.
        seed: of everything drawn.
        held: clips of the validation.
        weights: file that says how often groups of files are drawn (`read_weights`); all alike without one.
    """

    def __init__(
        self,
        roots: Path | Sequence[Path],
        task: str,
        batch_size: int,
        size: int,
        length: int,
        pool: int,
        workers: int,
        seed: int = 0,
        held: int = 320,
        weights: Path | None = None,
    ) -> None:
        super().__init__()
        self.roots, self.task, self.batch_size, self.size = roots, task, batch_size, size
        self.length = PAIR if task == "interaction" else length
        self.pool, self.workers, self.seed, self.held = pool, max(workers, 1), seed, held
        self.weights = weights

    def train_dataloader(self) -> ClipPool:
        """Endless batches of image, mask and start mask."""
        sources = load_sources(self.roots, "train", read_weights(self.weights, "train"))
        drawer = ClipDrawer(sources, self.length, self.size, **DRAWN[self.task])
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        first = min(self.pool, max(8 * self.batch_size, BLOCK))
        return ClipPool(DrawnBlocks(drawer, self.seed), self.batch_size, self.pool, first, self.workers, device)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The same clips every time, in batches of 40; nothing where no volume is held out."""
        sources = load_sources(self.roots, "val", read_weights(self.weights, "val"))
        if not sources:
            return []
        length = 1 if self.task == "interaction" else self.length
        drawer = ClipDrawer(sources, length, self.size, HELD_SPAN, paint=0.0, parts=1.0, synthetic=0.0)
        rng = np.random.default_rng([77, self.length])
        clips = [drawer.draw(rng) for _ in range(self.held)]
        image, mask, _ = (torch.from_numpy(np.stack(part).astype(np.uint8)) for part in zip(*clips, strict=True))
        return DataLoader(TensorDataset(image, mask), HELD_BATCH)
