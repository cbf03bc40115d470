"""limnet against methods without weights, given the same objects and the same robot.

    limnet bench compare-peers --data ROOT --out benchmarks/results --model limnet-tiny

Every method gets one click a round by the robot, which corrects that method's own mask. Peers: random walker, geodesic
distance, ConfidenceConnected, and limnet's own prompt masks with nearest-slice copy, shape interpolation or optical
flow in place of propagation. Margins are means of differences per object. A method that fails on an object has no mask
there: the object counts as 0 for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.core import study, tables
from benchmarks.core.method import LimnetPredictor, Predictor, config_hash, predictor_config
from benchmarks.core.plots import line_panels
from benchmarks.core.record import Record, Row
from benchmarks.core.registry import build_peer
from benchmarks.core.rounds import run_object
from limnet.segmenter import InteractiveSegmenter

WEIGHT_FREE = (
    "random-walker",
    "geodesic",
    "confidence-connected",
    "nearest-copy",
    "shape-interpolation",
    "optical-flow",
)
OF_LIMNET = ("nearest-copy", "shape-interpolation", "optical-flow")  # they take the prompt masks of a model
WANTED = {1: 0.70, 6: 0.85}  # mean Dice after that many rounds
MARGIN = 0.20


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then write table and plot."""
    parser = study.study_parser(__doc__ or "")
    parser.add_argument("--peers", default=",".join(WEIGHT_FREE), help="comma between (default: all without weights)")
    args = parser.parse_args(argv)
    own = LimnetPredictor(args.model, threads=args.threads, label="limnet")
    methods: list[Predictor] = [own, *(peer(name, args.model) for name in args.peers.split(",") if name)]
    configs = {method.name: config_hash(predictor_config(method)) for method in methods}
    fixed = {"model": InteractiveSegmenter.from_pretrained(args.model).identity}
    record = study.begin(parser, args, "compare-peers", fixed)
    record.keep(lambda row: row["config"] == configs.get(row["variant"], row["config"]))
    study.sweep(record, study.objects_of(args), {m.name: measured(m, args.rounds, configs[m.name]) for m in methods})
    report(record, list(configs), args.rounds)


def peer(name: str, model: str) -> Predictor:
    """A peer of the table; those on limnet's prompt masks get its model."""
    return build_peer(f"{name}:model={json.dumps(model)}" if name in OF_LIMNET else name)


def measured(method: Predictor, rounds: int, config: str) -> study.Measure:
    """How to measure an object with a method."""

    def measure(thing: study.StudyObject) -> Row:
        try:
            found = run_object(method, thing.volume, thing.truth, 0, rounds, case=thing.case, object=thing.object)
        except Exception as error:  # whatever a method raises is its result
            failed = f"{type(error).__name__}: {error}"[:300]
            return {"dice": [0.0] * rounds, "seconds": [], "config": config, "failed": failed}
        dice = [round(row.dice, 4) for row in found]
        dice += dice[-1:] * (rounds - len(dice))  # nothing was left to correct
        return {"dice": dice, "seconds": [round(row.seconds, 3) for row in found], "config": config}

    return measure


def report(record: Record, methods: Sequence[str], rounds: int) -> None:
    """Table, plot and summary of the objects that all methods have seen."""
    rows = tables.common_rows(record.rows, methods)
    if not rows:
        print("nothing to compare yet")
        return
    shown, own = tables.checkpoints(rounds), methods[0]
    panels, lines = {}, []
    summary: dict[str, Any] = {}
    for group in tables.groups_of(rows):
        some = tables.of_group(rows, group)
        curves = {m: tables.mean_dice(tables.of_variant(some, m)) for m in methods}
        count = len(tables.of_variant(some, own))
        panels[f"{group} ({count})"] = curves
        margins = {m: [float(v) for v in np.subtract(curves[own], curves[m])] for m in methods[1:]}
        summary[group] = {"objects": count, "dice": curves, "margins": margins}
        for method in methods:
            of = tables.of_variant(some, method)
            failed = sum("failed" in row for row in of)
            ahead = [tables.signed(margins[method][r - 1]) if method != own else "-" for r in shown]
            cells = [*(curves[method][r - 1] for r in shown), *ahead, f"{tables.pace(of):.2f}", failed or "-"]
            lines.append([group, count, method, *cells])
    head = ["group", "objects", "method", *(f"round {r}" for r in shown)]
    head += [*(f"limnet ahead, round {r}" for r in shown), "s / round", "failed"]
    page = "## Mean Dice\n\n" + tables.markdown(head, lines) + "\n## Targets\n\n"
    total = summary[tables.ALL]
    met = {
        f"mean Dice >= {value:.2f} after {r} round{'s' if r > 1 else ''}": total["dice"][own][r - 1] >= value
        for r, value in WANTED.items()
        if r <= rounds
    }
    met |= {
        f"at least {MARGIN:.2f} above {m} after {rounds} rounds": margin[-1] >= MARGIN
        for m, margin in total["margins"].items()
    }
    page += "".join(f"- {what}: {'met' if ok else 'not met'}\n" for what, ok in met.items())
    line_panels(record.plot, "limnet and methods without weights, same robot", panels)
    print(record.finish({"groups": summary, "met": met}, page).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
