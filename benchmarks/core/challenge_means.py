"""Scores of the CVPR 2025 challenge out of results."""

from __future__ import annotations

import math
from collections import Counter

from benchmarks.core.results import BenchResults
from limnet.metrics.challenge import COUNTED, challenge_scores

NAMES = ("DSC_AUC", "NSD_AUC", "DSC_Final", "NSD_Final")


def challenge_means(results: BenchResults) -> dict[str, tuple[int, dict[str, float]]]:
    """Number of cases and mean scores over them, by group and for "all".

    A case's scores are those of the mean over its objects. As in the challenge whatever failed counts with 0 in all
    steps: an object, a case of which every object failed, and a case that could not be read at all.

    Args:
        results: with Dice and NSD of every round.
    """
    measured = bool(results.table.rows)
    dice, nsd = (results.table.curves(column) if measured else {} for column in ("dice", "nsd"))
    zeros = [0.0] * max((len(curve) for curve in dice.values()), default=COUNTED)
    failed = Counter(str(error["case"]) for error in results.errors if error["object"])
    # The error of a whole case counts where nothing else is known of the case.
    unread = {str(error["case"]) for error in results.errors} - failed.keys() - {case for case, _ in dice}
    failed.update(unread)
    group_of = {case: modality_of(case) for case in failed} | {str(o["case"]): str(o["group"]) for o in results.objects}
    scores: dict[str, list[dict[str, float]]] = {}
    for case, group in sorted(group_of.items()):
        names = [name for name in dice if name[0] == case]
        lost = [zeros] * failed[case]
        found = challenge_scores([*(dice[n] for n in names), *lost], [*(nsd[n] for n in names), *lost])
        scores.setdefault(group, []).append(found)
    every = [found for group in sorted(scores) for found in scores[group]]
    return {name: (len(some), _mean(some)) for name, some in [*sorted(scores.items()), ("all", every)] if some}


def modality_of(case: str) -> str:
    """The group of a case of the challenge: the modality that its file name begins with."""
    return case.split("_")[0]


def _mean(some: list[dict[str, float]]) -> dict[str, float]:
    return {name: math.fsum(found[name] for found in some) / len(some) for name in NAMES}
