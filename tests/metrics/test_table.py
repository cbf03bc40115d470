"""The table of results: rows, means, curves, summary, files."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limnet.errors import InputError, SaveError
from limnet.metrics import Table


def rows_of(
    curves: dict[str, list[float]], group: str = "g", first: int = 1, **more: list[float]
) -> list[dict[str, Any]]:
    """One case an entry, one object each."""
    return [
        {"case": c, "object": "o", "group": group, "round": r, "dice": v, **{k: m[r - first] for k, m in more.items()}}
        for c, curve in curves.items()
        for r, v in enumerate(curve, first)
    ]


def test_sorted_and_single():
    rows = rows_of({"b": [0.1, 0.2], "a": [0.3]})
    table = Table([*rows[::-1], rows[0]])
    assert [(r["case"], r["round"]) for r in table.rows] == [("a", 1), ("b", 1), ("b", 2)]
    assert len(table) == 3
    assert table.columns == ["dice"]
    tenth = Table([{**rows[0], "round": r} for r in (10, 9, 2)])
    assert [r["round"] for r in tenth.rows] == [2, 9, 10]


@pytest.mark.parametrize(
    "change", [{"dice": 0.5}, {"group": "other"}, {"nsd": 0.1}, {"dice": math.nan}, {"dice": -0.0}]
)
def test_conflicting_rows(change):
    (row,) = rows_of({"a": [0.0]})
    with pytest.raises(InputError, match=r"'a'.*'o'.*twice"):
        Table([row, {**row, **change}])
    nan = {**row, "dice": math.nan}
    assert len(Table([nan, dict(nan)])) == 1


def test_equality():
    rows = rows_of({"a": [math.nan, 0.5]})
    assert Table(rows) == Table(rows[::-1])
    assert Table(rows) != Table(rows[:1])
    assert Table(rows) != rows


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.randoms())
def test_means_are_exact_in_any_order(values, shuffler):
    rows = [{"case": str(i), "object": "o", "group": "xyz"[i % 3], "round": 1, "dice": v} for i, v in enumerate(values)]
    first = Table(rows)
    shuffler.shuffle(rows)
    assert Table(rows).mean("dice") == first.mean("dice") == pytest.approx(float(np.mean(values)), abs=1e-6)
    by = first.mean("dice", by="group")
    for i, name in enumerate("xyz"[: len(values)]):
        assert by[name] == pytest.approx(float(np.mean(values[i::3])), abs=1e-6)
    assert list(by) == sorted(by)


def test_mean_of_some_rows():
    table = Table([*rows_of({"a": [0.2, 0.4], "b": [0.6]}), *rows_of({"c": [1.0, 0.0]}, "h")])
    assert table.mean("dice", round=1) == pytest.approx((0.2 + 0.6 + 1) / 3)
    assert table.mean("dice", round=2) == pytest.approx(0.2)
    assert table.mean("dice", by="group", round=2) == pytest.approx({"g": 0.4, "h": 0.0})
    assert table.mean("dice", by="round") == pytest.approx({1: 0.6, 2: 0.2})
    assert math.isnan(table.mean("dice", round=3))
    assert table.mean("dice", by="group", round=3) == {}


def test_what_a_mean_leaves_out():
    rows = rows_of({"a": [0.2], "b": [math.nan], "c": [0.4]})
    assert Table(rows).mean("dice") == pytest.approx(0.3)
    del rows[2]["dice"]
    rows[2]["hd95"] = math.inf
    assert Table(rows).mean("dice") == pytest.approx(0.2)
    assert Table(rows).mean("hd95") == math.inf
    assert math.isnan(Table([]).mean("dice"))
    assert Table([]).mean("dice", by="group") == {}


def test_unknown_names():
    table = Table(rows_of({"a": [0.2]}))
    with pytest.raises(InputError, match="dice"):
        table.mean("nsd")
    with pytest.raises(InputError, match="'group'"):
        table.mean("dice", by="file")  # type: ignore[call-overload]
    with pytest.raises(InputError, match="nsd"):
        table.summary(column="nsd")


def test_curves():
    table = Table([*rows_of({"a": [0.1, 0.2], "b": [0.3]}), *rows_of({"c": [0.0, 0.5]}, "h", first=0)])
    assert table.curves() == {("a", "o"): [0.1, 0.2], ("b", "o"): [0.3], ("c", "o"): [0.5]}
    assert table.curves(group="h") == {("c", "o"): [0.5]}


@pytest.mark.parametrize("kept", [[0, 2], [1, 2], [2]])
def test_missing_rounds_are_an_error(kept):
    rows = rows_of({"a": [0.1, 0.2, 0.3]})
    with pytest.raises(InputError, match="every round"):
        Table([rows[i] for i in kept]).summary()


def test_summary_by_hand():
    curves = {"a": [0.5, 0.82, 0.91], "b": [0.86], "c": [0.7, 0.79, 0.6]}  # b was perfect enough: no more clicks
    found = Table(rows_of(curves)).summary()
    assert found == pytest.approx(
        {
            "objects": 3,
            "dice@1": (0.5 + 0.86 + 0.7) / 3,
            "dice@2": (0.82 + 0.86 + 0.79) / 3,
            "dice@3": (0.91 + 0.86 + 0.6) / 3,
            "noc@80": (2 + 1 + 3) / 3,
            "failed@80": 1 / 3,
            "noc@85": (3 + 1 + 3) / 3,
            "failed@85": 1 / 3,
            "noc@90": 3,
            "failed@90": 2 / 3,
            "dice_auc": (0.25 + 0.82 + 0.455 + 2 * 0.86 + 0.35 + 0.79 + 0.3) / 3,
            "dice_mean": ((0.5 + 0.82 + 0.91) / 3 + 0.86 + (0.7 + 0.79 + 0.6) / 3) / 3,
            "rounds_lost": 1 / 4,
        }
    )


def test_summary_of_more_columns_and_groups():
    rows = rows_of({"a": [0.5, 0.9]}, nsd=[0.1, 0.3], compliance=[1.0, 0.5])
    rows += rows_of({"b": [0.9, 0.1]}, "h", nsd=[0.5, 0.7], compliance=[1.0, 1.0])
    table = Table(rows)
    assert table.summary()["nsd_final"] == pytest.approx(0.5)
    assert table.summary()["compliance"] == pytest.approx(3.5 / 4)
    assert table.summary("g")["compliance"] == pytest.approx(0.75)
    assert table.summary("h")["rounds_lost"] == 1
    assert table.summary("g", column="nsd")["nsd@2"] == pytest.approx(0.3)
    assert table.summary("nobody") == {"objects": 0} == Table([]).summary()


def test_a_mask_before_the_first_click():
    found = Table(rows_of({"a": [0.9, 0.5, 0.95]}, first=0)).summary()
    assert found["dice@1"] == 0.5
    assert found["noc@90"] == 2
    assert found["rounds_lost"] == 0.5
    assert "dice@3" not in found
    assert Table(rows_of({"a": [0.9]}, first=0)).summary() == {"objects": 1}


def test_csv(tmp_path: Path):
    rows = rows_of({'a "1", ü\n': [0.1 + 0.2, math.nan]})
    rows[0]["hd95"] = math.inf
    table = Table(rows)
    path = table.to_csv(tmp_path / "t.csv")
    with open(path, encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == ["case", "object", "group", "round", "dice", "hd95"]
    assert found[0]["case"] == 'a "1", ü\n'
    assert float(found[0]["dice"]) == 0.1 + 0.2
    assert float(found[0]["hd95"]) == math.inf
    assert found[1]["hd95"] == ""
    assert Table([]).to_csv(tmp_path / "empty.csv").read_text() == "case,object,group,round\n"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table = Table(rows_of({"a": [0.1]}))
    with pytest.raises(SaveError):
        table.to_csv(tmp_path / "missing" / "t.csv")
    old = table.to_csv(tmp_path / "t.csv").read_bytes()

    def fails(*_: Any) -> None:
        raise TypeError

    monkeypatch.setattr(csv.DictWriter, "writerows", fails)
    with pytest.raises(TypeError):
        table.to_csv(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]
