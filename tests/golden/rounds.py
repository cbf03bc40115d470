"""Golden rounds: what a user does with five small real volumes, and the masks that came of it when last looked at.

Prompts follow from the reference masks alone, never from what the networks answered, so that one changed mask does not
change what is asked next. Nothing of the images is kept: masks only, as bits, with a table that people can read.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from limnet import InteractiveSegmenter
from limnet.metrics import dice

MASKS = Path(__file__).with_name("masks.npz")
TABLE = Path(__file__).with_name("table.json")
CLOSE = 0.995  # Dice with the stored mask that counts as the same where the processor rounds otherwise
_FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "asimd", "sve")

Mask = NDArray[np.bool_]
Point = tuple[int, int, int]


class Source(NamedTuple):
    """A part of a file and the two objects in it: label ids, or -1, -2 for the largest components of all labels."""

    file: str
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    first: int
    second: int
    axis: int = 0


SOURCES = {
    "CT, kidney and spleen": Source("train/ts_ct_abdomen.npz", ((80, 98), (28, 92), (60, 122)), 3, 1),
    "MR, liver and kidney": Source("train/ts_mr_abdomen.npz", ((1, 19), (6, 86), (4, 100)), 5, 2),
    "MR T1 coronal, hippocampus and thalamus": Source(
        "val/vxm_brain_t1.npz", ((40, 112), (90, 110), (66, 132)), 17, 10, 1
    ),
    "FLAIR, two lesions": Source("train/openms_p26_flair.npz", ((75, 92), (52, 108), (30, 100)), -1, -2),
    "confocal, two cells": Source("val/micro/plantseg_ovule.npz", ((2, 20), (16, 96), (60, 128)), 17, 18),
}


class Step(NamedTuple):
    """One step of a user and the mask it left."""

    what: str
    mask: Mask
    dice: float


@dataclass(frozen=True)
class Stored:
    """What the repository keeps of one step."""

    what: str
    sha256: str
    voxels: int
    dice: float
    mask: Mask


def play(root: Path, name: str, segmenter: InteractiveSegmenter) -> list[Step]:
    """Six rounds and an undo on one source: clicks, a scribble and a box on two objects."""
    with one_thread():
        return _play(root, SOURCES[name], segmenter)


def _play(root: Path, source: Source, segmenter: InteractiveSegmenter) -> list[Step]:
    image, spacing, first, second = _load(root, source)
    case = segmenter.open(image, spacing=spacing, axis=source.axis)
    other = case.object("second")
    steps: list[Step] = []

    def done(what: str, mask: Mask, truth: Mask) -> None:
        steps.append(Step(what, mask, round(dice(mask, truth), 4)))

    one, two = Prompts(first, case.axis), Prompts(second, case.axis)
    done("first: click", case.click(one.centre(0.5)), first)
    done("first: negative click", case.click(one.outside(0.25), positive=False), first)
    done("first: scribble", case.scribble(one.stroke(0.75)), first)
    done("first: undo", case.object(case.name).undo(), first)
    done("second: box", other.box(*two.corners()), second)
    done("second: negative click", other.click(two.outside(0.3), positive=False), second)
    done("first: click, whole volume", case.click(one.centre(0.85), scope="volume"), first)
    return steps


class Prompts:
    """Places in and beside an object, by the share of its filled slices that lie below: 0 the lowest, 1 the highest."""

    def __init__(self, truth: Mask, axis: int) -> None:
        self.stack, self.axis = np.moveaxis(truth, axis, 0), axis
        self.filled = np.flatnonzero(self.stack.any(axis=(1, 2)))

    def centre(self, share: float) -> Point:
        """The pixel farthest from the object's border on its slice."""
        index = self._slice(share)
        depth = ndimage.distance_transform_edt(np.pad(self.stack[index], 1))[1:-1, 1:-1]
        return self._point(index, *np.unravel_index(int(depth.argmax()), depth.shape))

    def outside(self, share: float) -> Point:
        """A pixel about three pixels outside the object."""
        index = self._slice(share)
        distance = ndimage.distance_transform_edt(~self.stack[index])
        return self._point(index, *np.unravel_index(int(np.abs(distance - 3).argmin()), distance.shape))

    def stroke(self, share: float) -> list[Point]:
        """The middle half of the object's row through its centre."""
        index = self._slice(share)
        centre = self.centre(share)
        row, column = (int(v) for a, v in enumerate(centre) if a != self.axis)
        parts, _ = ndimage.label(self.stack[index, row])
        held = np.flatnonzero(parts == parts[column])
        quarter = len(held) // 4
        return [self._point(index, row, held[quarter]), self._point(index, row, held[-1 - quarter])]

    def corners(self) -> tuple[Point, Point]:
        """First and last voxel of the object's box."""
        places = np.argwhere(self.stack)
        return self._point(*places.min(0)), self._point(*places.max(0))

    def _slice(self, share: float) -> int:
        return int(self.filled[round(share * (len(self.filled) - 1))])

    def _point(self, index: Any, row: Any, column: Any) -> Point:
        point = [int(row), int(column)]
        point.insert(self.axis, int(index))
        z, y, x = point
        return z, y, x


