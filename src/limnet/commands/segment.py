"""`limnet segment`: prompts in, a mask file out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from limnet.commands.options import Device, Gaps, Index, Model, Series

if TYPE_CHECKING:
    from rich.console import Console

    from limnet.commands.marks import Job
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
        list[str] | None, typer.Option(metavar="z,y,x;...[;-]", help="A stroke on one slice. Repeatable.")
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

    from limnet.commands.guard import exit_code, show_error
    from limnet.commands.marks import Job, parse_window, read_jobs, typed_prompts
    from limnet.errors import Cancelled, InputError, LimnetError
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

    from limnet.commands.marks import marks_object
    from limnet.errors import InputError
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
        case.propose(job.propose)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(job.volume.name, total=None)

        def watch(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        for number, prompt in enumerate(marked, start=1):
            progress.update(task, description=f"{job.volume.name}, round {number} of {len(marked)}")
            case.prompt(prompt, propagate=not job.together, scope=job.scope, progress=watch)
        if job.together:
            case.propagate(watch, scope=job.scope)
    written = case.save(job.out)
    voxels = int(case.mask.sum())
    millilitres = voxels * float(volume.spacing[0] * volume.spacing[1] * volume.spacing[2]) / 1000
    seconds = time.perf_counter() - begun
    typer.echo(f"{written}: {voxels} voxels, {millilitres:.2f} ml, {seconds:.1f} s")
    if len(case.prompted) < len(case.view):
        hint = case.suggest()
        typer.echo(f"look next at slice {hint.index}: {hint.reason}")
