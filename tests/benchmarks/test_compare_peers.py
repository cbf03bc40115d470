from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks.analyses import compare_peers
from benchmarks.core.suite import PEERS
from limnet.image.volume import Volume
from limnet.segmenter import InteractiveSegmenter


@dataclass(frozen=True)
class Level:
    """Everything brighter than a level; fails on request."""

    name: str
    level: float
    fails: bool = False

    def start(self, volume: Volume, axis: int, *names: str) -> Level:
        object.__setattr__(self, "array", volume.array)
        return self

    def click(self, zyx: tuple[int, int, int], positive: bool) -> np.ndarray:
        if self.fails:
            raise MemoryError("too large")
        return self.array > self.level  # type: ignore[attr-defined]


def test_margins_and_failures(study: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = {"half": Level("half", 230.0), "broken": Level("broken", 0.0, fails=True)}
    monkeypatch.setattr(compare_peers, "LimnetPredictor", lambda *_, **__: Level("limnet", 100.0))
    monkeypatch.setattr(compare_peers, "peer", lambda name, model: peers[name])
    options = [*study, "--rounds", "2", "--only", "one", "--peers", "half,broken"]
    compare_peers.main(options)
    found = json.loads((tmp_path / "compare_peers.json").read_text())
    rows = {r["variant"]: r for r in found["rows"]}
    assert rows["limnet"]["dice"] == [1.0], "nothing was left to correct"
    assert 0 < rows["half"]["dice"][0] < 1
    assert (rows["broken"]["dice"], rows["broken"]["failed"]) == ([0.0], "MemoryError: too large")
    assert found["fixed"]["model"] == InteractiveSegmenter.from_pretrained("limnet-tiny").identity
    margins = found["summary"]["groups"]["all"]["margins"]
    assert margins["half"][-1] == pytest.approx(1 - rows["half"]["dice"][-1])
    assert margins["broken"] == [1.0, 1.0]
    assert (tmp_path / "compare_peers.png").stat().st_size > 5000

    peers["half"] = Level("half", 150.0)  # another configuration: measured again, the rest is kept
    compare_peers.main(options)
    again = {r["variant"]: r for r in json.loads((tmp_path / "compare_peers.json").read_text())["rows"]}
    assert again["half"]["dice"] == [1.0]
    assert again["limnet"] == rows["limnet"]


def test_peers_are_in_the_table() -> None:
    assert set(compare_peers.OF_LIMNET) < set(compare_peers.WEIGHT_FREE) <= set(PEERS)
    assert compare_peers.peer("nearest-copy", "some/model").model == "some/model"  # type: ignore[attr-defined]
