"""Figures of kept rows: latencies, rates, ratios of methods, threads and precisions, growth of memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.timing.memory import growth
from benchmarks.timing.methods import (
    FIRST,
    LATER,
    PARTS,
    ROUND_FIRST,
    ROUND_LATER,
    SLICE_FIRST,
    SLICE_LATER,
)
from benchmarks.timing.spread import latency, ratio, spread

Row = dict[str, Any]
Config = tuple[int, int, str]
"""Size, threads, precision."""
Laps = dict[str, dict[int, list[float]]]
"""part -> lap -> seconds."""

COMBINED = {"ritm-h32 + xmem": ("ritm-h32", "xmem")}
"""Clicks of one reference and slices of another: the method of the paper run the reference way."""
_REFERENCE, _OURS = "ritm-h32 + xmem", "base"
_ROUNDS = ((ROUND_FIRST, FIRST, SLICE_FIRST), (ROUND_LATER, LATER, SLICE_LATER))
_SLICES = 100


def laps_of(rows: Iterable[Row]) -> dict[Config, dict[str, Laps]]:
    """Samples by configuration, method, part and lap; rounds and combined methods are put together here."""
    found: dict[Config, dict[str, Laps]] = {}
    for row in rows:
        if "samples" in row:
            config = (row["size"], row["threads"], row["precision"])
            laps = found.setdefault(config, {}).setdefault(row["method"], {})
            for part, samples in row["samples"].items():
                laps.setdefault(part, {})[row["lap"]] = list(samples)
    for methods in found.values():
        for name, (clicks, slices) in COMBINED.items():
            if clicks in methods and slices in methods:
                methods[name] = {**methods[slices], **{part: methods[clicks][part] for part in (FIRST, LATER)}}
        for laps in methods.values():
            _put_rounds(laps)
    return found


def _put_rounds(laps: Laps) -> None:
    for whole, click, one in _ROUNDS:
        if whole in laps or click not in laps or one not in laps:
            continue
        laps[whole] = {
            lap: [float(np.median(laps[click][lap]) + (_SLICES - 1) * np.median(laps[one][lap]))]
            for lap in sorted(set(laps[click]) & set(laps[one]))
        }


def times_of(laps: Laps) -> dict[str, dict[str, float]]:
    """Of every part: median and quartiles of all samples, and p50, p95 and number."""
    pooled = {part: [s for lap in laps[part].values() for s in lap] for part in PARTS if part in laps}
    return {part: {**spread(samples), **latency(samples)} for part, samples in pooled.items()}


def ratios_of(laps: Laps, base: Laps) -> dict[str, dict[str, float]]:
    """Of every part both have: how many times as long as the base."""
    found = {part: ratio(laps[part], base[part]) for part in PARTS if part in laps and part in base}
    return {part: value for part, value in found.items() if value is not None}


def configuration_ratios(found: Mapping[Config, Mapping[str, Laps]]) -> list[Row]:
    """How many times as long the reference takes as base, fewer threads as most of them, and fp32 as bf16."""
    rows: list[Row] = []
    for (size, threads, precision), methods in found.items():
        where = {"size": size, "threads": threads, "precision": precision}
        if _OURS in methods and _REFERENCE in methods:
            values = ratios_of(methods[_REFERENCE], methods[_OURS])
            rows.append({**where, "what": f"{_REFERENCE} / {_OURS}", "method": _OURS, "ratios": values})
        most = max(t for s, t, p in found if s == size and p == precision)
        for slow, fast, what in (
            ((size, threads, precision), (size, most, precision), f"{threads} thread / {most} threads"),
            ((size, threads, "fp32"), (size, threads, "bf16"), "fp32 / bf16"),
        ):
            if (size, threads, precision) != slow or fast not in found or slow == fast:
                continue
            for name, laps in methods.items():
                if name in found[fast] and (values := ratios_of(laps, found[fast][name])):
                    rows.append({**where, "what": what, "method": name, "ratios": values})
    return rows


def summarise(rows: Sequence[Row], base: str = "tiny") -> Row:
    """All figures as JSON types.

    Args:
        rows: of the suite.
        base: method that the others are compared with.
    """
    found = laps_of(rows)
    timed = [
        {
            "size": config[0],
            "threads": config[1],
            "precision": config[2],
            "method": name,
            "laps": max(len(samples) for samples in laps.values()),
            "seconds": times_of(laps),
            "times_base": ratios_of(laps, methods[base]) if base in methods and name != base else {},
        }
        for config, methods in found.items()
        for name, laps in methods.items()
    ]
    left_out = {row["method"]: row["left_out"] for row in rows if "left_out" in row}
    return {
        "base": base,
        "timed": timed,
        "configurations": configuration_ratios(found),
        "memory": memory_of(rows),
        "left_out": left_out,
    }


def memory_of(rows: Iterable[Row]) -> list[Row]:
    """Growth of every method at every size: stage -> kind -> growth, and the points it was taken from."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if row.get("kind") == "memory":
            groups.setdefault((row["method"], row["size"]), []).append(row)
    found = []
    for (method, size), some in groups.items():
        stages: Row = {}
        for stage in some[0]["stages"]:
            kinds = some[0]["stages"][stage]
            stages[stage] = {
                kind: {
                    "points": (points := [(row["slices"], row["stages"][stage][kind]) for row in some]),
                    **(growth(points)._asdict() if len({s for s, _ in points}) > 1 else {}),
                }
                for kind in kinds
            }
        image = [(row["slices"], row["image"]) for row in some]
        peaks = [(row["slices"], row["peak"]) for row in some if row["peak"] is not None]
        found.append({"method": method, "size": size, "stages": stages, "image": image, "peaks": peaks})
    return found
