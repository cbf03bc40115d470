"""limnet against methods without weights, given the same objects and the same simulated user.

    limnet bench compare-peers --data ROOT --out benchmarks/results --model limnet-tiny

Every method gets one click a round, which corrects that method's own mask. Baselines: random walker, geodesic
distance, ConfidenceConnected, and limnet's own prompt masks with nearest-slice copy, shape interpolation or optical
flow in place of propagation. Margins are means of differences per object. A method that fails on an object has no mask
there: the object counts as 0 for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import numpy as np

from benchmarks.core import analysis, tables
from benchmarks.core.analysis import Comparison
from benchmarks.core.method import LimnetPredictor, Predictor, config_hash, predictor_config
from benchmarks.core.pictures import line_panels
from benchmarks.core.record import Record, Row, pace
from benchmarks.core.rounds import RobotRounds, Target, columns, play_object
from benchmarks.core.suite import build_peer
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
    parser = analysis.parser_of(__doc__ or "")
    parser.add_argument("--peers", default=",".join(WEIGHT_FREE), help="comma between (default: all without weights)")
    args = parser.parse_args(argv)
    own = LimnetPredictor(args.model, label="limnet")
    methods: list[Predictor] = [own, *(peer(name, args.model) for name in args.peers.split(",") if name)]
    configs = {method.name: config_hash(predictor_config(method)) for method in methods}
    fixed = {"model": InteractiveSegmenter.from_pretrained(args.model).identity}
    record = analysis.record_of(parser, args, "compare-peers", fixed)
    record.keep(lambda row: row["config"] == configs.get(row["variant"], row["config"]))
    analysis.analyse(record, args, {m.name: partial(measure, m, args.rounds, configs[m.name]) for m in methods})
    report(record, Comparison.of(record, list(configs), args.rounds))


def peer(name: str, model: str) -> Predictor:
    """A baseline of the table; those on limnet's prompt masks get its model."""
    return build_peer(f"{name}:model={json.dumps(model)}" if name in OF_LIMNET else name)


def measure(method: Predictor, rounds: int, config: str, target: Target) -> Row:
    """One object with a method."""
    try:
        return {**columns(play_object(method, target, RobotRounds(rounds))), "config": config}
    except Exception as error:  # whatever a method raises is its result
        return {"dice": [0.0], "seconds": [], "config": config, "failed": f"{type(error).__name__}: {error}"[:300]}


def report(record: Record, found: Comparison) -> None:
    """Table, plot and summary of the objects that all methods have seen."""
    own, *peers = found.variants
    shown, summary = tables.checkpoints(found.rounds), found.curves()
    for group in summary.values():
        dice = group["dice"]
        group["margins"] = {m: [float(v) for v in np.subtract(dice[own], dice[m])] for m in peers}

    def cells(group: str, method: str) -> list[object]:
        some, margins = found.some(method, group), summary[group]["margins"]
        ahead = [tables.signed(margins[method][r - 1]) if method != own else "-" for r in shown]
        return [*ahead, f"{pace(some):.2f}", sum("failed" in row for row in some) or "-"]

    head = [*(f"limnet ahead, round {r}" for r in shown), "s / round", "failed"]
    total = summary[tables.ALL]
    met = {
        f"mean Dice >= {value:.2f} after {r} round{'s' if r > 1 else ''}": total["dice"][own][r - 1] >= value
        for r, value in WANTED.items()
        if r <= found.rounds
    }
    met |= {
        f"at least {MARGIN:.2f} above {m} after {found.rounds} rounds": margin[-1] >= MARGIN
        for m, margin in total["margins"].items()
    }
    page = f"## Mean Dice\n\n{found.table('method', head, cells)}\n{tables.targets(met)}"
    line_panels(record.plot, "limnet and methods without weights, same simulated user", found.panels())
    print(record.finish({"groups": summary, "met": met}, page))
