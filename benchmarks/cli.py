"""`limnet bench`: run a benchmark or an analysis, or make a report of results."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.core.suite import ANALYSES, BASELINES, NAMED, SUITES
from limnet.cli import RawCommand
from limnet.errors import InputError, LimnetError

if TYPE_CHECKING:
    from benchmarks.core.rounds import Predictor

bench_app = typer.Typer(
    help="Benchmarks: the same cases and the same simulated user for limnet and other methods.", no_args_is_help=True
)


def parser_of(name: str) -> argparse.ArgumentParser:
    """The options of a benchmark."""
    from limnet.training.options import whole

    parser = argparse.ArgumentParser(f"limnet bench {name}", description=f"Run the benchmark: {SUITES[name].title}.")
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the data set")
    add("--out", type=Path, default=Path("results"), help="folder of the result files (default: results)")
    if name in NAMED:
        text = "which data set, as NAME or NAME:option=value,... (limnet data list)"
        add("--name", help=text)
    add("--fresh", action="store_true", help="do not go on from an interrupted run; begin again")
    add("--no-views", action="store_true", help="keep no small picture of every object for reports")
    group = parser.add_argument_group("methods")
    add = group.add_argument
    add("--model", action="append", default=[], help="zoo name, model folder or Hub id; may be repeated")
    text = f"also run another method, as NAME or NAME:option=value,...: {', '.join(BASELINES)}"
    add("--baseline", "--peer", action="append", default=[], help=text)
    text = "of limnet models: paper (its method and no more; default of its tables) or ours (the model's settings)"
    add("--method", help=text)
    add("--setting", action="append", default=[], help="setting of limnet models, NAME=VALUE; may be repeated")
    add("--scope", help="propagation scope; the model's own by default")
    add("--tau", type=float, help="fusion threshold, 1 turns fusion off; the model's own by default")
    add("--threads", type=whole(0), default=0, help="threads per process; 0 leaves them as they are")
    group = parser.add_argument_group("objects and rounds", "the benchmark's own by default")
    add = group.add_argument
    add("--split", help="split of the data set")
    add("--part", action="append", default=[], help="only this data set of the benchmark; repeatable")
    add("--per-case", type=whole(1), help="at most so many objects of a case")
    add("--per-group", type=whole(1), help="at most so many cases of a group")
    add("--smallest", type=whole(1), help="least number of voxels of an object")
    add("--axis", type=whole(0, 2), help="slice axis")
    add("--rounds", type=whole(1), help="rounds per object")
    add("--nsd", type=float, help="also measure surface Dice at this tolerance in mm")
    add("--jitter", type=float, help="clicks are off by up to this many mm")
    add("--seed", type=whole(0), help="of the simulated user")
    add("--target", type=float, help="click counts: IoU at which an object ends, .9 by default")
    add("--way", help="click counts: window (as limnet works) or zoom (as RITM); by the network by default")
    group = parser.add_argument_group("machine")
    add = group.add_argument
    add("--accelerator", default="cpu", help="cpu (default), gpu, or auto: gpu where there is one")
    add("--precision", default="auto", help="of limnet models: auto (default), fp32 or bf16")
    add("--devices", default="1", help="processes per machine, or a list of GPUs such as 0,1 (default: 1)")
    add("--nodes", type=whole(1), default=1, help="number of machines (default: 1)")
    return parser


def run_benchmark(name: str, argv: Sequence[str]) -> None:
    """Run a benchmark with every method, each to `out`/SUITE_METHOD.json, and print the tables.

    Raises:
        LimnetError: what cannot be used, before the first case; a method that finished no object, after all of them.
    """
    from rich.console import Console

    from benchmarks.core.record import command_of, result_path
    from benchmarks.core.report import idle_note, markdown_tables
    from benchmarks.core.run import check_ready, run_suite, teller
    from benchmarks.core.suite import SuiteOptions, build_baseline, build_suite
    from limnet.settings import parse_settings
    from limnet.training.options import trainer_kwargs

    parser = parser_of(name)
    args = parser.parse_args(argv)
    same = ("split", "rounds", "per_case", "per_group", "smallest", "axis", "jitter", "seed", "target", "way", "method")
    options = SuiteOptions(**{key: getattr(args, key) for key in same}, nsd_mm=args.nsd, parts=tuple(args.part))
    suite = build_suite(name, args.data, dataclasses.replace(options, dataset=vars(args).get("name")))
    args.accelerator, device = _device(args.accelerator)
    models = args.model or ([] if args.baseline else ["limnet-tiny"])
    given = parse_settings(args.setting)
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    of_all = {name: getattr(args, name) for name in ("scope", "tau") if getattr(args, name) is not None}
    # a variant of the suite (such as tau=1) stays what it is beside a tau for all
    settings = [{**given, **own, **of_all, **given, **own} for own in suite.variants]
    predictors: list[Predictor] = [
        suite.limnet(m, own, device, args.precision, method=suite.method) for m in models for own in settings
    ]
    shared = {"device": device, "precision": args.precision, **({"model": models[0]} if models else {})}
    predictors += [build_baseline(text, shared) for text in args.baseline]
    place = {"num_nodes": args.nodes, "strategy": "auto", "precision": "32-true"}
    trainer = trainer_kwargs(argparse.Namespace(accelerator=args.accelerator, devices=args.devices, **place))
    command, console = command_of(name, parser, args), Console(soft_wrap=True)
    for predictor in predictors:
        suite.played_by(predictor)  # a method that cannot be prompted so is named before the first one runs
    paths = [result_path(args.out, suite.name, predictor.name) for predictor in predictors]
    if len(set(paths)) < len(paths):
        raise InputError(
            f"two methods would write one file: {', '.join(p.name for p in paths)}. Give models of different names, a "
            "folder to --out, or run them one after the other with different --out"
        )
    check_ready(suite, predictors)
    found = []
    for predictor, path in zip(predictors, paths, strict=True):
        results = run_suite(
            suite,
            predictor,
            path,
            trainer=trainer,
            views=not args.no_views,
            fresh=args.fresh,
            command=command,
            progress=teller(),
        )
        if results is not None:
            found.append(results)
            console.print(f"{path}")
    if found:
        console.print(markdown_tables(found), markup=False, highlight=False)
    idle = [note for results in found if (note := idle_note(results)) is not None]
    if idle:
        raise LimnetError("\n".join(idle))


def _device(accelerator: str) -> tuple[str, str]:
    """Accelerator for the Trainer, and torch's name of the device; raises InputError on other words."""
    if accelerator not in ("cpu", "gpu", "cuda", "auto"):
        raise InputError(f"--accelerator is {accelerator!r}; allowed are cpu, gpu and auto")
    if accelerator == "auto":
        import torch

        accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    return ("cpu", "cpu") if accelerator == "cpu" else ("gpu", "cuda")


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


def _command(name: str) -> Callable[[typer.Context], None]:
    def command(ctx: typer.Context) -> None:
        if name in SUITES:
            run_benchmark(name, ctx.args)
        else:
            ANALYSES[name].load()([*ANALYSES[name].words, *ctx.args])

    return command


for _name, _entry in {**SUITES, **ANALYSES}.items():
    _kind = "Run the benchmark" if _name in SUITES else "Analysis"
    bench_app.command(_name, cls=RawCommand, add_help_option=False, help=f"{_kind}: {_entry.title}.")(_command(_name))
