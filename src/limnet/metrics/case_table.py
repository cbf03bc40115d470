"""The table of results as a metric that gathers its rows from all processes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from limnet.errors import InputError
from limnet.metrics.table import FIELDS, Table, checked_row


class CaseTable(Metric):
    """Collects one row per case, object and round; `compute` returns the `Table` of all processes.

    The table is the same, bit for bit, for any number of processes and any way of dealing the cases out: rows are
    sorted by (case, object, round), and a case that a distributed sampler dealt out twice is kept once. Processes may
    hold different numbers of rows, or none. Every process gets the whole table; let rank 0 write it.

    Rows are kept as bytes (JSON lines in uint8 tensors): numbers stay exact float64 wherever the module is moved or
    whatever precision it is cast to.

    Example:
        >>> table = CaseTable()
        >>> table.update("case_1", "liver", "organs", 1, {"dice": 0.5})
        >>> table.update("case_1", "liver", "organs", 2, {"dice": 1.0})
        >>> table.compute().mean("dice")
        0.75
    """

    is_differentiable = False
    full_state_update = False
    records: list[Tensor] | Tensor

    def __init__(self, sync_on_compute: bool = True, process_group: Any | None = None) -> None:
        super().__init__(sync_on_compute=sync_on_compute, process_group=process_group, dist_sync_fn=_gather_bytes)
        self.add_state("records", default=[], dist_reduce_fx="cat")

    def update(self, case: str, object: str, group: str, round: int, values: Mapping[str, float]) -> None:
        """Add a row; see `checked_row` for errors.

        Args:
            case: Name of the case, unique within the data; that of the object is unique within the case.
            group: What means are taken over, such as "organs"; may be empty.
            round: 1 after the first round of prompts, 2, ...; 0 for a mask that was there before.
            values: Named numbers, such as {"dice": 0.91, "nsd": 0.88}.
        """
        if clash := set(values) & set(FIELDS):
            raise InputError(f"values hold {', '.join(sorted(clash))}; these names are fields, give the number another")
        row = checked_row({"case": case, "object": object, "group": group, "round": round, **values})
        line = bytearray(json.dumps(row).encode("ascii") + b"\n")
        if isinstance(self.records, Tensor):
            self.records = [self.records]
        self.records.append(torch.frombuffer(line, dtype=torch.uint8).to(self.device))

    def compute(self) -> Table:
        """The table of all rows, of all processes where torch.distributed runs; raises as `Table`."""
        records = [self.records] if isinstance(self.records, Tensor) else self.records
        data = b"".join(part.cpu().numpy().tobytes() for part in records)
        return Table(json.loads(line) for line in data.split(b"\n") if line)


def _gather_bytes(result: Tensor, group: Any | None = None) -> list[Tensor]:
    """Gather byte tensors. A process without rows holds an empty tensor that torchmetrics made of floats."""
    return gather_all_tensors(result.to(torch.uint8), group)
