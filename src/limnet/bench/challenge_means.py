"""Scores of the CVPR 2025 challenge out of results."""

from __future__ import annotations

import math

from limnet.bench.results import BenchResults
from limnet.metrics.challenge import challenge_scores

NAMES = ("DSC_AUC", "NSD_AUC", "DSC_Final", "NSD_Final")


def challenge_means(results: BenchResults) -> dict[str, tuple[int, dict[str, float]]]:
    """Number of cases and mean scores over them, by group and for "all".

    A case's scores are those of the mean over its objects. An object that failed counts with 0 in all steps, as a
    failed prediction does there; a case that could not be read at all is left out.

    Args:
        results: with Dice and NSD of every round.
    """
    dice, nsd = results.table.curves("dice"), results.table.curves("nsd")
    steps = max((len(curve) for curve in dice.values()), default=0)
    group_of = {str(o["case"]): str(o["group"]) for o in results.objects}
    failed = [str(e["case"]) for e in results.errors if e["object"]]
    scores: dict[str, list[dict[str, float]]] = {}
    for case, group in group_of.items():
        names = [name for name in dice if name[0] == case]
        zeros = [[0.0] * steps] * failed.count(case)
        found = challenge_scores([*(dice[n] for n in names), *zeros], [*(nsd[n] for n in names), *zeros])
        scores.setdefault(group, []).append(found)
    every = [found for group in sorted(scores) for found in scores[group]]
    return {name: (len(some), _mean(some)) for name, some in [*sorted(scores.items()), ("all", every)] if some}


def _mean(some: list[dict[str, float]]) -> dict[str, float]:
    return {name: math.fsum(found[name] for found in some) / len(some) for name in NAMES}
