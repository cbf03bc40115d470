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

from benchmarks.analyses.watchers import TrueAssessor, WatchedAssessor, step_of
from benchmarks.core import study, tables
from benchmarks.core.plots import line_panels
from benchmarks.core.record import Record, Row
from limnet.case.engine import Engine
from limnet.errors import InputError
from limnet.metrics.interaction import rounds_that_lost
from limnet.segmenter import InteractiveSegmenter
from limnet.settings import Scope

NONE, FUSED, ORACLE = "no fusion", "fusion", "oracle fusion"
VARIANTS = (NONE, FUSED, ORACLE)
TAUS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LOSS = 0.02  # Dice; a round that takes away more is a bad one


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then write table and plot."""
    parser = study.study_parser(__doc__ or "")
    parser.add_argument("--scope", choices=("volume", "interval"), help="propagation scope; the model's by default")
    parser.add_argument("--tau", type=float, help="threshold of the fusion run; the model's own by default")
    args = parser.parse_args(argv)
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    scope = args.scope or segmenter.settings.scope
    tau = segmenter.settings.tau if args.tau is None else args.tau
    name = "mrf_rounds" if args.scope is None else f"mrf_rounds_{args.scope}"
    fixed = {"model": segmenter.identity, "scope": scope, "tau": tau}
    fixed["settings"] = segmenter.settings.to_json()
    record = study.begin(parser, args, "mrf-rounds", fixed, name)

    def measured(variant: str) -> study.Measure:
        return lambda thing: measure(segmenter, thing, variant, args.rounds, scope, tau)

    study.sweep(record, study.objects_of(args), {variant: measured(variant) for variant in VARIANTS})
    report(record, args.rounds)


def measure(
    segmenter: InteractiveSegmenter, thing: study.StudyObject, variant: str, rounds: int, scope: Scope, tau: float
) -> Row:
    """One object in one variant."""
    used = {NONE: 1.0, FUSED: tau, ORACLE: 0.5}[variant]
    settings = replace(segmenter.settings, scope=scope, tau=used)
    if variant != FUSED:
        oracle = TrueAssessor(None, thing.truth)
        case = study.open_case(
            segmenter, thing.volume, settings, change=lambda e: replace(e, assessor=oracle, fusion=variant == ORACLE)
        )
        return dict(study.scores(list(study.play(case, thing.truth, rounds))))
    watched: list[WatchedAssessor] = []

    def watch(engine: Engine) -> Engine:
        if engine.assessor is None:
            raise InputError("this model has no quality network: there is no fusion to look at")
        watched.append(WatchedAssessor(engine.assessor, thing.truth))
        return replace(engine, assessor=watched[0])

    turns, steps = [], []
    for turn in study.play(study.open_case(segmenter, thing.volume, settings, change=watch), thing.truth, rounds):
        turns.append(turn)
        seen = watched[0].drain()
        if seen:
            step, others = step_of(turn.mask, thing.truth, seen, used, TAUS)
            steps.append({"round": turn.row.round, **step._asdict(), "taus": others})
    return {**study.scores(turns), "steps": steps}


def bad_rounds(rows: Sequence[Row]) -> float:
    """Share of the rounds from the second on that lost more than `LOSS`."""
    lost, later = sum(len(rounds_that_lost(r["dice"], LOSS)) for r in rows), sum(len(r["dice"]) - 1 for r in rows)
    return lost / later if later else float("nan")


def gains(rows: Sequence[Row]) -> dict[str, float]:
    """What fusion and oracle gain over no fusion: mean over objects and rounds from the second on, and its share."""
    mean = {v: float(np.mean([r["dice"][1:] for r in tables.of_variant(rows, v)])) for v in VARIANTS}
    fused, oracle = mean[FUSED] - mean[NONE], mean[ORACLE] - mean[NONE]
    return {"fusion": fused, "oracle": oracle, "kept": fused / oracle if oracle > 0 else float("nan")}


def step_gains(rows: Sequence[Row]) -> dict[str, float]:
    """The same for each round alone, from the same masks and the same click, and how often the choice was right."""
    steps = [s for row in tables.of_variant(rows, FUSED) for s in row["steps"]]
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
    rows = tables.common_rows(record.rows, VARIANTS)
    if not rows or rounds < 2:
        print("nothing to compare yet")
        return
    shown = tables.checkpoints(rounds)
    lines, panels = [], {}
    summary: dict[str, Any] = {}
    for group in tables.groups_of(rows):
        some = tables.of_group(rows, group)
        curves = {v: tables.mean_dice(tables.of_variant(some, v)) for v in VARIANTS}
        count = len(tables.of_variant(some, NONE))
        panels[f"{group} ({count})"] = curves
        for variant in VARIANTS:
            of = tables.of_variant(some, variant)
            lines.append(
                [group, count, variant, *(curves[variant][r - 1] for r in shown), tables.share(bad_rounds(of))]
            )
        summary[group] = {
            "objects": count,
            "gains": gains(some),
            "alone": step_gains(some),
            "bad_rounds": {v: bad_rounds(tables.of_variant(some, v)) for v in VARIANTS},
            "dice": curves,
        }
    head = ["group", "objects", "variant", *(f"round {r}" for r in shown), f"rounds that lose > {LOSS:g}"]
    page = "## Dice per round (Figure 3, Table II)\n\n" + tables.markdown(head, lines)
    what = [
        [g, *_gain_cells(s["gains"]), *_gain_cells(s["alone"]), tables.share(s["alone"]["right"])]
        for g, s in summary.items()
    ]
    page += "\n## Gain of fusion over no fusion\n\nRuns: mean over objects and the rounds from the second on. "
    page += "Alone: one round, from the same masks and the same click.\n\n"
    heads = ("fusion", "oracle", "share kept")
    page += tables.markdown(
        ["group", *(f"runs: {h}" for h in heads), *(f"alone: {h}" for h in heads), "right choices"], what
    )
    total = summary[tables.ALL]
    page += "\n## Thresholds, all objects, each round alone\n\n"
    page += tables.markdown(
        ["tau", *map(str, TAUS)], [["gain", *(tables.signed(total["alone"][f"tau {t}"]) for t in TAUS)]]
    )
    met = {
        "fusion gains on average": total["gains"]["fusion"] > 0,
        "it keeps at least half of the oracle's gain": total["gains"]["kept"] >= 0.5,
        "the same for each round alone": total["alone"]["kept"] >= 0.5,
        f"less than 3 % of the rounds lose > {LOSS:g}": total["bad_rounds"][FUSED] < 0.03,
    }
    page += "\n## Targets\n\n" + "".join(f"- {what}: {'met' if ok else 'not met'}\n" for what, ok in met.items())
    line_panels(record.plot, f"Dice per round, {record.fixed['scope']} scope", panels)
    print(record.finish({"groups": summary, "met": met}, page).read_text(encoding="utf-8"))


def _gain_cells(found: dict[str, float]) -> list[str]:
    return [tables.signed(found["fusion"]), tables.signed(found["oracle"]), tables.share(found["kept"])]


if __name__ == "__main__":
    main()
