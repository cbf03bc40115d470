from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.analyses import cost
from limnet import InteractiveSegmenter
from tests.helpers.small_segmenter import small_segmenter


def test_operations_are_those_of_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = small_segmenter()
    volume, truth = cost.scene(64, 4)
    with cost.whole_slices(segmenter, 64) as settings:
        found = cost.flops(segmenter, settings, volume, truth)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        segmenter.interaction.encode_image(torch.zeros(1, 1, 64, 64))  # type: ignore[operator]
    assert found["interaction: encode_image"] == pytest.approx(counter.get_total_flops() / 1e9)
    assert (
        found[cost.LATER] >= found["interaction: decode"] * (1 - 1e-9) > 0
    )  # sums of the same numbers in another order
    one_look = found["interaction: encode_image"] + found["interaction: decode"]
    assert found[cost.FIRST] == pytest.approx(one_look), "no window magnifies a slice of the network's own size"
    assert min(found[cost.SLICE_FIRST], found[cost.SLICE_LATER]) > found["propagation: segment"] > 0
    assert "encode_image" not in segmenter.interaction.__dict__
    assert segmenter.interaction.window_size == 160
    assert settings.scope == "volume"


def test_meter_counts() -> None:
    now = [0.0]
    meter = cost.Meter(lambda: now[0])

    def work(seconds: float) -> None:
        now[0] += seconds

    half = meter.wrap("half", work)
    half(1.0)
    half(3.0)
    assert meter.per_call() == {"half": 2.0}
    assert meter.of(lambda: work(5.0)) == 5.0


def test_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = small_segmenter()
    parts = (cost.FIRST, cost.LATER, cost.SLICE_FIRST, cost.SLICE_LATER)
    scene = {"seconds": {p: cost.spread([0.1, 0.2, 0.4]) for p in (*parts, "dice")}, "memory": 2**30}
    scene["gflop"] = dict.fromkeys(parts, 1.5)
    measured = {"scenes": dict.fromkeys(cost.SCENES, scene), "loaded": 2**29}
    monkeypatch.setattr(InteractiveSegmenter, "from_pretrained", lambda *_: segmenter)
    monkeypatch.setattr(cost, "in_own_process", lambda *_: measured)
    cost.main(["--out", str(tmp_path)])
    found = json.loads((tmp_path / "cost.json").read_text())
    assert [(r["precision"], r["threads"]) for r in found["rows"]] == [
        ("fp32", 1),
        ("fp32", 2),
        ("bf16", 1),
        ("bf16", 2),
    ]
    networks: list[nn.Module] = [segmenter.interaction, segmenter.propagation, segmenter.quality]  # type: ignore[list-item]
    wanted = sum(int(np.prod(p.shape)) for network in networks for p in network.parameters())
    assert sum(found["summary"]["parameters"].values()) == wanted
    assert "| 1.50 | 200.0 (150.0-300.0) |" in (tmp_path / "cost.md").read_text()
    assert (tmp_path / "cost.png").stat().st_size > 5000
