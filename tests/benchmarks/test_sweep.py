"""Rows of an analysis script belong to their data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.core.fingerprint import array_mark
from benchmarks.core.studies.objects import study_objects
from benchmarks.core.studies.record import Record
from benchmarks.core.studies.sweep import sweep
from tests.helpers.bench import fake_suite


def test_rows_of_other_data_are_measured_anew(tmp_path: Path) -> None:
    things = list(study_objects(fake_suite(1)))
    seen = []

    def measure(thing):
        seen.append(thing.object)
        return {"dice": [0.5]}

    def record() -> Record:
        return Record(tmp_path, "study", "python benchmarks/study.py", {})

    sweep(record(), things, {"a": measure})
    assert seen == [thing.object for thing in things]
    sweep(record(), things, {"a": measure})
    assert len(seen) == len(things)
    changed = [things[0]._replace(data="other"), *things[1:]]
    kept = record()
    sweep(kept, changed, {"a": measure})
    assert seen[len(things) :] == [things[0].object]
    assert len(kept.rows) == len(things)
    assert {row["data"] for row in kept.rows} == {thing.data for thing in changed}


def test_marks_tell_spacing_image_and_truth_apart() -> None:
    image, truth = np.zeros((2, 3, 4), np.int16), np.zeros((2, 3, 4), bool)
    marks = {
        array_mark((1, 1, 1), image, truth),
        array_mark((2, 1, 1), image, truth),
        array_mark((1, 1, 1), image + 1, truth),
        array_mark((1, 1, 1), image, ~truth),
    }
    assert len(marks) == 4
    assert array_mark(np.float32([1, 1, 1]), image, truth) in marks