def _load(root: Path, source: Source) -> tuple[NDArray[Any], tuple[float, ...], Mask, Mask]:
    part = tuple(slice(*ends) for ends in source.box)
    with np.load(root / source.file) as arrays:
        image, label = arrays["image"][part], arrays["label"][part]
        spacing = tuple(float(s) for s in arrays["spacing"])
    if source.first < 0:
        components, _ = ndimage.label(label > 0)
        by_size = np.argsort(np.bincount(components.ravel())[1:], kind="stable") + 1
        return image, spacing, components == by_size[source.first], components == by_size[source.second]
    return image, spacing, label == source.first, label == source.second


def play_all(root: Path) -> dict[str, list[Step]]:
    """All golden rounds with the released weights."""
    segmenter = released()
    return {name: play(root, name, segmenter) for name in SOURCES}


def released() -> InteractiveSegmenter:
    """The bundled model; single precision, which every processor has."""
    return InteractiveSegmenter.from_pretrained("limnet-tiny", precision="fp32")


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order: bits depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def processor() -> dict[str, Any]:
    """What decides how sums are rounded: instructions of the processor and the version of torch."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((set(line.split()) for line in lines if line.startswith(("flags", "Features"))), set())
    return {
        "machine": platform.machine(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "features": [name for name in _FEATURES if name in flags],
        "torch": torch.__version__.split("+")[0],
    }


def sha256(mask: Mask) -> str:
    """Hash of a mask's shape and bits."""
    return hashlib.sha256(f"{mask.shape}".encode() + np.packbits(mask).tobytes()).hexdigest()[:16]


def store(found: dict[str, list[Step]]) -> None:
    """Write masks and table."""
    packed = {name: np.packbits(np.stack([step.mask for step in steps])) for name, steps in found.items()}
    with MASKS.open("wb") as file:
        np.savez_compressed(file, **packed)  # type: ignore[arg-type]
    cases = {
        name: {
            "shape": list(steps[0].mask.shape),
            "steps": [
                {"what": s.what, "sha256": sha256(s.mask), "voxels": int(s.mask.sum()), "dice": s.dice} for s in steps
            ],
        }
        for name, steps in found.items()
    }
    TABLE.write_text(json.dumps({"processor": processor(), "cases": cases}, indent=1) + "\n", encoding="utf-8")


def stored() -> tuple[dict[str, list[Stored]], dict[str, Any]]:
    """The stored steps of every case, and the processor they were made on."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    result = {}
    with np.load(MASKS) as packed:
        for name, case in table["cases"].items():
            shape = (len(case["steps"]), *case["shape"])
            masks = np.unpackbits(packed[name], count=int(np.prod(shape))).reshape(shape).astype(bool)
            result[name] = [Stored(mask=m, **step) for m, step in zip(masks, case["steps"], strict=True)]
    return result, table["processor"]


def difference(new: Step, old: Stored) -> str | None:
    """What differs between two masks, in words; None where every bit is the same."""
    if new.what != old.what:
        return f"step {new.what!r} in place of {old.what!r}"
    if new.mask.shape != old.mask.shape:
        return f"{new.what}: shape {new.mask.shape} in place of {old.mask.shape}"
    other = new.mask != old.mask
    if not other.any():
        return None
    slices = np.flatnonzero(other.any(axis=(1, 2)))
    return (
        f"{new.what}: {int(other.sum())} voxels differ from the {old.voxels} stored "
        f"(Dice of both {dice(new.mask, old.mask):.4f}) on slices {slices[0]} to {slices[-1]} of axis 0; "
        f"Dice with the reference {old.dice:.4f} -> {new.dice:.4f}"
    )
