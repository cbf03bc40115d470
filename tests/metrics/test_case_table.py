"""The per-case table: one process, and two with different numbers of rows."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("torchmetrics")

from torchmetrics import MeanMetric, MetricCollection

from limnet.errors import InputError, InputTypeError
from limnet.metrics import CaseTable, Table
from tests.helpers.table_processes import CONFLICT, PLANS, Row, outcome, process, row


def filled(rows: list[Row]) -> CaseTable:
    table = CaseTable()
    for entry in rows:
        table.update(*entry)
    return table


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes got, by rank."""
    folder = tmp_path_factory.mktemp("pair")
    torch.multiprocessing.spawn(process, args=(str(folder),), nprocs=2)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("plan", PLANS)
def test_two_processes_equal_one(plan: str, pair, tmp_path: Path):
    alone = outcome(filled(PLANS[plan][0] + PLANS[plan][1]), tmp_path)
    assert pair[0][plan] == alone
    assert pair[1][plan] == alone


def test_plans_are_what_they_claim(pair):
    """Guards against plans that prove nothing: rows really came from both sides and the double one was dropped."""
    counts = {name: len(json.loads(pair[0][name]["rows"])) for name in PLANS}
    assert counts == {
        "three_none": 3,
        "none_three": 3,
        "five_two": 7,
        "padded": 5,
        "rounds": 6,
        "gaps": 2,
        "none_none": 0,
    }
    assert [pair[rank]["local"] for rank in range(2)] == [5, 2]


def test_both_processes_refuse_a_conflict(pair):
    with pytest.raises(InputError, match=r"case_1.*twice") as one:
        filled(CONFLICT[0] + CONFLICT[1]).compute()
    assert pair[0]["conflict"] == pair[1]["conflict"] == str(one.value)


def test_epochs_and_rows_after_compute(pair, tmp_path: Path):
    rows = PLANS["five_two"][0] + PLANS["five_two"][1]
    alone, more = outcome(filled(rows), tmp_path), outcome(filled([*rows, row(20), row(21)]), tmp_path)
    for rank in range(2):
        assert pair[rank]["part_0"] == pair[rank]["part_1"] == alone
        assert pair[rank]["more"] == more


def test_numbers_come_back_bit_for_bit():
    values = {"a": 0.1 + 0.2, "b": -0.0, "c": 5e-324, "d": math.inf, "e": 1.7976931348623157e308}
    (found,) = filled([("case", "object", "", 1, values)]).compute().rows
    for name, value in values.items():
        assert np.float64(found[name]).tobytes() == np.float64(value).tobytes()


def test_numbers_of_any_kind():
    table = CaseTable()
    table.update("c", "o", "g", np.int64(2), {"x": torch.tensor(0.5), "y": np.float32(0.25), "z": np.array(1)})
    assert table.compute().rows == [
        {"case": "c", "object": "o", "group": "g", "round": 2, "x": 0.5, "y": 0.25, "z": 1.0}
    ]


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ((1, "o", "g", 1, {"x": 0.0}), InputTypeError),
        (("", "o", "g", 1, {"x": 0.0}), InputError),
        (("c", None, "g", 1, {"x": 0.0}), InputTypeError),
        (("c", "o", "g", 1.0, {"x": 0.0}), InputTypeError),
        (("c", "o", "g", True, {"x": 0.0}), InputTypeError),
        (("c", "o", "g", -1, {"x": 0.0}), InputError),
        (("c", "o", "g", 1, {"x": "0.5"}), InputTypeError),
        (("c", "o", "g", 1, {"x": None}), InputTypeError),
        (("c", "o", "g", 1, {"x": torch.zeros(2)}), InputTypeError),
        (("c", "o", "g", 1, {"round": 0.5}), InputError),
    ],
)
def test_bad_rows_are_refused_at_once(entry, error):
    table = CaseTable()
    with pytest.raises(error):
        table.update(*entry)
    assert len(table.compute()) == 0


def test_forward_gives_the_row_and_keeps_all():
    table = CaseTable()
    one = table(*row(1))
    two = table(*row(0))
    assert isinstance(one, Table)
    assert [r["case"] for r in one.rows] == ["case_1"]
    assert [r["case"] for r in two.rows] == ["case_0"]
    assert table.compute() == filled([row(0), row(1)]).compute()


def test_reset_copy_and_pickle():
    table = filled([row(0), row(1)])
    full = table.compute()
    for twin in (copy.deepcopy(table), table.clone(), pickle.loads(pickle.dumps(table))):
        assert twin.compute() == full
        twin.update(*row(2))
        assert len(twin.compute()) == 3
    assert table.compute() == full
    table.reset()
    assert len(table.compute()) == 0
    table.update(*row(5))
    assert len(table.compute()) == 1


def test_state_dict():
    table = filled([row(0), row(1)])
    assert not table.state_dict()
    table.persistent(True)
    other = CaseTable()
    other.persistent(True)
    other.load_state_dict(copy.deepcopy(table.state_dict()))
    assert other.compute() == table.compute()
    other.update(*row(2))
    assert len(other.compute()) == 3


def test_merged_states():
    table = filled([row(0)])
    table.merge_state(filled([row(1), row(0)]))
    assert table.compute() == filled([row(0), row(1)]).compute()


def test_casting_a_module_keeps_the_numbers():
    module = torch.nn.Module()
    module.table = filled([row(0)])
    module.half().to(torch.bfloat16).double()
    module.table.update(*row(1))
    assert module.table.compute() == filled([row(0), row(1)]).compute()


def test_in_a_collection():
    class Mean(MeanMetric):
        def update(self, values: dict[str, float], **_: Any) -> None:
            super().update(values["dice"])

    collection = MetricCollection({"table": CaseTable(), "twin": CaseTable(), "mean": Mean()})
    for entry in (row(0), row(1)):
        collection.update(**dict(zip(("case", "object", "group", "round", "values"), entry, strict=True)))
    found = collection.compute()
    assert found["table"] == found["twin"] == filled([row(0), row(1)]).compute()
    assert float(found["mean"]) == pytest.approx(found["table"].mean("dice"))
    collection.reset()
    assert len(collection.compute()["twin"]) == 0
