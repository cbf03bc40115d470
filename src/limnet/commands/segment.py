"""`limnet segment`: prompts in, a mask file out."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from limnet.commands.shared import Device, Gaps, Index, Model, Series
from limnet.errors import Cancelled, FileFormatError, InputError, LimnetError, MissingFileError, OutsideError
from limnet.image.io.reading import local_path, place_of

if TYPE_CHECKING:
    from rich.console import Console

    from limnet.image.volume import Gaps as GapsValue
    from limnet.image.volume import Volume
    from limnet.prompts import Prompt
    from limnet.segmenter import InteractiveSegmenter

_ORDER = "limnet.order"


class OrderedCommand(TyperCommand):
    """A command that knows in which order its options were given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the name of every option in `ctx.meta`, once for each time it was given."""
        ctx.meta[_ORDER] = [option.name for option in self.make_parser(ctx).parse_args(list(args))[2]]
        return super().parse_args(ctx, args)


def segment(
    ctx: typer.Context,
    volume: Annotated[
        Path | None, typer.Argument(help="NIfTI, NRRD, MHA, npy/npz, picture, DICOM folder, folder of frames.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Mask to write (.nii.gz, .nrrd, .mha, .npy; DICOM: .dcm, .rtstruct.dcm)."),
    ] = None,
    click: Annotated[
        list[str] | None,
        typer.Option("--click", "-c", metavar="z,y,x[,+|-]", help="A click; ,- marks background. Repeatable."),
    ] = None,
    scribble: Annotated[
        list[str] | None,
        typer.Option(metavar="z,y,x;...[;-]", help="A stroke, on one slice or through many. Repeatable."),
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option(metavar="z0,y0,x0,z1,y1,x1", help="The object lies in this box.")
    ] = None,
    lasso: Annotated[
        list[str] | None, typer.Option(metavar="z,y,x;...[;-]", help="An outline on one slice. Repeatable.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON list of {volume, out, prompts}: many volumes at once.")
    ] = None,
    mm: Annotated[
        bool, typer.Option("--mm", help="Coordinates are world x,y,z in mm as in the file, not voxels z,y,x.")
    ] = False,
    axis: Annotated[int | None, typer.Option(min=0, max=2, help="Axis to go along slice by slice (default 0).")] = None,
    window: Annotated[str | None, typer.Option(metavar="lo,hi", help="Intensity window, such as -160,240 HU.")] = None,
    index: Index = None,
    series: Series = None,
    gaps: Gaps = None,
    modality: Annotated[
        str | None, typer.Option(metavar="CT|MR|...", help="What the image is, where the file does not say it.")
    ] = None,
    scope: Annotated[str | None, typer.Option(metavar="volume|interval", help="How far a prompt propagates.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(metavar="MASK", help="Mask to start from, on the grid of the volume; prompts correct it."),
    ] = None,
    label: Annotated[int | None, typer.Option(help="Which label of --start.")] = None,
    propose: Annotated[
        str | None, typer.Option(metavar="NAME", help="Start from what was learned under this name (limnet learn).")
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Propagate all prompts at once, in place of one round each.")
    ] = False,
    model: Model = "limnet-tiny",
    device: Device = "cpu",
) -> None:
    """Segment a structure by clicks, strokes, boxes or outlines: one round each, in the order given.

    limnet segment ct.nii.gz --click 40,120,96 --click 40,80,60,- --out liver.nii.gz
    """
    from rich.console import Console

    from limnet.commands.shared import exit_code, show_error
    from limnet.image.volume import check_gaps
    from limnet.settings import check_scope

    if scope is not None:
        check_scope(scope)
    own: dict[str, Any] = {"axis": axis, "window": window, "index": index, "series": series, "gaps": gaps}
    own |= {"scope": scope, "start": start, "label": label, "together": together or None, "modality": modality}
    given = {name: value for name, value in {**own, "propose": propose}.items() if value is not None}
    if prompts is not None:
        if volume is not None or out is not None or click or scribble or box or lasso or mm:
            raise InputError(
                "--prompts names volumes, outputs and prompts itself; leave out VOLUME, --out, prompts and --mm"
            )
        for name in given:
            raise InputError(f'--prompts names {name} itself; leave out --{name} and put "{name}" into the file')
        jobs = read_jobs(prompts)
    else:
        if volume is None or out is None:
            raise InputError("give a VOLUME and --out MASK, or --prompts FILE")
        if propose is None and not (click or scribble or box or lasso):
            raise InputError(
                "nothing is marked; give at least one --click z,y,x "
                "(or --scribble, --box, --lasso, --propose, --prompts)"
            )
        typed = {"click": iter(click or []), "scribble": iter(scribble or []), "box": iter(box or [])}
        typed["lasso"] = iter(lasso or [])
        marks = typed_prompts([(name, next(typed[name])) for name in ctx.meta[_ORDER] if name in typed], mm)
        if window is not None:
            given["window"] = parse_window(window)
        if label is not None and start is None:
            raise InputError("--label says which label of --start is meant; give --start, or leave it out")
        check_gaps(gaps or "refuse")
        if start is not None and propose is not None:
            raise InputError("--start and --propose both give a first mask: leave one of them out")
        jobs = [Job(volume, out, marks, **given)]

    from limnet.segmenter import InteractiveSegmenter

    console = Console(stderr=True, soft_wrap=True)
    segmenter = InteractiveSegmenter.from_pretrained(model, device=device)
    if len(jobs) == 1:
        run_job(segmenter, jobs[0], console)
        return
    worst = 0
    for job in jobs:
        try:
            run_job(segmenter, job, console)
        except Cancelled:
            raise
        except (LimnetError, OSError) as error:
            show_error(error, str(job.volume))
            worst = max(worst, exit_code(error))
    if worst:
        raise typer.Exit(worst)


def run_job(segmenter: InteractiveSegmenter, job: Job, console: Console) -> None:
    """Read, play the rounds, write; then say what came out and where to look next."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from limnet.image.io.formats import check_output, check_output_for
    from limnet.image.volume import Volume

    check_output(job.out, job.volume)
    volume = Volume.read(job.volume, job.index, job.series, job.gaps, modality=job.modality)
    check_output_for(volume, job.out)
    marked = job.prompts(volume)
    if job.start is None and job.propose is None and not marks_object(marked):
        raise InputError(
            "every prompt marks background, so the mask would be empty: click on the object too, --click z,y,x without "
            "the last ,- (or give --start, a mask to correct)"
        )
    case = segmenter.open(volume, axis=job.axis or 0, window=job.window)
    begun = time.perf_counter()
    if job.start is not None:
        case.set_mask(job.start, frozen=False, label=job.label)
    elif job.propose is not None:
        found = case.propose(job.propose)
        if not (marked or found.any()):
            raise InputError(
                f"no {job.propose} was found in {job.volume}, so nothing was written: click on it, --click z,y,x"
            )
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(job.volume.name, total=None)

        def watch(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        for number, prompt in enumerate(marked, start=1):
            progress.update(task, description=f"{job.volume.name}, round {number} of {len(marked)}")
            case.prompt(prompt, propagate=not job.together, scope=job.scope, progress=watch)
        if job.together and marked:
            case.propagate(watch, scope=job.scope)
    written = case.save(job.out)
    voxels = int(case.mask.sum())
    measured = volume.header is not None or volume.spacing != (1.0, 1.0, 1.0)  # pictures and arrays know no millimetres
    size = f", {voxels * math.prod(volume.spacing) / 1000:.2f} ml" if measured else ""
    seconds = time.perf_counter() - begun
    typer.echo(f"{written}: {voxels} voxels{size}, {seconds:.1f} s")
    if len(case.prompted) < len(case.view):
        hint = case.suggest()
        typer.echo(f"look next at slice {hint.index}: {hint.reason}")


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
    gaps: GapsValue = "refuse"
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

    With `mm` points are world coordinates. Raises InputError for an option that cannot be read.
    """
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
    from limnet.image.slice_view import checked_window
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
        given = {name: entry[name] for name in _OPTIONAL if entry.get(name) is not None}
        try:
            prompts = [prompt_from_json(p) for p in entry["prompts"]]
            if "window" in given:
                given["window"] = checked_window(given["window"])
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
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
        needed = key != "prompts" or "propose" not in entry  # a proposal needs no prompt
        if not isinstance(entry.get(key), kind) or (needed and not entry[key]):
            raise InputError(f"{where} needs {key!r}: a {'list of prompts' if kind is list else 'path'}")
    texts = all(isinstance(entry.get(key, ""), str) for key in ("start", "propose"))
    if not texts or not isinstance(entry.get("together", False), bool):
        raise InputError(f"{where}: start is a path, propose a name, together is true or false")
    if "start" in entry and "propose" in entry:
        raise InputError(f"{where}: start and propose both give a first mask: leave one of them out")
    if "label" in entry and "start" not in entry:
        raise InputError(f"{where}: label says which label of start is meant: give start, or leave it out")
    unknown = sorted(set(entry) - set(_REQUIRED) - set(_OPTIONAL))
    if unknown:
        raise InputError(f"{where} has unknown keys {unknown}; allowed: {', '.join([*_REQUIRED, *_OPTIONAL])}")


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
