"""Tables filled by two processes: what each gets."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

Row = tuple[str, str, str, int, dict[str, float]]


def row(case: int, round: int = 1, object: str = "liver") -> Row:
    """A row whose numbers need every bit of a float64."""
    value = 1 / (3 + case + 0.1 * round)
    return f"case_{case}", object, ("organs", "lesions")[case % 2], round, {"dice": value, "hd95": value * 1e3 + 1e-9}


PLANS: dict[str, tuple[list[Row], list[Row]]] = {
    "three_none": ([row(2), row(0), row(1)], []),
    "none_three": ([], [row(2), row(0), row(1)]),
    "five_two": ([row(c) for c in (9, 1, 3, 5, 7)], [row(0), row(11)]),
    "padded": ([row(0), row(1), row(2)], [row(3), row(4), row(0)]),
    "rounds": ([row(0, r) for r in (1, 2, 3)] + [row(0, 1, "spleen")], [row(1, 1), row(1, 2)]),
    "gaps": ([('ü\n,"', "a", "", 1, {"dice": 1.0})], [("b", "a", "", 1, {"nsd": float("nan"), "dice": float("inf")})]),
    "none_none": ([], []),
}
"""Rows by rank."""

CONFLICT: tuple[list[Row], list[Row]] = (
    [row(0), row(1)],
    [("case_1", "liver", "lesions", 1, {"dice": 0.5, "hd95": 1.0})],
)


def outcome(table: Any, folder: Path) -> dict[str, Any]:
    """Everything a table gives, as text."""
    found = table.compute()
    return {
        "csv": found.to_csv(folder / "table.csv").read_bytes().decode(),
        "rows": json.dumps(found.rows),
        "means": repr([found.mean("dice"), found.mean("dice", by="group")]) if len(found) else "",
    }


def process(rank: int, folder: str) -> None:
    """One of two processes: fill and compute each plan, write what came out to `folder`/RANK.json."""
    from limnet.errors import InputError
    from limnet.metrics import CaseTable

    torch.set_num_threads(1)
    home = Path(folder)
    (home / str(rank)).mkdir()
    store = f"file://{home / 'store'}"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    found: dict[str, Any] = {}
    for name, plan in PLANS.items():
        table = CaseTable()
        for entry in plan[rank]:
            table.update(*entry)
        found[name] = outcome(table, home / str(rank))
    table = CaseTable()
    for entry in CONFLICT[rank]:
        table.update(*entry)
    try:
        table.compute()
    except InputError as error:
        found["conflict"] = str(error)
    table.unsync() if table._is_synced else None
    table.reset()
    for epoch in range(2):  # the same object over two epochs, computed in between
        for entry in PLANS["five_two"][rank]:
            table.update(*entry)
        found[f"part_{epoch}"] = outcome(table, home / str(rank))
        if epoch == 0:
            table.update(*row(20 + rank))
            found["more"] = outcome(table, home / str(rank))
            table.reset()
    local = CaseTable(sync_on_compute=False)
    for entry in PLANS["five_two"][rank]:
        local.update(*entry)
    found["local"] = len(local.compute())
    (home / f"{rank}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()
