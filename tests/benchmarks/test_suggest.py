from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.analyses import suggest
from limnet.case.case import Case
from tests.helpers.fake_engine import fake_case, fake_engine


def case_with(quality: dict[int, float]) -> Case:
    case = fake_case(engine=fake_engine(quality=quality))
    case.click((6, 20, 24))
    return case


def test_suggestions_are_followed_until_one_is_wrong() -> None:
    case = case_with({i: 0.9 for i in range(12)} | {4: 0.1, 8: 0.3})
    order: list[int] = []
    while len(order) < 3:
        order.append(case.suggest(skip=order).index)
    for looks, index in enumerate(order, start=1):
        wrong = np.zeros(12, bool)
        wrong[index] = True
        assert suggest.suggested(case, wrong) == (index, looks)


def test_slices_by_policy(study: list[str], tmp_path: Path) -> None:
    suggest.main([*study, "--rounds", "4", "--per-file", "1"])
    rows = json.loads((tmp_path / "suggest.json").read_text())["rows"]
    assert len(rows) == 2 * 4
    for row in rows:
        if row["variant"] != suggest.CUSTOMARY:
            assert len(set(row["slices"])) == len(row["slices"]), "never back to a prompted slice"
        assert len(row["looked"]) == (len(row["slices"]) - 1 if row["variant"] == suggest.SUGGESTED else 0)
        assert all(n >= 1 for n in row["looked"])
    assert len({row["dice"][0] for row in rows if row["case"] == "ts_ct_one"}) == 1
    assert (tmp_path / "suggest.png").stat().st_size > 5000
    assert "against a random wrong slice" in (tmp_path / "suggest.md").read_text()
