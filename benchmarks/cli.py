"""`limnet bench`: run a benchmark, or make a report of results."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.core.registry import ANALYSES, PEERS, SUITES
from limnet.commands.scripts import RawCommand
from limnet.errors import InputError, LimnetError

if TYPE_CHECKING:
    from benchmarks.core.method import Predictor

bench_app = typer.Typer(
    help="Benchmarks: the same cases and the same robot user for limnet and its peers.", no_args_is_help=True
)

Data = Annotated[Path, typer.Option("--data", help="Folder of the data set.", show_default=False)]
Models = Annotated[list[str] | None, typer.Option("--model", help="Zoo name, model folder or Hub id; may be repeated.")]
Peers = Annotated[
    list[str] | None,
    typer.Option(
        "--peer", help=f"Also run a peer, as NAME or NAME:option=value,...: {', '.join(PEERS) or 'none yet'}."
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder of the result files.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Do not go on from an interrupted run; begin again.")]
Devices = Annotated[str, typer.Option("--devices", help="Processes per machine, or a list of GPUs such as 0,1.")]
Nodes = Annotated[int, typer.Option("--nodes", help="Number of machines.")]
Accelerator = Annotated[str, typer.Option("--accelerator", help="cpu, gpu, or auto: gpu where there is one.")]
Precision = Annotated[str, typer.Option("--precision", help="Of the model: auto, fp32 or bf16.")]
Threads = Annotated[int, typer.Option("--threads", help="Threads per process; 0 leaves them as they are.", min=0)]
Scope = Annotated[str | None, typer.Option("--scope", help="Propagation scope; the model's own by default.")]
Tau = Annotated[float | None, typer.Option("--tau", help="Fusion threshold, 1 turns fusion off; the model's own.")]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="Of limnet models: paper (its method and no more; default of its tables) or ours (the model's settings).",
    ),
]
Setting = Annotated[
    list[str] | None,
    typer.Option("--setting", help="Setting of limnet models, NAME=VALUE, such as look_back=0; may be repeated."),
]
Split = Annotated[str | None, typer.Option("--split", help="Split of the data set; the benchmark's own by default.")]
Rounds = Annotated[int | None, typer.Option("--rounds", help="Rounds per object.", min=1)]
PerCase = Annotated[int | None, typer.Option("--per-case", help="At most so many objects of a case.", min=1)]
PerGroup = Annotated[int | None, typer.Option("--per-group", help="At most so many cases of a group.", min=1)]
Smallest = Annotated[int | None, typer.Option("--smallest", help="Least number of voxels of an object.", min=1)]
Axis = Annotated[int | None, typer.Option("--axis", help="Slice axis.", min=0, max=2)]
Nsd = Annotated[float | None, typer.Option("--nsd", help="Also measure surface Dice at this tolerance in mm.", min=0)]
Jitter = Annotated[float | None, typer.Option("--jitter", help="Clicks are off by up to this many mm.", min=0)]
Views = Annotated[bool, typer.Option("--views/--no-views", help="Keep a small picture of every object for reports.")]
Parts = Annotated[
    list[str] | None,
    typer.Option("--part", help="Only this data set of the benchmark, such as kits19; may be repeated."),
]
Target = Annotated[
    float | None, typer.Option("--target", help="Click counts: IoU at which an object ends, .9 by default.", min=0)
]
Way = Annotated[
    str | None,
    typer.Option("--way", help="Click counts: window (as limnet works) or zoom (as RITM); by the network by default."),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Of the robot user.", min=0)]
Name = Annotated[
    str | None,
    typer.Option(
        "--name",
        help="Which data set, as NAME or NAME:option=value,... (limnet data list); of bench dataset, and of cvpr25.",
    ),
]


def _command(name: str) -> Callable[..., None]:
    def bench(
        data: Data,
        dataset: Name = None,
        model: Models = None,
        peer: Peers = None,
        out: Out = Path("results"),
        fresh: Fresh = False,
        split: Split = None,
        part: Parts = None,
        rounds: Rounds = None,
        per_case: PerCase = None,
        per_group: PerGroup = None,
        smallest: Smallest = None,
        axis: Axis = None,
        nsd: Nsd = None,
        jitter: Jitter = None,
        seed: Seed = None,
        target: Target = None,
        way: Way = None,
        scope: Scope = None,
        tau: Tau = None,
        method: Method = None,
        setting: Setting = None,
        views: Views = True,
        threads: Threads = 0,
        precision: Precision = "auto",
        accelerator: Accelerator = "cpu",
        devices: Devices = "1",
        nodes: Nodes = 1,
    ) -> None:
        from benchmarks.core.registry import build_peer, build_suite
        from benchmarks.core.suite import SuiteOptions
        from limnet.settings import parse_settings

        options = SuiteOptions(split, rounds, per_case, per_group, smallest, axis, nsd, jitter, seed, dataset)
        options = dataclasses.replace(options, parts=tuple(part or ()), target=target, way=way, method=method)
        suite = build_suite(name, data, options)
        accelerator, device = _device(accelerator)
        models = model or ([] if peer else ["limnet-tiny"])
        given = parse_settings(setting or [])
        predictors: list[Predictor] = [
            suite.limnet(m, scope, tau, {**given, **variant}, threads, device, precision, method=suite.method)
            for m in models
            for variant in suite.variants
        ]
        shared = {"device": device, "precision": precision, **({"model": models[0]} if models else {})}
        predictors += [build_peer(text, shared) for text in peer or []]
        run_all(suite, predictors, out, fresh=fresh, views=views, accelerator=accelerator, devices=devices, nodes=nodes)

    return bench


def _device(accelerator: str) -> tuple[str, str]:
    """Accelerator for the Trainer, and torch's name of the device.

    Raises:
        InputError: another word than cpu, gpu, cuda and auto.
    """
    if accelerator not in ("cpu", "gpu", "cuda", "auto"):
        raise InputError(f"--accelerator is {accelerator!r}; allowed are cpu, gpu and auto")
    if accelerator == "auto":
        import torch

        accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    return ("cpu", "cpu") if accelerator == "cpu" else ("gpu", "cuda")


def run_all(
    suite: Any,
    predictors: list[Predictor],
    out: Path,
    *,
    fresh: bool = False,
    views: bool = True,
    accelerator: str = "cpu",
    devices: str = "1",
    nodes: int = 1,
) -> None:
    """Run a suite with every method, each to `out`/SUITE_METHOD.json, and print the tables.

    Args:
        suite: the suite.
        predictors: the methods.
        out: folder, or a .json file for one method.
        fresh: forget finished objects of earlier runs.
        views: keep a small picture of every object.
        accelerator: "cpu" or "gpu".
        devices: processes per machine.
        nodes: number of machines.

    Raises:
        InputError: methods of one name, one that cannot be prompted as the suite does, or that lacks its package.
        MissingFileError: a peer without its weights or folder.
        ModelNotFoundError: no such model.
        LimnetError: a method that did not finish a single object, after all of them ran.
    """
    import argparse

    from rich.console import Console

    from benchmarks.core.report import idle_note, markdown_tables
    from benchmarks.core.results import result_path
    from benchmarks.core.run import check_ready, journals, run_suite
    from limnet.training.launch import trainer_kwargs

    place = argparse.Namespace(
        accelerator=accelerator, devices=devices, num_nodes=nodes, strategy="auto", precision="32-true"
    )
    trainer = trainer_kwargs(place)
    console, errors = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)
    found = []
    for predictor in predictors:
        suite.played_by(predictor)  # a method that cannot be prompted so is named before the first one runs
    paths = [result_path(out, suite.name, predictor.name) for predictor in predictors]
    if len(set(paths)) < len(paths):
        raise InputError(
            f"two methods would write one file: {', '.join(p.name for p in paths)}. Give models of different names, a "
            "folder to --out, or run them one after the other with different --out"
        )
    check_ready(suite, predictors)
    for predictor, path in zip(predictors, paths, strict=True):
        if fresh and int(os.environ.get("LOCAL_RANK", "0")) == 0:
            for journal in journals(path):
                journal.unlink(missing_ok=True)
        results = run_suite(suite, predictor, path, trainer=trainer, views=views, progress=lambda r: _show(errors, r))
        if results is not None:
            found.append(results)
            console.print(f"{path}")
    if found:
        console.print(markdown_tables(found), markup=False, highlight=False)
    idle = [note for results in found if (note := idle_note(results)) is not None]
    if idle:
        raise LimnetError("\n".join(idle))


def _show(console: Any, record: dict[str, Any]) -> None:
    where = f"{record['case']} {record['object']}".strip()
    if record["type"] == "error":
        console.print(f"{where}: {record['error']}", style="red", markup=False, highlight=False)
    elif record["type"] == "object":
        scores = " ".join(f"{v.get('iou', v['dice']):.3f}" for v in record["values"])
        console.print(f"{where}: {scores}", markup=False, highlight=False)


@bench_app.command()
def report(
    files: Annotated[list[Path], typer.Argument(help="Result files of limnet bench (.json).")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the report.")] = Path("report"),
    worst: Annotated[int, typer.Option("--worst", help="Number of objects in the gallery.", min=1)] = 6,
) -> None:
    """Tables in Markdown, beside published numbers where there are; plots; a gallery of the worst cases."""
    from rich.console import Console

    from benchmarks.core.report import idle_note, read_any, write_report

    for path in write_report(files, out, worst=worst):
        Console(soft_wrap=True).print(f"{path}")
    for results in filter(None, map(read_any, files)):
        if (note := idle_note(results)) is not None:
            Console(stderr=True, soft_wrap=True).print(note, style="red", markup=False, highlight=False)


for _name, _entry in SUITES.items():
    bench_app.command(_name, help=f"Run the benchmark: {_entry.title}.")(_command(_name))


def _analysis(name: str) -> Callable[..., None]:
    def analysis(ctx: typer.Context) -> None:
        import_module(ANALYSES[name].module).main([*ANALYSES[name].words, *ctx.args])

    return analysis


for _name, _found in ANALYSES.items():
    bench_app.command(_name, cls=RawCommand, add_help_option=False, help=f"Analysis: {_found.title}.")(_analysis(_name))
