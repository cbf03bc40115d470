"""Every object in every variant, each kept as soon as it is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from rich.console import Console

from benchmarks.core.studies.objects import StudyObject
from benchmarks.core.studies.record import Record, Row

Measure = Callable[[StudyObject], Row]


def sweep(record: Record, objects: Iterable[StudyObject], variants: Mapping[str, Measure]) -> None:
    """Measure what the record does not hold yet.

    Args:
        record: where rows go: variant, case, object, group, voxels, mark of the data, and what the measure gave. A row
            of other data under the same names is measured anew.
        objects: in the order to go through them.
        variants: name -> gives the entries of a row. An entry "left_out" (a reason) keeps the row out of comparisons.
    """
    console = Console(stderr=True, highlight=False)
    for thing in objects:
        for variant, measure in variants.items():
            key = {"variant": variant, **thing.key}
            if record.has({**key, "data": thing.data}):
                continue
            record.forget(key)  # what was measured on other data
            start = time.perf_counter()
            row = measure(thing)
            about = {**key, "group": thing.group, "voxels": int(thing.truth.sum()), "data": thing.data}
            record.add({**about, **row})
            what = row.get("left_out") or " ".join(f"{v:.3f}" for v in row.get("dice", ()))
            took = time.perf_counter() - start
            console.print(f"{thing.case} {thing.object}, {variant}: {what} ({took:.1f} s)", markup=False)
