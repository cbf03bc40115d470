"""Figure 3 and Table II of the paper: Dice per round with multi-round result fusion, without it, and with an oracle.

    limnet bench mrf-rounds --data ROOT --out benchmarks/results --model limnet-tiny

Three runs of every object, each with the robot's own clicks (one rule: the middle of the largest error of that run's
mask): "no fusion" takes every new mask (tau = 1), "fusion" lets the quality network choose (eq. 4), "oracle" takes per
slice the better of both masks by its true Dice. Prompted slices are never up for choice. Besides, every round of the
fusion run is looked at alone: what its choice brought against taking the new masks, from the same masks and the same
click, how often it was right, and what other thresholds would have brought.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.core.studies.objects import StudyObject
from benchmarks.core.studies.options import command_of, fixed_of, objects_of, set_threads, study_parser
from benchmarks.core.studies.play import open_case, play, scores, with_settings
from benchmarks.core.studies.plots import line_panels
from benchmarks.core.studies.record import Record, Row
from benchmarks.core.studies.sweep import Measure, sweep
from benchmarks.core.studies.tables import (
    ALL,
    checkpoints,
    common_rows,
    groups_of,
    markdown,
    mean_dice,
    of_group,
    of_variant,
    share,
    signed,
)
from benchmarks.core.studies.watchers import TrueAssessor, WatchedAssessor, step_of
from limnet.engine import Engine
from limnet.errors import InputError
from limnet.metrics.interaction import rounds_that_lost
from limnet.segmenter import InteractiveSegmenter

NONE, FUSED, ORACLE = "no fusion", "fusion", "oracle fusion"
VARIANTS = (NONE, FUSED, ORACLE)
TAUS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LOSS = 0.02  # Dice; a round that takes away more is a bad one


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then write table and plot."""
    parser = study_parser(__doc__ or "")
    parser.add_argument("--scope", choices=("volume", "interval"), help="propagation scope; the model's by default")
    parser.add_argument("--tau", type=float, help="threshold of the fusion run; the model's own by default")
    args = parser.parse_args(argv)
    set_threads(args)
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    scope = args.scope or segmenter.settings.scope
    tau = segmenter.settings.tau if args.tau is None else args.tau
    name = "mrf_rounds" if args.scope is None else f"mrf_rounds_{args.scope}"
    fixed = {**fixed_of(args, "rounds"), "model": segmenter.identity, "scope": scope, "tau": tau}
    fixed["settings"] = segmenter.settings.to_json()
    record = Record(args.out, name, command_of("mrf-rounds", parser, args), fixed)

    def measured(variant: str) -> Measure:
        return lambda thing: measure(segmenter, thing, variant, args.rounds, scope, tau)

    sweep(record, objects_of(args), {variant: measured(variant) for variant in VARIANTS})
    report(record, args.rounds)


def measure(
    segmenter: InteractiveSegmenter, thing: StudyObject, variant: str, rounds: int, scope: str, tau: float
) -> Row:
    """One object in one variant."""
    used = {NONE: 1.0, FUSED: tau, ORACLE: 0.5}[variant]
    settings = with_settings(segmenter, scope=scope, tau=used)
    if variant != FUSED:
        oracle = TrueAssessor(thing.truth)
        case = open_case(
            segmenter, thing.volume, settings, change=lambda e: replace(e, assessor=oracle, fusion=variant == ORACLE)
        )
        return dict(scores(list(play(case, thing.truth, rounds))))
    watched: list[WatchedAssessor] = []

    def watch(engine: Engine) -> Engine:
        if engine.assessor is None:
            raise InputError("this model has no quality network: there is no fusion to look at")
        watched.append(WatchedAssessor(engine.assessor, thing.truth))
        return replace(engine, assessor=watched[0])

    turns, steps = [], []
    for turn in play(open_case(segmenter, thing.volume, settings, change=watch), thing.truth, rounds):
        turns.append(turn)
        seen = watched[0].drain()
        if seen:
            step, others = step_of(turn.mask, thing.truth, seen, used, TAUS)
            steps.append({"round": turn.number, **step._asdict(), "taus": others})
    return {**scores(turns), "steps": steps}


