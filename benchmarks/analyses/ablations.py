"""What each part brings: the model as released against itself with one setting changed, and against other weights.

    limnet bench ablations --data ROOT --out benchmarks/results --model limnet-tiny
    limnet bench ablations --data ROOT --out benchmarks/results --models with-corruption,without-corruption

Settings: propagation scope (volume against interval), a window that follows the object, the early stop after empty
slices, the disk around disobeyed clicks, fusion. With `--models A,B` the same objects are segmented by several models
as they are instead, for example trained with and without the defective masks; with `--true-prompts` the model with
itself where the best of the answers offered after a click is chosen (`case.alternatives`), and where every clicked
slice comes out right, as if corrected before it is propagated. "clicks obeyed" is
the share of clicks that the interaction network obeys by itself, before the case makes every click hold; "compliance"
is what is left after that, which must be 100 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.analyses.watchers import ChoosingSession, TruePredictor, WatchedPredictor
from benchmarks.core import analysis
from benchmarks.core.analysis import Comparison
from benchmarks.core.pictures import bar_rows
from benchmarks.core.record import Record, Row, pace
from benchmarks.core.report import markdown, share, signed
from benchmarks.core.rounds import Target, columns
from benchmarks.core.run import Measure
from limnet.case.case import Case
from limnet.errors import InputError
from limnet.segmenter import InteractiveSegmenter

RELEASED, CHOSEN, TRUE = "as released", "best answer chosen", "clicked slices true"
BACK = 10  # slices, for models that do not look back


def variants_of(segmenter: InteractiveSegmenter) -> dict[str, dict[str, Any]]:
    """Name -> settings to change; what would change nothing is left out."""
    own = segmenter.settings
    other = "volume" if own.scope == "interval" else "interval"
    wanted: dict[str, dict[str, Any]] = {
        RELEASED: {},
        f"scope {other}": {"scope": other},
        "window does not follow": {"follow_window": False},
        "no early stop": {"stop_after_empty": 0},
        f"{'no ' if own.look_back else ''}look back": {"look_back": 0 if own.look_back else BACK},
        f"{'not ' if own.one_sided else ''}one-sided": {"one_sided": not own.one_sided},
        "no disk around disobeyed clicks": {"click_fallback": 0},
        "no fusion": {"tau": 1.0},
        f"scope {other}, no fusion": {"scope": other, "tau": 1.0},
    }
    names = own.to_json()
    return {n: c for n, c in wanted.items() if not c or any(names[k] != v for k, v in c.items())}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then write table and plot."""
    parser = analysis.parser_of(__doc__ or "")
    parser.add_argument("--models", type=_models, default=(), help="[NAME=]MODEL,...: compare models as they are")
    parser.add_argument("--true-prompts", action="store_true", help="compare with better clicked slices")
    args = parser.parse_args(argv)
    stem = "ablations_models" if args.models else "ablations_prompts" if args.true_prompts else "ablations"
    variants: dict[str, Measure]
    if args.models:
        models = {name: InteractiveSegmenter.from_pretrained(where) for name, where in args.models}
        if len(models) < len(args.models):
            raise InputError(f"two models have one name among {', '.join(n for n, _ in args.models)}: give NAME=MODEL")
        variants = {name: partial(measure, model, {}, RELEASED, args.rounds) for name, model in models.items()}
        fixed: dict[str, Any] = {"models": {name: model.identity for name, model in models.items()}}
    else:
        model = InteractiveSegmenter.from_pretrained(args.model)
        changed = {RELEASED: {}, CHOSEN: {}, TRUE: {}} if args.true_prompts else variants_of(model)
        variants = {n: partial(measure, model, changes, n, args.rounds) for n, changes in changed.items()}
        fixed = {"model": model.identity, "settings": model.settings.to_json()}
    record = analysis.record_of(parser, args, "ablations", fixed, stem)
    analysis.analyse(record, args, variants)
    report(record, Comparison.of(record, list(variants), args.rounds))


def measure(segmenter: InteractiveSegmenter, changes: dict[str, Any], variant: str, rounds: int, target: Target) -> Row:
    """One object with some settings changed, or with better clicked slices."""
    settings = replace(segmenter.settings, **changes)
    engine = segmenter.engine(settings)
    seen = WatchedPredictor(TruePredictor(engine.predictor, target.truth) if variant == TRUE else engine.predictor)
    case = Case(replace(engine, predictor=seen), target.volume, settings=settings)
    session = ChoosingSession(case, target.truth) if variant == CHOSEN else None
    found = columns(analysis.play_case(case, target.truth, rounds, session=session))
    return {
        **found,
        **({} if session is None else {"steps": [round(score, 6) for score in session.steps]}),
        "slices": [r.computed for r in case.rounds],
        "newest": [sum(seen.last), len(seen.last)],
        "all": [sum(seen.every), len(seen.every)],
    }


def report(record: Record, found: Comparison) -> None:
    """Table, plot and summary of the objects that all variants have."""
    shown, variants = analysis.checkpoints(found.rounds), found.variants
    lines, summary = [], {}
    base = found.curve(variants[0])[-1]
    for variant in variants:
        some, curve = found.some(variant), found.curve(variant)
        shares = {
            "newest": analysis.ratio(some, "newest"),
            "all": analysis.ratio(some, "all"),
            "compliance": sum(row["compliance"][-1] for row in some) / len(some),
        }
        summary[variant] = {"objects": len(some), "dice": curve, "seconds": pace(some), **shares}
        change = "-" if variant == variants[0] else signed(curve[-1] - base)
        cells = [*(curve[r - 1] for r in shown), change, f"{pace(some):.2f}"]
        lines.append([variant, *cells, *map(share, shares.values())])
    title = f"Mean Dice of {found.count()} objects"
    head = ["variant", *(f"round {r}" for r in shown), "change", "s / round"]
    head += ["newest click obeyed", "all clicks obeyed", "compliance"]
    page = f"## {title}\n\n{markdown(head, lines)}"
    page += "\nSeconds: median over rounds. Clicks obeyed: by the network alone.\n"
    if CHOSEN in variants:
        some = found.some(CHOSEN)
        choices = sum(len(row["steps"]) - len(row["dice"]) for row in some) / len(some)
        curve = analysis.mean_curve([row["steps"][: found.rounds] for row in some], found.rounds)
        counted = ", ".join(f"{curve[r - 1]:.3f}" for r in shown)
        page += f"\n{choices:.1f} choices an object; with each counted as a round of its own: {counted}.\n"
    page += f"\n## By group, round {found.rounds}\n\n"
    page += markdown(["group", *variants], [[g, *(found.curve(v, g)[-1] for v in variants)] for g in found.groups])
    series = {f"round {r}": [summary[v]["dice"][r - 1] for v in variants] for r in shown}
    bar_rows(record.plot, title, variants, series)
    print(record.finish({"variants": summary}, page))


class Named(NamedTuple):
    """A model and its name in the table."""

    name: str
    model: str

    def __str__(self) -> str:
        last = Path(self.model).name
        return last if self.name == last else f"{self.name}={last}"


def _models(text: str) -> tuple[Named, ...]:
    pairs = [part.rpartition("=") for part in text.split(",") if part]
    return tuple(Named(name or Path(model).name, model) for name, _, model in pairs)
