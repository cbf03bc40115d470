"""Tables of clicks to an IoU, beside published ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.core.click_rounds import QUALITIES
from benchmarks.core.published import published_clicks
from benchmarks.core.results import BenchResults
from benchmarks.core.studies.tables import markdown, share
from limnet.metrics.interaction import clicks_to_quality

SHOWN = (1, 2, 3, 5, 10, 15, 20)


class Clicks(NamedTuple):
    """Clicks to an IoU over the objects of a group.

    Attributes:
        objects: how many.
        noc: mean number of clicks; an object that never gets there counts as the limit.
        failed: number of objects that never get there.
    """

    objects: int
    noc: float
    failed: int


def clicks_to(results: BenchResults, quality: float, group: str) -> Clicks:
    """NoC and NoF of a group.

    Args:
        results: of a suite that counts clicks.
        quality: IoU to reach, not above the IoU at which objects ended.
        group: a data set.
    """
    limit = int(results.header["config"]["rounds"]["clicks"])
    curves = list(results.table.curves("iou", group).values()) if results.table.rows else []
    if not curves:
        return Clicks(0, math.nan, 0)
    counts = [clicks_to_quality(curve, quality, limit) for curve in curves]
    return Clicks(len(curves), math.fsum(counts) / len(counts), sum(max(curve) < quality for curve in curves))


def click_tables(found: Sequence[BenchResults]) -> str:
    """Markdown: NoC and NoF by data set beside published rows, IoU after clicks, clicks obeyed, times.

    Args:
        found: results of one suite that counts clicks.
    """
    published = published_clicks()
    present = {group for results in found for group in results.groups}
    known = [column for column in published.columns if column in present]
    groups = known + sorted(present - set(known))
    limit = max(int(results.header["config"]["rounds"]["clicks"]) for results in found)
    parts = [
        f"NoC@q: mean number of clicks until IoU reaches q percent. An object that never does counts as {limit}; in "
        "brackets how many those are (NoF).\n"
    ]
    for quality in QUALITIES:
        percent = f"{100 * quality:.0f}"
        lines: list[list[object]] = []
        for results in found:
            lines.append([f"**{results.name}**", *(_cell(clicks_to(results, quality, group)) for group in groups)])
        for method, at, values in published.rows:
            if at == percent and any(group in values for group in groups):
                cells = [f"{values[group]:.2f}" if group in values else "-" for group in groups]
                lines.append([f"{method} (published)", *cells])
        lines.append(["objects", *(max(clicks_to(r, quality, group).objects for r in found) for group in groups)])
        parts.append(markdown([f"NoC@{percent}", *groups], lines))
    parts.append("Mean IoU after so many clicks; an object that ended keeps its last value.\n")
    parts.append(markdown(["method", "data set", *map(str, _shown(limit))], _curves(found, groups, limit)))
    head = ["method", "clicks obeyed", "clicks that lost more than .02", "s/click"]
    parts.append(markdown(head, [_figures(results) for results in found]))
    parts.append(f"Published: {published.source}. They are printed as they are:\n")
    parts.append("".join(f"- {caveat}\n" for caveat in published.caveats))
    return "\n".join(parts)


def _cell(clicks: Clicks) -> str:
    return f"{clicks.noc:.2f} ({clicks.failed})" if clicks.objects else "-"


def _shown(limit: int) -> list[int]:
    return sorted({n for n in (*SHOWN, limit) if n <= limit})


def _curves(found: Sequence[BenchResults], groups: Sequence[str], limit: int) -> list[list[object]]:
    lines: list[list[object]] = []
    for results in found:
        for group in groups:
            curve = results.curve(group=group)
            if curve:
                lines.append([results.name, group, *(curve[min(n, len(curve)) - 1] for n in _shown(limit))])
    return lines


def _figures(results: BenchResults) -> list[object]:
    every = results.summary().get("all", {})
    shares = [share(every.get(name, math.nan)) for name in ("compliance", "rounds_lost")]
    return [results.name, *shares, results.median_seconds()]
