"""Is `case.suggest()` worth following? Dice when the robot corrects the slice it names, another one, or the worst one.

    limnet bench suggest --data ROOT --out benchmarks/results --model limnet-tiny

The first click is the customary one. From then on the robot corrects one slice a round, by a click in the middle of its
largest 2-D error; which slice, that is the question:

- "suggested": the one `case.suggest()` names. Where that slice has no error the robot says so and is given the next
  suggestion; "slices looked at" counts these looks.
- "random": any slice with an error.
- "worst": the slice with most wrong pixels (an oracle: it takes the truth to know it).
- "largest 3-D error": the customary robot of all other benchmarks, for comparison.

The first three never go back to a slice that was prompted already, as suggestions do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.core import analysis
from benchmarks.core.analysis import Comparison
from benchmarks.core.pictures import line_panels
from benchmarks.core.record import Record, Row
from benchmarks.core.rounds import Mask, Target, columns
from limnet.case.case import Case
from limnet.segmenter import InteractiveSegmenter
from limnet.simulation.clicks import RobotClick, RobotUser

SUGGESTED, RANDOM, WORST, CUSTOMARY = "suggested", "random", "worst", "largest 3-D error"
VARIANTS = (SUGGESTED, RANDOM, WORST, CUSTOMARY)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then write table and plot."""
    parser = analysis.parser_of(__doc__ or "")
    args = parser.parse_args(argv)
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    fixed = {"right": 1.0, "model": segmenter.identity, "settings": segmenter.settings.to_json()}
    record = analysis.record_of(parser, args, "suggest", fixed)
    analysis.analyse(record, args, {name: partial(measure, segmenter, name, args) for name in VARIANTS})
    report(record, Comparison.of(record, VARIANTS, args.rounds))


def measure(segmenter: InteractiveSegmenter, variant: str, args: Any, target: Target) -> Row:
    """One object under one way to choose the slice."""
    case = analysis.open_case(segmenter, target.volume)
    looked: list[int] = []
    robot = RobotUser(target.volume.spacing)
    rng = np.random.default_rng([args.seed, target.number])

    def choose(mask: Mask | None, number: int) -> RobotClick | None:
        if mask is None or variant == CUSTOMARY:
            return robot.next_click(target.truth, mask, number)
        wrong = np.asarray((mask ^ target.truth).any((1, 2)))
        wrong[list(case.prompted)] = False
        if not wrong.any():
            return None
        if variant == SUGGESTED:
            index, looks = suggested(case, wrong)
            looked.append(looks)
        elif variant == RANDOM:
            index = int(rng.choice(np.flatnonzero(wrong)))
        else:
            index = int(np.argmax(np.where(wrong, (mask ^ target.truth).sum((1, 2)), -1)))
        click = robot.next_click(target.truth[index : index + 1], mask[index : index + 1], number)
        return None if click is None else click._replace(zyx=(index, *click.zyx[1:]))

    found = columns(analysis.play_case(case, target.truth, args.rounds, choose=choose))
    return {**found, "slices": [click[0] for click in found["clicks"]], "looked": looked}


def suggested(case: Case, wrong: NDArray[np.bool_]) -> tuple[int, int]:
    """The first suggestion that has an error, and how many slices were looked at for it."""
    skip: list[int] = []
    while not wrong[index := case.suggest(skip=skip).index]:
        skip.append(index)
    return index, len(skip) + 1


def report(record: Record, found: Comparison) -> None:
    """Table, plot and summary of the objects that all variants have."""
    summary = found.curves()
    for group, entry in summary.items():
        looked = [n for row in found.some(SUGGESTED, group) for n in row["looked"]]
        last = {v: curve[-1] for v, curve in entry["dice"].items()}
        entry["looks"] = float(np.mean(looked)) if looked else float("nan")
        entry["above_random"] = {v: last[v] - last[RANDOM] for v in (SUGGESTED, WORST)}
    table = found.table(
        "slice corrected",
        ["slices looked at"],
        lambda group, variant: [f"{summary[group]['looks']:.1f}" if variant == SUGGESTED else "-"],
    )
    total = summary[analysis.ALL]["above_random"]
    text = f"After {found.rounds} rounds, against a random wrong slice: suggested {total[SUGGESTED]:+.3f}, "
    text += f"worst slice (oracle) {total[WORST]:+.3f}.\n"
    line_panels(record.plot, "Dice per round by the slice that is corrected", found.panels())
    print(record.finish({"groups": summary}, f"## Mean Dice by the slice that is corrected\n\n{table}\n{text}"))