def bad_rounds(rows: Sequence[Row]) -> float:
    """Share of the rounds from the second on that lost more than `LOSS`."""
    lost, later = sum(len(rounds_that_lost(r["dice"], LOSS)) for r in rows), sum(len(r["dice"]) - 1 for r in rows)
    return lost / later if later else float("nan")


def gains(rows: Sequence[Row]) -> dict[str, float]:
    """What fusion and oracle gain over no fusion: mean over objects and rounds from the second on, and its share."""
    mean = {v: float(np.mean([r["dice"][1:] for r in of_variant(rows, v)])) for v in VARIANTS}
    fused, oracle = mean[FUSED] - mean[NONE], mean[ORACLE] - mean[NONE]
    return {"fusion": fused, "oracle": oracle, "kept": fused / oracle if oracle > 0 else float("nan")}


def step_gains(rows: Sequence[Row]) -> dict[str, float]:
    """The same for each round alone, from the same masks and the same click, and how often the choice was right."""
    steps = [s for row in of_variant(rows, FUSED) for s in row["steps"]]
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


def report(record: Record, rounds: int) -> None:
    """Tables, plot and summary of the objects that all variants have."""
    rows = common_rows(record.rows, VARIANTS)
    if not rows or rounds < 2:
        print("nothing to compare yet")
        return
    shown = checkpoints(rounds)
    lines, panels = [], {}
    summary: dict[str, Any] = {}
    for group in groups_of(rows):
        some = of_group(rows, group)
        curves = {v: mean_dice(of_variant(some, v)) for v in VARIANTS}
        count = len(of_variant(some, NONE))
        panels[f"{group} ({count})"] = curves
        for variant in VARIANTS:
            of = of_variant(some, variant)
            lines.append([group, count, variant, *(curves[variant][r - 1] for r in shown), share(bad_rounds(of))])
        summary[group] = {
            "objects": count,
            "gains": gains(some),
            "alone": step_gains(some),
            "bad_rounds": {v: bad_rounds(of_variant(some, v)) for v in VARIANTS},
            "dice": curves,
        }
    head = ["group", "objects", "variant", *(f"round {r}" for r in shown), f"rounds that lose > {LOSS:g}"]
    tables = "## Dice per round (Figure 3, Table II)\n\n" + markdown(head, lines)
    what = [
        [g, *_gain_cells(s["gains"]), *_gain_cells(s["alone"]), share(s["alone"]["right"])] for g, s in summary.items()
    ]
    tables += "\n## Gain of fusion over no fusion\n\nRuns: mean over objects and the rounds from the second on. "
    tables += "Alone: one round, from the same masks and the same click.\n\n"
    heads = ("fusion", "oracle", "share kept")
    tables += markdown(
        ["group", *(f"runs: {h}" for h in heads), *(f"alone: {h}" for h in heads), "right choices"], what
    )
    total = summary[ALL]
    tables += "\n## Thresholds, all objects, each round alone\n\n"
    tables += markdown(["tau", *map(str, TAUS)], [["gain", *(signed(total["alone"][f"tau {t}"]) for t in TAUS)]])
    met = {
        "fusion gains on average": total["gains"]["fusion"] > 0,
        "it keeps at least half of the oracle's gain": total["gains"]["kept"] >= 0.5,
        "the same for each round alone": total["alone"]["kept"] >= 0.5,
        f"less than 3 % of the rounds lose > {LOSS:g}": total["bad_rounds"][FUSED] < 0.03,
    }
    tables += "\n## Targets\n\n" + "".join(f"- {what}: {'met' if ok else 'not met'}\n" for what, ok in met.items())
    line_panels(record.plot, f"Dice per round, {record.fixed['scope']} scope", panels)
    print(record.finish({"groups": summary, "met": met}, tables).read_text(encoding="utf-8"))


def _gain_cells(found: dict[str, float]) -> list[str]:
    return [signed(found["fusion"]), signed(found["oracle"]), share(found["kept"])]


if __name__ == "__main__":
    main()
