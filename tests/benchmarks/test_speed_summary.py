"""Figures of the speed suite from planted times."""

from __future__ import annotations

import math
from typing import Any

import pytest

from benchmarks.timing.methods import FIRST, LATER, OPEN, ROUND_FIRST, ROUND_LATER, SLICE_FIRST, SLICE_LATER
from benchmarks.timing.report import speed_tables
from benchmarks.timing.spread import latency, ratio, spread
from benchmarks.timing.summary import laps_of, summarise
from limnet.errors import InputError

DRIFT = (1.0, 7.0, 3.0)  # the machine is slower in some laps


def rows() -> list[dict[str, Any]]:
    """tiny, and methods that take 4 or 8 times as long; one thread takes twice, fp32 three times as long."""
    found = []
    for lap, drift in enumerate(DRIFT):
        for threads, precision, pace in ((1, "fp32", 6), (2, "fp32", 3), (1, "bf16", 2), (2, "bf16", 1)):
            unit = drift * pace / 1000
            samples = {
                "tiny": {
                    OPEN: [unit],
                    FIRST: [4 * unit],
                    LATER: [unit, 2 * unit, 9 * unit],
                    SLICE_FIRST: [10 * unit],
                    SLICE_LATER: [5 * unit],
                },
                "ritm-h32": {FIRST: [8 * unit], LATER: [8 * unit]},
                "xmem": {SLICE_FIRST: [40 * unit], SLICE_LATER: [40 * unit]},
                "base": {FIRST: [2 * unit], LATER: [unit], SLICE_FIRST: [32 * unit], SLICE_LATER: [20 * unit]},
            }
            for method, some in samples.items():
                key = {"kind": "lap", "size": 480, "lap": lap, "threads": threads, "precision": precision}
                found.append({**key, "method": method, "slices": 5, "samples": some})
    return found


def test_ratios_of_planted_times():
    summary = summarise([*rows(), {"kind": "lap", "method": "sam2-video", "left_out": "not here"}])
    timed = {(r["threads"], r["precision"], r["method"]): r for r in summary["timed"]}
    for threads, precision in ((1, "fp32"), (2, "bf16")):
        click = timed[threads, precision, "ritm-h32"]["times_base"]
        assert click[FIRST] == pytest.approx({"median": 2, "low": 2, "high": 2, "laps": 3}), "drift drops out"
        assert click[LATER]["median"] == pytest.approx(4), "by the medians of a lap"
        assert SLICE_FIRST not in click
        carried = timed[threads, precision, "xmem"]["times_base"]
        assert (carried[SLICE_FIRST]["median"], carried[SLICE_LATER]["median"]) == pytest.approx((4, 8))
        both = timed[threads, precision, "ritm-h32 + xmem"]["times_base"]
        assert both[ROUND_FIRST]["median"] == pytest.approx((8 + 99 * 40) / (4 + 99 * 10))
        assert both[ROUND_LATER]["median"] == pytest.approx((8 + 99 * 40) / (2 + 99 * 5))
        assert timed[threads, precision, "tiny"]["times_base"] == {}
    by_what = {(r["what"], r["threads"], r["precision"], r["method"]): r["ratios"] for r in summary["configurations"]}
    assert by_what["1 thread / 2 threads", 1, "bf16", "tiny"][LATER]["median"] == pytest.approx(2)
    assert by_what["fp32 / bf16", 2, "fp32", "xmem"][SLICE_FIRST]["median"] == pytest.approx(3)
    kept = by_what["ritm-h32 + xmem / base", 1, "fp32", "base"]
    assert [kept[part]["median"] for part in (FIRST, LATER, SLICE_FIRST, SLICE_LATER)] == pytest.approx([4, 8, 1.25, 2])
    assert len(by_what) == 4 * 5 + 4
    assert summary["left_out"] == {"sam2-video": "not here"}


def test_times_are_percentiles_of_single_answers():
    summary = summarise([r for r in rows() if r["lap"] == 0])
    found = next(r for r in summary["timed"] if (r["threads"], r["precision"], r["method"]) == (2, "bf16", "tiny"))
    assert found["seconds"][LATER]["p50"] == pytest.approx(0.002)
    assert found["seconds"][LATER]["p95"] == pytest.approx(0.002 + 0.9 * 0.007)
    assert found["seconds"][LATER]["number"] == 3
    assert spread([1, 2, 3, 4, 5]) == {"median": 3, "low": 2, "high": 4}
    assert latency([1.0])["p95"] == 1.0


def test_ratios_pair_laps():
    assert ratio({0: [2.0], 1: [20.0], 5: [1.0]}, {0: [1.0], 1: [10.0], 7: [9.0]}) == {
        "median": 2.0,
        "low": 2.0,
        "high": 2.0,
        "laps": 2.0,
    }
    assert ratio({0: [1.0]}, {1: [1.0]}) is None
    with pytest.raises(InputError, match="above 0"):
        ratio({0: [1.0]}, {0: [0.0]})
    with pytest.raises(InputError, match="above 0"):
        ratio({0: [math.nan]}, {0: [1.0]})


def test_rounds_that_a_method_answers_itself_stay():
    row = {"size": 480, "threads": 1, "precision": "fp32", "lap": 0, "method": "nninteractive"}
    samples = {FIRST: [3.0], LATER: [3.0], SLICE_FIRST: [1.0], ROUND_FIRST: [3.0], ROUND_LATER: [3.0]}
    laps = laps_of([{**row, "samples": samples}])[480, 1, "fp32"]["nninteractive"]
    assert laps[ROUND_FIRST] == {0: [3.0]}


def test_tables():
    text = speed_tables(summarise(rows()))
    lines = text.splitlines()
    at = lines.index("## 480 x 480 pixels, 2 threads, bf16")
    table = [line for line in lines[at : at + 20] if line.startswith("|")]
    assert table[2] == (
        "| **tiny** | 3 | 3.0 (2.0-5.0) | - | 12.0/26.4 | 7.0/48.6 | 33.33 (20.00-50.00) | 66.67 (40.00-100.00) |"
    )
    assert "| xmem | - | - | 4.00 (4.00-4.00) | 8.00 (8.00-8.00) | - | - |" in table
    assert "| tiny, 480, bf16 | 1 thread / 2 threads | 2.00 (2.00-2.00) |" in text
    assert "| base, 480, 1 thread, fp32 | ritm-h32 + xmem / base | 4.00 (4.00-4.00) | 8.00 (8.00-8.00) |" in text
    assert "- `ritm-h32 + xmem`: clicks of ritm-h32, slices of xmem" in text
    assert "`sam2-video`" not in text
    left_out = [*rows(), {"kind": "lap", "method": "sam2-video", "left_out": "not here"}]
    assert "- `sam2-video`: SAM 2.1 tiny, 1024 x 1024 pixels. Left out: not here" in speed_tables(summarise(left_out))
