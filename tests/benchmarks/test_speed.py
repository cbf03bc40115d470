"""Speed: what is timed, in which order, what the tables make of it; what latency makes of volumes, clicks and rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.core.record import Record
from benchmarks.core.report import published_runtime
from benchmarks.speed import compare as speed
from benchmarks.speed import methods
from benchmarks.speed.latency import mirrored, resampled, tables
from benchmarks.speed.latency_process import rounds
from benchmarks.speed.methods import FIRST, LATER, OPEN, OTHER, ROUND_FIRST, ROUND_LATER, SLICE_FIRST, SLICE_LATER
from limnet import InteractiveSegmenter
from limnet.errors import InputError
from tests.helpers.small_segmenter import small_segmenter
from tests.helpers.small_xmem import SmallXMem

SCENE = methods.scene(64, 8)
DRIFT = (1.0, 7.0, 3.0)  # the machine is slower in some laps


def counted(monkeypatch: pytest.MonkeyPatch, network: object, *names: str) -> Counter[str]:
    """Slices that methods of a network were given as features, and calls of those that were given images."""
    found: Counter[str] = Counter()
    for name in names:
        inner = getattr(network, name)

        def call(*arguments: Any, _name: str = name, _inner: Any = inner, **options: object) -> object:
            found[_name] += len(arguments[0][0]) if type(arguments[0]) is tuple else 1
            return _inner(*arguments, **options)

        monkeypatch.setattr(network, name, call)
    return found


def test_the_scene_has_its_object_on_every_slice():
    volume, truth = methods.scene(48, 9)
    assert volume.array.dtype == np.int16
    assert truth.any((1, 2)).all()
    assert 0.15 < truth[4].any(0).mean() < 0.3
    assert np.array_equal(truth, truth[::-1])
    assert volume.array[truth].mean() == pytest.approx(100, abs=2)


@pytest.mark.parametrize("whole", [0, 64])
def test_limnet_plays_two_rounds(monkeypatch: pytest.MonkeyPatch, whole: int):
    segmenter = small_segmenter()
    calls = counted(monkeypatch, segmenter.propagation, "segment", "encode_image")
    found = methods.LimnetMethod(segmenter, whole)(SCENE)
    number = {part: len(samples) for part, samples in found.items()}
    assert number == {OPEN: 1, FIRST: 1, LATER: 3, SLICE_FIRST: 1, OTHER: 1, SLICE_LATER: 1}
    assert all(s > 0 for samples in found.values() for s in samples)
    assert calls["segment"] == 7 + 6, "every slice but the prompted ones, in both rounds"
    assert segmenter.propagation.window_size == 160
    assert calls["encode_image"] < 7 + 8 + 8 or not whole, "later rounds take features from the cache"


def test_the_reference_keeps_nothing(monkeypatch: pytest.MonkeyPatch):
    network = SmallXMem().eval()
    calls = counted(monkeypatch, network, "encode_image", "encode_value")
    found = methods.xmem(network, "fp32", "cpu", SCENE)
    assert found[SLICE_FIRST] == found[SLICE_LATER]
    assert calls["encode_image"] == 8 + 1, "every slice, and the middle one in both directions"
    assert calls["encode_value"] == 2, "no sixth slice on either side: the prompt of each direction alone"
    results = methods.both_ways(network, "fp32", "cpu", methods.scene(64, 14))
    assert calls["encode_value"] == 2 + 2 + 2, "every fifth slice is remembered"
    assert [tuple(r.shape) for r in results] == [(2, 64, 64)] * 13


def test_ritm_computes_everything_at_every_click(monkeypatch: pytest.MonkeyPatch):
    network = methods.HRNetOCR(width=4, ocr_width=4, small=True).eval()
    calls = counted(monkeypatch, network, "encode_image")
    seen: list[torch.Tensor] = []

    def decode(features: tuple[torch.Tensor, ...], prompts: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(prompts)
        return {"instances": torch.ones(1, 1, 64, 64)}

    monkeypatch.setattr(network, "decode", decode)
    found = methods.ritm(network, "fp32", "cpu", SCENE)
    assert {part: len(samples) for part, samples in found.items()} == {FIRST: 1, LATER: 3}
    assert calls["encode_image"] == len(seen) == 4
    areas = [float(prompts[:, 1].sum()) for prompts in seen]
    assert areas == sorted(set(areas)), "one disk more at every click"
    assert not seen[0][:, 0].any()
    after = torch.sigmoid(torch.tensor(1.0))
    assert all(bool((p[:, 0] == after).all()) for p in seen[1:]), "the mask so far is given from the second click on"


def test_shapes_of_other_tools(monkeypatch: pytest.MonkeyPatch):
    assert sum(p.numel() for p in methods.ScribblePromptShape().parameters()) == pytest.approx(4.0e6, rel=0.01)
    assert methods.ScribblePromptShape(channels=4)(torch.zeros(2, 5, 32, 48)).shape == (2, 1, 32, 48)
    assert set(methods.passes(torch.nn.Identity(), (1, 1), "fp32", "cpu", SCENE)) == {FIRST, LATER}
    monkeypatch.setattr(methods, "seconds", lambda work, device: 2.0)
    whole = methods.nninteractive(torch.nn.Identity(), "fp32", "cpu", SCENE)
    assert whole == {part: [16.0] for part in (FIRST, LATER, ROUND_FIRST, ROUND_LATER)}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_reaches_the_network(precision: str):
    class Seen(torch.nn.Linear):
        kind = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            answer = super().forward(x)
            Seen.kind = answer.dtype
            return answer

    methods.passes(Seen(2, 2), (1, 2), precision, "cpu", SCENE)
    assert Seen.kind == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def test_operations_are_those_of_the_networks():
    segmenter = small_segmenter()
    found = speed.measured(methods.LimnetMethod(segmenter, 64), methods.scene(64, 4), gflop=True)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        segmenter.interaction.encode_image(torch.zeros(1, 1, 64, 64))  # type: ignore[operator]
    gflop = found["gflop"]
    assert gflop["interaction: encode_image"] == pytest.approx(counter.get_total_flops() / 1e9)
    assert gflop[FIRST] == pytest.approx(gflop["interaction: encode_image"] + gflop["interaction: decode"])
    assert min(gflop[SLICE_FIRST], gflop[SLICE_LATER]) > gflop["propagation: segment"] > 0
    assert set(found["samples"]) == set(gflop)
    assert "encode_image" not in segmenter.interaction.__dict__


def test_methods_take_turns_and_go_on(monkeypatch: pytest.MonkeyPatch):
    def fake(scene: methods.Scene) -> methods.Samples:
        return {FIRST: [float(len(scene.truth))]}

    def broken(*_: object) -> Any:
        raise ModuleNotFoundError("No module named 'transformers'")

    table = {"tiny": methods.Method(lambda *_: fake, ""), "xmem": methods.Method(lambda *_: fake, "", True)}
    monkeypatch.setattr(speed, "METHODS", {**table, "sam2-video": methods.Method(broken, "")})
    before = torch.get_num_threads()
    job = speed.Job(("tiny", "xmem", "sam2-video"), 16, 9, (1, 2), ("fp32",), 2)
    rows = list(speed.run(job))
    torch.set_num_threads(before)
    assert [(r["lap"], r["threads"], r["method"]) for r in rows if "samples" in r] == [
        (lap, *turn) for lap in (0, 1) for turn in ((1, "tiny"), (2, "tiny"), (2, "xmem"))
    ]
    assert {r["method"]: r["samples"][FIRST] for r in rows if "samples" in r} == {"tiny": [9.0], "xmem": [7.0]}
    assert [r["left_out"] for r in rows if "left_out" in r] == ["ModuleNotFoundError: No module named 'transformers'"]
    assert all(r["peak"] > 100_000_000 for r in rows if "samples" in r), "the whole process, torch included"


def rows() -> list[dict[str, Any]]:
    """tiny, and methods that take 4 or 8 times as long; one thread takes twice, fp32 three times as long."""
    found = []
    for lap, drift in enumerate(DRIFT):
        for threads, precision, pace in ((1, "fp32", 6), (2, "fp32", 3), (1, "bf16", 2), (2, "bf16", 1)):
            unit = drift * pace / 1000
            samples = {
                "tiny": {FIRST: [4 * unit], LATER: [unit, 2 * unit, 9 * unit], OTHER: [3 * unit]},
                "ritm-h32": {FIRST: [8 * unit], LATER: [8 * unit]},
                "xmem": {SLICE_FIRST: [40 * unit], SLICE_LATER: [40 * unit]},
            }
            samples["tiny"] |= {OPEN: [unit], SLICE_FIRST: [10 * unit], SLICE_LATER: [5 * unit]}
            for method, some in samples.items():
                key = {"size": 480, "lap": lap, "threads": threads, "precision": precision}
                found.append({**key, "method": method, "slices": 5, "samples": some})
    return found


def test_ratios_of_planted_times():
    frame = speed.laps_of(rows())
    found = speed.ratios(frame[frame.method != "tiny"], frame[frame.method == "tiny"], ["size", "threads", "precision"])
    for threads, precision in ((1, "fp32"), (2, "bf16")):

        def middle(method: str, part: str, threads: int = threads, precision: str = precision) -> float:
            return float(found.loc[(480, 5, threads, precision, method, part), 0.5])

        assert middle("ritm-h32", FIRST) == pytest.approx(2), "drift drops out"
        assert middle("ritm-h32", LATER) == pytest.approx(4), "by the medians of a lap"
        assert (middle("xmem", SLICE_FIRST), middle("xmem", SLICE_LATER)) == pytest.approx((4, 8))
        assert middle("ritm-h32 + xmem", ROUND_FIRST) == pytest.approx((8 + 99 * 40) / (4 + 99 * 10))
        assert middle("ritm-h32 + xmem", ROUND_LATER) == pytest.approx((8 + 99 * 40) / (3 + 99 * 5))
    text = speed.speed_tables([*rows(), {"method": "sam2-video", "left_out": "not here"}])
    assert (
        "| tiny | 3 | 3.0 (2.0-5.0) | 12.0 (8.0-20.0) | 6.0 (4.0-10.0) | 9.0 (6.0-15.0) | 33.33 (20.00-50.00)" in text
    )
    assert "| xmem | - | - | 4.00 (4.00-4.00) | 8.00 (8.00-8.00) | - | - |" in text
    assert "| tiny, 480, bf16 | 1 thread / 2 threads | 2.00 (2.00-2.00) |" in text
    assert "| xmem, 480, threads 2 | fp32 / bf16 | - | - | 3.00 (3.00-3.00) |" in text
    assert "- `ritm-h32 + xmem`: clicks of ritm-h32, slices of xmem" in text
    assert "Left out: not here" in text


def test_rounds_that_a_method_answers_itself_stay():
    row = {"size": 480, "slices": 5, "threads": 1, "precision": "fp32", "lap": 0, "method": "nninteractive"}
    frame = speed.laps_of([{**row, "samples": {FIRST: [3.0], LATER: [3.0], ROUND_FIRST: [3.0], ROUND_LATER: [3.0]}}])
    assert frame[frame.part == ROUND_FIRST].seconds.tolist() == [3.0]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> InteractiveSegmenter:
    found = small_segmenter()
    monkeypatch.setattr(InteractiveSegmenter, "from_pretrained", lambda *_, **__: found)
    return found


@pytest.mark.usefixtures("model")
def test_table_beside_the_published_row(tmp_path: Path):
    asked: list[speed.Job] = []

    def run(job: speed.Job) -> Iterator[dict[str, Any]]:
        asked.append(job)
        took = (4, 2, 5)[job.first] / 100
        samples = {FIRST: [took], SLICE_FIRST: [took], OTHER: [0.016], SLICE_LATER: [0.016], LATER: [0.01]}
        row = {"size": job.size, "slices": job.slices, "threads": job.threads[0], "precision": job.precisions[0]}
        row |= {"method": job.methods[0], "lap": job.first, "samples": samples}
        yield {**row, "peak": 1.5e9, "device_peak": None}

    words = ["runtime", "--out", str(tmp_path), "--threads", "2"]
    for _ in range(2):  # the second time nothing is left to do
        speed.main([*words, "--method", "tiny", "--method", "base"], run)
    assert [(job.methods[0], job.first) for job in asked] == [(m, r) for r in range(3) for m in ("tiny", "base")]
    text = (tmp_path / "runtime.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| **tiny** | 100 x 480 x 480 |"))
    assert "| 25.00 (22.22-33.33) | 62.50 (62.50-62.50) | 1.50 GB (process) | 0.80 |" in row
    assert (
        "| LIM-Net (published) | 100 x 480 x 480 | Tesla V100-SXM2, 16 GB | 31.25 | - | 2.7 GB (GPU) | 1.00 |" in text
    )
    assert all(f"- {caveat}" in text for caveat in published_runtime().caveats)
    assert "Made by `limnet bench runtime --methods tiny --methods base --threads 2` at commit " in text
    speed.main([*words, "--slices", "50", "--repeats", "1", "--method", "tiny"], run)
    text = (tmp_path / "runtime.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| **tiny** | 50 x 480 x 480 |"))
    assert row.endswith("| - |"), "another number of slices is not compared"
    with pytest.raises(InputError, match="'fast' is unknown"):
        speed.main([*words, "--method", "fast"], run)


def test_cost_of_every_part(tmp_path: Path, model: InteractiveSegmenter):
    def run(job: speed.Job) -> Iterator[dict[str, Any]]:
        parts = {FIRST: [0.1, 0.2, 0.4], LATER: [0.2]}
        for lap in range(job.first, 1):
            row = {"size": 480, "slices": 40, "threads": job.threads[0], "precision": job.precisions[0], "lap": lap}
            yield {**row, "method": job.methods[0], "samples": parts, "gflop": {FIRST: 1.5}, "peak": 2**30}

    speed.main(["cost", "--out", str(tmp_path)], run)
    found = json.loads((tmp_path / "cost.json").read_text())
    assert len(found["rows"]) == 2 * 4
    networks: list[Any] = [model.interaction, model.propagation, model.quality]
    assert sum(found["summary"].values()) == sum(p.numel() for network in networks for p in network.parameters())
    text = (tmp_path / "cost.md").read_text()
    assert "| first click | 1.50 | 200.0 (200.0-200.0) |" in text
    assert "| peak memory of the process, MiB |  | 1024 |" in text


def test_volumes_are_mirrored_and_interpolated():
    line = np.arange(4)[:, None, None] * np.ones((1, 2, 2), int)
    assert mirrored(line, (-2, 0, 0), (8, 2, 1))[:, 0, 0].tolist() == [2, 1, 0, 1, 2, 3, 2, 1]
    assert resampled(10 * line, (2, 1, 1), (1, 1, 1)).shape == (8, 2, 2)
    assert resampled(70 * line, (2, 1, 1), (1, 1, 1))[:, 0, 0].tolist() == [0, 30, 60, 90, 120, 150, 180, 210]


def test_the_robot_corrects_the_largest_error_and_hears_of_its_own_slice():
    voxels = np.ones((3, 5, 5), bool)
    voxels[0, :2] = False
    corner = np.array([1, 2, 2])
    clicks = []

    def click(point, positive, on_update):
        clicks.append((point, positive))
        on_update(((0, 1), (0, 1), (0, 1)), None, 0, 1)  # another slice
        mask = np.zeros((6, 9, 9), bool)
        mask[1:4, 2:7, 2:7] = voxels
        mask[5, 4:7, 4:7] = len(clicks) == 1  # too much
        return mask

    case = SimpleNamespace(object=lambda name: SimpleNamespace(click=click))
    row = rounds(case, "ball", {"corner": corner, "voxels": voxels}, 2)
    assert clicks == [((2, 4, 4), True), ((5, 5, 5), False)]
    assert row["dice"] == [2 * 65 / (65 + 74), 1]
    assert row["first"] == row["round"]  # nothing was told of the clicked slice before the end


def test_tables_divide_rounds_of_the_same_object():
    common = {
        "volume": "ct",
        "case": "ct",
        "command": "bench latency",
        "threads": 2,
        "precision": "auto",
        "busy": 0,
        "session": False,
        "slices": 11,
    }
    common |= {"first": [0.1, 0.1], "dice": [0.5, 0.75], "peak": 2**29, "click": [], "click_again": []}
    rows = [
        common | {"version": version, "object": name, "round": [factor * took, took], "variant": version}
        for version, factor in (("now", 1), ("before", 3))
        for name, took in (("liver", 2.0), ("spleen", 1.0))
    ]
    file = {"file": "large.nii", "bytes": 5e8, "read": {"limnet": [0.1, 0.2, 0.9], "nibabel": [0.3]}}
    record = Record(Path("latency.json"), {})
    record.take(
        [*rows, {**file, "variant": "file", "case": "large.nii", "object": "", "command": "bench latency --files"}]
    )
    text = tables(record)
    assert "| 1.50 / 2.00 | 0.10 / 0.10 | 1.50 / 2.00 |  |  | 512 | 3.0, 1.0 | 0.750 |" in text
    assert "Opening a NIfTI file of 500 MB: 0.20 s, nibabel 0.30 s." in text
    assert "    bench latency --files\n" in text
