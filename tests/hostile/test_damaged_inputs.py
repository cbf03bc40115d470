"""Two thousand damaged inputs: errors of limnet or the right values, in bounded memory, and nothing left behind."""

from __future__ import annotations

import pytest

from tests.hostile.__main__ import OUTCOMES, survey

pytest.importorskip("resource")
pytest.importorskip("pydicom")


def test_two_thousand_damaged_inputs() -> None:
    results = survey(inputs=2000, seed=0)
    faults = [
        f"--seed 0 --start {number}: {kind}: {what}" for number, kind, outcome, what in results if outcome == "FAULT"
    ]
    assert not faults
    assert [number for number, *_ in results] == list(range(2000))
    for outcome in OUTCOMES[:3]:
        assert sum(found == outcome for _, _, found, _ in results) > 100, outcome
