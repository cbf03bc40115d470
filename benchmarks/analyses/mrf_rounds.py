"""Figure 3 and Table II of the paper: Dice per round with multi-round result fusion, without it, and with an oracle.

    limnet bench mrf-rounds --data ROOT --out benchmarks/results --model limnet-tiny

Three runs of every object, each with the robot's own clicks (one rule: the middle of the largest error of that run's
mask): "no fusion" takes every new mask (tau = 1), "fusion" lets the quality network choose (eq. 4), "oracle" takes per
slice the better of both masks by its true Dice. Prompted slices are never up for choice. Besides, every round of the
fusion run is looked at alone: what its choice brought against taking the new masks, from the same masks and the same
click, how often it was right, and what other thresholds would have brought.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.analyses.watchers import TrueAssessor, WatchedAssessor, step_of
from benchmarks.core import analysis
from benchmarks.core.analysis import Comparison
from benchmarks.core.pictures import line_panels
from benchmarks.core.record import Record, Row
from benchmarks.core.report import markdown, share, signed
from benchmarks.core.rounds import LOSS, Target, columns
from limnet.case.case import Case
from limnet.errors import InputError
from limnet.metrics.interaction import rounds_that_lost
from limnet.segmenter import InteractiveSegmenter
from limnet.settings import SCOPES, Scope

NONE, FUSED, ORACLE = "no fusion", "fusion", "oracle fusion"
VARIANTS = (NONE, FUSED, ORACLE)
TAUS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then write table and plot."""
    parser = analysis.parser_of(__doc__ or "")
    parser.add_argument("--scope", choices=SCOPES, help="propagation scope; the model's by default")
    parser.add_argument("--tau", type=float, help="threshold of the fusion run; the model's own by default")
    args = parser.parse_args(argv)
    if args.rounds < 2:
        raise InputError("fusion begins with the second round: give --rounds of at least 2")
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    if segmenter.quality is None:
        raise InputError("this model has no quality network: there is no fusion to look at")
    scope = args.scope or segmenter.settings.scope
    tau = segmenter.settings.tau if args.tau is None else args.tau
    name = "mrf_rounds" if args.scope is None else f"mrf_rounds_{args.scope}"
    fixed = {"model": segmenter.identity, "scope": scope, "tau": tau, "settings": segmenter.settings.to_json()}
    record = analysis.record_of(parser, args, "mrf-rounds", fixed, name)
    variants = {v: partial(measure, segmenter, v, args.rounds, scope, tau) for v in VARIANTS}
    analysis.analyse(record, args, variants)
    report(record, Comparison.of(record, VARIANTS, args.rounds))


def measure(
    segmenter: InteractiveSegmenter, variant: str, rounds: int, scope: Scope, tau: float, target: Target
) -> Row:
    """One object in one variant."""
    used = {NONE: 1.0, FUSED: tau, ORACLE: 0.5}[variant]
    settings = replace(segmenter.settings, scope=scope, tau=used)
    engine, turns, steps = segmenter.engine(settings), [], []
    watched = WatchedAssessor(engine.assessor, target.truth)
    assessor = watched if variant == FUSED else TrueAssessor(None, target.truth)
    case = Case(replace(engine, assessor=assessor), target.volume, settings=settings)
    for turn in analysis.play_case(case, target.truth, rounds):
        turns.append(turn)
        if seen := watched.drain():
            steps.append({"round": turn.round, **step_of(turn.mask, target.truth, seen, used, TAUS)})
    return {**columns(turns), **({"steps": steps} if variant == FUSED else {})}


def bad_rounds(rows: Sequence[Row], rounds: int) -> float:
    """Share of the rounds from the second on that lost more than `LOSS`; an ended object loses nothing any more."""
    later = len(rows) * (rounds - 1)
    return sum(len(rounds_that_lost(row["dice"], LOSS)) for row in rows) / later if later else float("nan")


def gains(curves: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """What fusion and oracle gain over no fusion: mean over objects and rounds from the second on, and its share."""
    mean = {v: float(np.mean(curves[v][1:])) for v in VARIANTS}
    fused, oracle = mean[FUSED] - mean[NONE], mean[ORACLE] - mean[NONE]
    return {"fusion": fused, "oracle": oracle, "kept": fused / oracle if oracle > 0 else float("nan")}


def step_gains(rows: Sequence[Row]) -> dict[str, float]:
    """The same for each round of fusion runs alone, from the same masks and click, and how often it chose right."""
    steps = [step for row in rows for step in row["steps"]]
    if not steps:
        return {name: float("nan") for name in ("fusion", "oracle", "kept", "right", *(f"tau {t}" for t in TAUS))}
    new, fused, oracle = (np.array([s[k] for s in steps]) for k in ("new", "fused", "oracle"))
    best = float((oracle - new).mean())
    compared = sum(s["compared"] for s in steps)
    taus = np.array([s["taus"] for s in steps]).mean(0) - new.mean()
    return {
        "fusion": float((fused - new).mean()),
        "oracle": best,
        "kept": float((fused - new).mean()) / best if best > 0 else float("nan"),
        "right": sum(s["right"] for s in steps) / compared if compared else float("nan"),
        **{f"tau {t}": float(v) for t, v in zip(TAUS, taus, strict=True)},
    }


def report(record: Record, found: Comparison) -> None:
    """Tables, plot and summary of the objects that all variants have."""
    summary = found.curves()
    for group, entry in summary.items():
        entry["gains"] = gains(entry["dice"])
        entry["alone"] = step_gains(found.some(FUSED, group))
        entry["bad_rounds"] = {v: bad_rounds(found.some(v, group), found.rounds) for v in VARIANTS}
    page = "## Dice per round (Figure 3, Table II)\n\n" + found.table(
        "variant",
        [f"rounds that lose > {LOSS:g}"],
        lambda group, variant: [share(summary[group]["bad_rounds"][variant])],
    )
    page += "\n## Gain of fusion over no fusion\n\nRuns: mean over objects and the rounds from the second on. "
    page += "Alone: one round, from the same masks and the same click.\n\n"
    heads = ("fusion", "oracle", "share kept")
    page += markdown(
        ["group", *(f"runs: {h}" for h in heads), *(f"alone: {h}" for h in heads), "right choices"],
        [
            [g, *_gain_cells(s["gains"]), *_gain_cells(s["alone"]), share(s["alone"]["right"])]
            for g, s in summary.items()
        ],
    )
    total = summary[analysis.ALL]
    page += "\n## Thresholds, all objects, each round alone\n\n"
    page += markdown(["tau", *map(str, TAUS)], [["gain", *(signed(total["alone"][f"tau {t}"]) for t in TAUS)]])
    met = {
        "fusion gains on average": total["gains"]["fusion"] > 0,
        "it keeps at least half of the oracle's gain": total["gains"]["kept"] >= 0.5,
        "the same for each round alone": total["alone"]["kept"] >= 0.5,
        f"less than 3 % of the rounds lose > {LOSS:g}": total["bad_rounds"][FUSED] < 0.03,
    }
    line_panels(record.plot, f"Dice per round, {record.fixed['scope']} scope", found.panels())
    page += "\n## Targets\n\n" + "".join(f"- {what}: {'met' if ok else 'not met'}\n" for what, ok in met.items())
    print(record.finish({"groups": summary, "met": met}, page))


def _gain_cells(found: dict[str, float]) -> list[str]:
    return [signed(found["fusion"]), signed(found["oracle"]), share(found["kept"])]
