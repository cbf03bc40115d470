"""Reading what the user marked on the command line or in a prompts file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limnet.errors import FileFormatError, InputError, MissingFileError, OutsideError
from limnet.image.io.reading import local_path, place_of

if TYPE_CHECKING:
    from limnet.image.volume import Gaps, Volume
    from limnet.prompts import Prompt

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Job:
    """One volume to segment: the options of `limnet segment`, and what makes its prompts once the volume is known."""

    volume: Path
    out: Path
    prompts: Callable[[Volume], list[Prompt]] = field(repr=False)
    axis: int | None = None
    window: tuple[float, float] | None = None
    index: int | None = None
    series: str | int | None = None
    gaps: Gaps = "refuse"
    scope: str | None = None
    start: Path | None = None
    label: int | None = None
    together: bool = False
    modality: str | None = None
    propose: str | None = None


_FORMS = {
    "click": "z,y,x such as 12,240,180; add ,- for a click off the object",
    "box": "two corners z0,y0,x0,z1,y1,x1",
    "scribble": "points z,y,x;z,y,x;... and perhaps a last ;-",
    "lasso": "points z,y,x;z,y,x;... and perhaps a last ;-",
}


def parse_prompt(kind: str, text: str) -> tuple[list[Numbers], bool]:
    """The points (two corners of a box) in the text of an option, and whether it marks the object."""
    count = {"click": 3, "box": 6}.get(kind)
    parts = [part.strip() for part in text.split("," if count else ";") if count or part.strip()]
    positive = True
    if kind != "box" and parts and parts[-1] in ("+", "-"):
        positive = parts.pop() == "+"
    what = f"--{kind} {text!r}"
    if count:
        numbers = _numbers(parts, count, what, _FORMS[kind])
        return [numbers[at : at + 3] for at in range(0, count, 3)], positive
    return [_numbers(part.split(","), 3, what, _FORMS[kind]) for part in parts], positive


def parse_window(text: str) -> tuple[float, float]:
    """Read "lo,hi"; InputError for anything else, or lo >= hi."""
    low, high = _numbers(text.split(","), 2, f"--window {text!r}", "two intensities lo,hi such as -160,240")
    if low >= high:
        raise InputError(f"--window {text!r} has lo >= hi; give the darker value first")
    return low, high


def typed_prompts(marks: Sequence[tuple[str, str]], mm: bool) -> Callable[[Volume], list[Prompt]]:
    """Check the options, (name, text) as typed, now, and return what makes prompts of them in that order.

    With `mm` points are world coordinates. Raises InputError for an option that cannot be read, or none at all.
    """
    if not marks:
        raise InputError(
            "nothing is marked; give at least one --click z,y,x (or --scribble, --box, --lasso, --prompts)"
        )
    given = [(kind, text, *parse_prompt(kind, text)) for kind, text in marks]

    def make(volume: Volume) -> list[Prompt]:
        from limnet.prompts import Box, Click, Lasso, Scribble

        prompts: list[Prompt] = []
        for kind, text, written, positive in given:
            points = tuple(to_voxel(point, volume, mm, f"--{kind} {text}") for point in written)
            if kind == "click":
                prompts.append(Click(points[0], positive))
            elif kind == "box":  # an axis of the world may run against the array
                prompts.append(Box(*(_sorted(*points) if mm else points)))
            else:
                prompts.append((Lasso if kind == "lasso" else Scribble)(points, positive))
        return prompts

    return make


def to_voxel(point: Numbers, volume: Volume, mm: bool, what: str = "the point") -> tuple[int, int, int]:
    """Voxel (z, y, x) of three numbers: array indices z,y,x, or with `mm` world coordinates x,y,z of the file."""
    if mm:
        z, y, x = (round(float(v)) for v in volume.to_index(point))
        if not all(0 <= v < n for v, n in zip((z, y, x), volume.shape, strict=True)):
            corners = volume.to_world(list(product(*((0, n - 1) for n in volume.shape))))
            low, high = corners.min(axis=0), corners.max(axis=0)
            reach = ", ".join(f"{name} {a:.6g} to {b:.6g}" for name, a, b in zip("xyz", low, high, strict=True))
            raise OutsideError(
                f"{what}: {','.join(f'{v:g}' for v in point)} mm is outside the image, which reaches over {reach} mm "
                f"({volume.convention}). Give x,y,z in the world of the file, or leave --mm out for voxels z,y,x"
            )
        return z, y, x
    if any(p != int(p) for p in point):
        raise InputError(f"voxel {point} is not made of whole numbers; use --mm for world coordinates")
    return int(point[0]), int(point[1]), int(point[2])


def marks_object(prompts: Sequence[Prompt]) -> bool:
    """Whether any prompt says where the object is; without one the mask stays empty."""
    from limnet.prompts import Box, MaskPrompt

    return any(p.mask.count > 0 if isinstance(p, MaskPrompt) else isinstance(p, Box) or p.positive for p in prompts)


def read_jobs(path: Path) -> list[Job]:
    """Read a prompts file; its relative paths are relative to the file itself."""
    from limnet.prompts import prompt_from_json

    if not path.is_file():
        raise MissingFileError(f"prompts file {path} does not exist")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, list) or not content:
        raise InputError(f'{path} must hold a list such as [{{"volume": ..., "out": ..., "prompts": [...]}}]')
    jobs = []
    for number, entry in enumerate(content, start=1):
        where = f"entry {number} of {path}"
        _check_entry(entry, where)
        try:
            prompts = [prompt_from_json(p) for p in entry["prompts"]]
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        given = {name: entry[name] for name in _OPTIONAL if entry.get(name) is not None}
        if "window" in given:
            given["window"] = _pair(given["window"], where)
        if "start" in given:
            given["start"] = place_of(given["start"], path.parent)
        volume, out = place_of(entry["volume"], path.parent), local_path(entry["out"], path.parent)
        jobs.append(Job(volume, out, lambda _, fixed=tuple(prompts): list(fixed), **given))  # type: ignore[misc]
    _check_outputs(jobs, path)
    return jobs


_REQUIRED = {"volume": str, "out": str, "prompts": list}
_OPTIONAL = ("axis", "window", "index", "series", "gaps", "scope", "start", "label", "together", "modality", "propose")


def _check_outputs(jobs: Sequence[Job], path: Path) -> None:
    """Refuse entries of which one would replace the mask or the volume of another."""
    volumes = {_identity(job.volume): number for number, job in enumerate(jobs, start=1)}
    written: dict[object, int] = {}
    for number, job in enumerate(jobs, start=1):
        place = _identity(job.out)
        if place in written:
            raise InputError(
                f"entries {written[place]} and {number} of {path} both write {job.out}: give each an out of its own"
            )
        if place in volumes:
            raise InputError(
                f"entry {number} of {path} would write over the volume of entry {volumes[place]}, {job.out}: "
                "give it another out"
            )
        written[place] = number


def _identity(path: Path) -> object:
    """The same for all names of one file: other spellings, links, hard links."""
    try:
        found = path.stat()
        return found.st_dev, found.st_ino
    except OSError:
        return os.path.normcase(os.path.realpath(path))


def _check_entry(entry: Any, where: str) -> None:
    if not isinstance(entry, dict):
        raise InputError(f"{where} is no object with volume, out and prompts")
    for key, kind in _REQUIRED.items():
        if not isinstance(entry.get(key), kind) or not entry[key]:
            raise InputError(f"{where} needs {key!r}: a {'list of prompts' if kind is list else 'path'}")
    if not isinstance(entry.get("start", ""), str) or not isinstance(entry.get("together", False), bool):
        raise InputError(f"{where}: start is a path, together is true or false")
    unknown = sorted(set(entry) - set(_REQUIRED) - set(_OPTIONAL))
    if unknown:
        raise InputError(f"{where} has unknown keys {unknown}; allowed: {', '.join([*_REQUIRED, *_OPTIONAL])}")


def _pair(value: Any, where: str) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"{where} has window {value!r}; give [lo, hi]")
    try:
        return float(value[0]), float(value[1])
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} has window {value!r}; give [lo, hi], two numbers") from error


def _numbers(parts: Sequence[str], count: int, what: str, form: str) -> Numbers:
    try:
        numbers = tuple(float(p) for p in parts)
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(abs(n) < 1e9 for n in numbers):
        raise InputError(f"{what} cannot be read; give {form}")
    return numbers


def _sorted(a: tuple[int, int, int], b: tuple[int, int, int]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    low, high = zip(*((min(p, q), max(p, q)) for p, q in zip(a, b, strict=True)), strict=True)
    return low, high
