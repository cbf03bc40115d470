"""The analyses: their skeleton, what each measures, by hand and on fake volumes with a model of thresholds."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from benchmarks.analyses import (
    ablations,
    border,
    calibration,
    corruption_figure,
    interaction2d,
    mrf_rounds,
    robustness,
    suggest,
    tools,
)
from benchmarks.analyses.watchers import ChoosingSession, TrueAssessor, WatchedAssessor, step_of
from benchmarks.core.analysis import Comparison, parser_of
from benchmarks.core.record import Record, command_of
from benchmarks.core.run import run
from benchmarks.core.suite import SuiteOptions, Target, build_suite
from limnet import InteractiveSegmenter
from limnet.errors import FileFormatError, InputError, MissingFileError
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from limnet.settings import Settings
from limnet.simulation.corruptions import CORRUPTIONS
from tests.helpers.bench import ThresholdSegmenter, fake_suite
from tests.helpers.blobs import disk
from tests.helpers.fake_engine import ConstantAssessor, fake_case, fake_engine
from tests.helpers.small_segmenter import small_segmenter

Analysed = Callable[..., dict[str, Any]]
BASE = ["--data", "/somewhere/data", "--out", "/somewhere/out"]
SIZES = {"cache_bytes", "short_side", "quality_batch", "memory_min_frames", "memory_max_frames"}


@pytest.fixture
def analysed(study: list[str], tmp_path: Path) -> Analysed:
    """Runs an analysis on the fake volumes; what its JSON file holds."""

    def main(module: Any, *words: str, stem: str = "") -> dict[str, Any]:
        module.main([*study, *words])
        file = tmp_path / (stem or module.__name__.rpartition(".")[2])
        assert file.with_suffix(".png").stat().st_size > 5000
        return json.loads(file.with_suffix(".json").read_text())

    return main


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--threads", "1"],
        ["--threads", "2", "--rounds", "3", "--per-case", "4", "--only", "spleen", "--seed", "7"],
        ["--split", "test", "--model", "other"],
        ["--known", "1", "3"],
    ],
)
def test_command_repeats_the_run(given: list[str]) -> None:
    parser = parser_of("An analysis.")
    parser.add_argument("--known", type=int, nargs="+", default=[7])
    args = parser.parse_args([*BASE, *given])
    command = shlex.split(command_of("name", parser, args))
    assert command[:2] == ["limnet", "bench"]
    assert "/somewhere" not in " ".join(command)
    again = parser.parse_args([*command[3:], "--out", "/somewhere/out"])
    assert vars(again) == {**vars(args), "data": Path("ROOT")}


def test_rows_are_measured_once(tmp_path: Path) -> None:
    seen = []

    def measure(target: Target) -> dict:
        seen.append(target.object)
        if target.object == "organ":
            raise MemoryError("too large")
        return {"dice": [0.5]}

    def measured(fresh: bool = False, rounds: int = 1) -> Record:
        record = Record(tmp_path / "x.json", {"rounds": rounds})
        record.resume(fresh)
        with record.open():
            run(record, fake_suite(1), {"a": measure}, lambda row: None)
        record.finish({}, "table")
        return record

    names = ["organ", "lesion 1", "lesion 2"]
    first = measured()
    assert seen == names
    assert [row["object"] for row in first.rows] == names[1:]
    assert [row["error"] for row in first.errors] == ["MemoryError: too large"]
    assert measured().rows == first.rows
    assert seen == [*names, "organ"], "what failed is tried again"
    (tmp_path / "x.part1.jsonl").write_text('{"key": "another run, not finished"}\n{"cut sho')
    measured(rounds=2)
    assert (tmp_path / "x.part1.jsonl").exists()
    assert len(list(tmp_path.glob("x.????????.json"))) == 1, "rows of other settings are kept"
    measured(fresh=True)
    assert seen == [*names, "organ", *names, *names]
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(FileFormatError, match="no result of limnet bench"):
        measured(fresh=True)


def test_variants_are_compared_on_objects_that_all_have() -> None:
    record = Record(Path("x.json"), {})
    for variant, object, group, dice in (
        ("a", "1", "g", [0.4]),
        ("a", "2", "h", [0.5, 0.7]),
        ("b", "1", "g", [0.2, 0.6]),
    ):
        record.take([{"variant": variant, "case": "c", "object": object, "group": group, "dice": dice}])
    found = Comparison.of(record, ["a", "b"], 2)
    assert found.groups == ["all"]
    assert (found.count(), found.curve("a"), found.curve("b")) == (1, [0.4, 0.4], [0.2, 0.6])
    assert "| all | 1 | b | 0.200 | 0.600 | x |" in found.table("method", ["more"], lambda g, v: ["x"], (1, 2))


def test_ablations_change_one_setting_at_a_time(
    analysed: Analysed, models: list[ThresholdSegmenter], tmp_path: Path
) -> None:
    rows = analysed(ablations, "--rounds", "3", "--per-file", "1")["rows"]
    changes = ablations.variants_of(models[0])  # type: ignore[arg-type]
    assert [r["variant"] for r in rows] == [*changes, *changes], "two objects"
    own = models[0].settings.to_json()
    used = [{k: v for k, v in s.to_json().items() if v != own[k]} for s in models[0].used]
    assert used == [*changes.values(), *changes.values()]
    assert {n for c in changes.values() if len(c) == 1 for n in c} == set(own) - SIZES
    for row in rows:
        assert row["compliance"][-1] == 1.0
        assert 1 <= row["newest"][1] <= row["all"][1]
    table = (tmp_path / "ablations.md").read_text()
    assert all(name in table for name in changes)


def test_ablations_leave_out_what_would_change_nothing() -> None:
    model = ThresholdSegmenter(settings=Settings(tau=1.0, click_fallback=0))
    changes = ablations.variants_of(model)  # type: ignore[arg-type]
    assert not {"no fusion", "no disk around disobeyed clicks"} & set(changes)
    assert {"scope": "interval"} in changes.values()


def test_ablations_of_several_models(study: list[str], analysed: Analysed, tmp_path: Path) -> None:
    models = f"{tmp_path}/a,plain={tmp_path}/b"
    found = analysed(ablations, "--models", models, "--rounds", "1", stem="ablations_models")
    assert {r["variant"] for r in found["rows"]} == {"a", "plain"}
    assert "--models a,plain=b" in found["command"]
    with pytest.raises(InputError, match="two models"):
        ablations.main([*study, "--models", "x/a,y/a"])


def test_ablations_with_better_clicked_slices(analysed: Analysed, tmp_path: Path) -> None:
    words = ("--true-prompts", "--rounds", "2", "--per-file", "1")
    rows = analysed(ablations, *words, stem="ablations_prompts")["rows"]
    assert [r["variant"] for r in rows] == [ablations.RELEASED, ablations.CHOSEN, ablations.TRUE] * 2
    for released, chosen, true in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert true["dice"][0] >= released["dice"][0]
        assert true["newest"][0] == true["newest"][1], "a true mask obeys every click"
        assert chosen["steps"][-1] == chosen["dice"][-1]
    choices = sum(len(row["steps"]) - len(row["dice"]) for row in rows[1::3]) / 2
    assert f"{choices:.1f} choices an object" in (tmp_path / "ablations_prompts.md").read_text()


def test_the_best_answer_is_chosen_and_counted() -> None:
    truth = np.zeros((3, 4, 4), bool)
    truth[1] = True

    class Offering:
        """A case whose click marks a row; the answers offered are two rows and the whole slice."""

        box = None

        def click(self, point: tuple[int, int, int], positive: bool = True) -> np.ndarray:
            return self._marked(1)

        def alternatives(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(mask=self._marked(rows)[1]) for rows in (1, 4, 2)]

        def choose(self, number: int) -> np.ndarray:
            assert number == 1
            return self._marked(4)

        def _marked(self, rows: int) -> np.ndarray:
            mask = np.zeros_like(truth)
            mask[1, :rows] = True
            return mask

    session = ChoosingSession(Offering(), truth)  # type: ignore[arg-type]
    assert np.array_equal(session.click((1, 0, 0)), truth)
    assert session.steps == [pytest.approx(0.4), 1.0]


def test_probes_lie_as_far_from_the_border_as_they_say() -> None:
    scenes = list(border.probes(0))
    assert len({target.object for target, _ in scenes}) == len(scenes) == 480
    for target, click in scenes[::7]:
        assert click is not None
        truth, name = target.truth, target.object
        assert truth[click]
        distance = int(name.split(" ")[0])
        rows, columns = ndimage.find_objects(truth[1].astype(int))[0]
        size = truth.shape[1]
        gaps = rows.start, columns.start, size - rows.stop, size - columns.stop
        assert distance in gaps
        depth = int(name.split("click ")[1].split(" ")[0])
        row, column = click[1:]
        assert distance + depth in (row, column, size - 1 - row, size - 1 - column)


@pytest.mark.parametrize(("beyond", "left"), [(-0.5, 10), (-0.25, 15), (0.0, 20), (5.0, 20)])
@pytest.mark.parametrize("low", [True, False])
@pytest.mark.parametrize("axis", [1, 2])
def test_the_field_of_view_ends_where_it_should(beyond: float, left: int, low: bool, axis: int) -> None:
    truth = np.zeros((3, 60, 60), bool)
    truth[:, 20:40, 20:40] = True
    part = truth[border._field_of_view(truth, axis, low, beyond)]
    assert part.sum() == 3 * 20 * left
    across = np.flatnonzero(part.any(axis=tuple(a for a in range(3) if a != axis)))
    assert (across[0] if low else part.shape[axis] - 1 - across[-1]) == max(int(beyond), 0)


@pytest.mark.usefixtures("models")
def test_two_versions_are_compared_at_the_border(
    study_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = list(itertools.islice(border.probes(0), 3))
    monkeypatch.setattr(border, "probes", lambda seed: few)
    options = ["--data", str(study_root), "--split", "val", "--rounds", "2"]
    border.main([*options, "--out", str(tmp_path / "old")])
    old = json.loads((tmp_path / "old/border.json").read_text())["rows"]
    assert {row["group"] for row in old} == {"cut", "away", *(f"probe, 0 px, click {n} px in" for n in (0, 2, 10))}
    assert all(1 <= len(row["dice"]) <= 2 for row in old)
    border.main([*options, "--out", str(tmp_path / "new"), "--against", str(tmp_path / "old/border.json")])
    assert "| +0.0000 ± 0.0000 | 0 | 0 |" in capsys.readouterr().out.split("/ 2")[-1]


def test_calibration_by_hand() -> None:
    predicted, true = np.array([0.05, 0.15, 0.17, 1.0]), np.array([0.0, 0.4, 0.2, 0.6])
    bins = calibration.reliability(predicted, true)
    assert [b.slices for b in bins] == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]
    assert (bins[1].predicted, bins[1].true) == (pytest.approx(0.16), pytest.approx(0.3))
    assert calibration.expected_error(bins) == pytest.approx((0.05 + 2 * 0.14 + 0.4) / 4)
    assert calibration.spearman([0.1, 0.2, 0.3, 0.4, 0.9], [1, 2, 3, 4, 5]) == pytest.approx(1)
    assert calibration.spearman([0.1, 0.2, 0.3, 0.4, 0.9], [5, 4, 3, 2, 1]) == pytest.approx(-1)
    assert np.isnan(calibration.spearman([0.1] * 5, [5, 4, 3, 2, 1]))
    row = {
        "predicted": [[0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 1.0]],
        "true": [[0.2, 0.3, 0.4, 0.5, 0.6, 0.0, 0.0]],
        "empty": [[0, 0, 0, 0, 0, 1, 1]],
    }
    every, filled = calibration.judged([row]), calibration.judged([row], filled=True)
    assert (every["slices"], filled["slices"]) == (7, 5)
    assert filled["ece"] == filled["mean_error"] == pytest.approx(0.1)
    assert every["mean_error"] == pytest.approx((5 * 0.1 + 2) / 7)
    assert filled["spearman"] == filled["spearman_within"] == pytest.approx(1)
    assert every["spearman_within"] < 0.5


def test_calibration_leaves_prompted_and_empty_slices_out(analysed: Analysed) -> None:
    found = analysed(calibration, "--rounds", "3", "--per-file", "1")
    row = found["rows"][0]
    assert all(len(q) == len(d) == len(e) for q, d, e in zip(row["predicted"], row["true"], row["empty"], strict=True))
    assert all(0 < len(d) < 8 for d in row["true"]), "never the prompted slice"
    empty = [d for ds, es in zip(row["true"], row["empty"], strict=True) for d, e in zip(ds, es, strict=True) if e]
    assert set(empty) <= {0.0}
    every, filled = found["summary"]["groups"]["all"], found["summary"]["groups"]["all, mask not empty"]
    assert filled["slices"] <= every["slices"] == sum(len(d) for r in found["rows"] for d in r["true"])


def test_the_corruption_figure_shows_every_kind_and_stays_small(tmp_path: Path) -> None:
    label = np.zeros((corruption_figure.SLICE + 1, 40, 44), np.uint8)
    label[-1] = corruption_figure.LABEL * disk((40, 44), (20, 22), 11)
    image = (label * 20 + np.random.default_rng(0).normal(0, 10, label.shape)).astype(np.int16)
    (tmp_path / corruption_figure.FILE).parent.mkdir()
    np.savez(tmp_path / corruption_figure.FILE, image=image, label=label, spacing=np.ones(3))
    out = tmp_path / "new" / "figure.png"
    corruption_figure.main(["--data", str(tmp_path), "--out", str(out)])
    assert out.stat().st_size < 400_000
    with Image.open(out) as picture:
        assert picture.width > 1000
    shown = corruption_figure.panels(label[-1] > 0, 0)
    titles = " ".join(panel.title for panel in shown)
    assert len(shown) == 8  # truth, six kinds of which one has two forms
    assert all(f"{number}  " in titles for number in range(1, len(CORRUPTIONS) + 1))
    assert all((panel.mask != shown[0].mask).any() for panel in shown[1:])


def test_window_at_true_scale() -> None:
    truth = np.zeros((3, 200, 300), bool)
    truth[1, 100:120, 10:30] = True  # 20 mm by 40 mm
    target = Target("case", "object", "group", Volume.from_array(truth.astype(np.uint8), (3, 1, 2)), truth)
    rows, columns = interaction2d.true_scale(target, 1)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (100, 50), "100 mm, square"
    assert (rows.start, columns.start) == (60, 0), "centred, or moved onto the slice"


def test_interaction_alone_on_both_images(analysed: Analysed) -> None:
    found = analysed(interaction2d, "--rounds", "5", "--per-file", "1")
    rows = {(r["case"], r["variant"]): r for r in found["rows"]}
    whole = rows["ts_ct_one", interaction2d.WHOLE]
    assert whole["shape"] == [32, 40]
    assert whole["rounds"] == list(range(1, len(whole["dice"]) + 1))
    assert whole["newest"][1] >= 1
    summary = found["summary"]["groups"]["all"]
    firsts = [next((i for i, d in enumerate(r["dice"], 1) if d >= 0.85), 5) for r in found["rows"]]
    mean = np.mean([summary[v]["NoC@85"] for v in interaction2d.VARIANTS])
    assert mean == pytest.approx(np.mean(firsts))


def test_three_runs_of_every_object(analysed: Analysed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--rounds", "4", "--per-file", "1", "--scope", "volume", "--tau", "0.5")
    found = analysed(mrf_rounds, *words, stem="mrf_rounds_volume")
    assert len(found["rows"]) == 2 * 3
    rows = {(r["case"], r["variant"]): r for r in found["rows"]}
    for case in ("ts_ct_one", "openms_two"):
        first = {v: rows[case, v]["dice"][0] for v in mrf_rounds.VARIANTS}
        assert len(set(first.values())) == 1, "fusion begins with the second round"
        fused = rows[case, mrf_rounds.FUSED]
        assert {2, 3} <= {step["round"] for step in fused["steps"]} <= {2, 3, 4}
        for step in fused["steps"]:
            assert step["fused"] == pytest.approx(fused["dice"][step["round"] - 1], abs=1e-4)
            assert step["taus"][mrf_rounds.TAUS.index(0.5)] == pytest.approx(step["fused"])
            assert step["taus"][-1] == pytest.approx(step["new"]), "no P is above 0.9"
            assert step["oracle"] >= max(step["fused"], step["new"]) - 0.02
            assert 0 <= step["right"] <= step["compared"]
    gains = found["summary"]["groups"]["all"]["gains"]
    assert gains["oracle"] > 0.01
    assert gains["kept"] == pytest.approx(gains["fusion"] / gains["oracle"])
    assert "## Targets" in (tmp_path / "mrf_rounds_volume.md").read_text()
    assert str(tmp_path) not in found["command"]

    monkeypatch.setattr(mrf_rounds, "measure", lambda *_: pytest.fail("all rows are there already"))
    analysed(mrf_rounds, *words, stem="mrf_rounds_volume")


def test_a_step_by_hand() -> None:
    truth = np.zeros((3, 4, 4), bool)
    truth[:, :2] = True  # 8 pixels a slice
    good, half, wrong = (np.zeros((4, 4), np.float32) for _ in range(3))
    good[:2], half[:1], wrong[2:] = 0.9, 0.9, 0.9
    assessor = WatchedAssessor(ConstantAssessor(p={0: 0.9, 1: 0.6, 2: 0.1}), truth)
    previous, current = [good, wrong, half], [half, good, wrong]
    assessor.compare(None, [0, 1, 2], previous, current)  # type: ignore[arg-type]
    oracle = TrueAssessor(None, truth).compare(None, [0, 1, 2], previous, current)  # type: ignore[arg-type]
    assert oracle.tolist() == [1, 0, 1]
    mask = np.stack([good, wrong, wrong]) > 0.5  # as tau 0.5 chooses
    step = step_of(mask, truth, assessor.drain(), 0.5, [0.8])
    assert step["fused"] == pytest.approx(2 * 8 / (24 + 24))
    assert step["new"] == pytest.approx(2 * 12 / (4 + 8 + 8 + 24))
    assert step["oracle"] == pytest.approx(2 * 20 / (8 + 8 + 4 + 24))
    assert step["taus"][0] == pytest.approx(2 * 16 / (8 + 8 + 8 + 24))
    assert (step["compared"], step["right"]) == (3, 1)
    assert assessor.drain() == []


def test_oracle_prefers_less_where_there_is_no_object() -> None:
    more, less = np.ones((4, 4), np.float32), np.zeros((4, 4), np.float32)
    less[0, 0] = 1
    oracle = TrueAssessor(None, np.zeros((1, 4, 4), bool))
    for previous, current, kept in ((less, more, 1), (more, less, 0), (less, less, 0)):
        assert oracle.compare(None, [0], [previous], [current]).tolist() == [kept]  # type: ignore[arg-type]


def test_gains_and_bad_rounds() -> None:
    curves = {"no fusion": [0.5, 0.4, 0.6], "fusion": [0.5, 0.6, 0.6], "oracle fusion": [0.5, 0.7, 0.7]}
    assert mrf_rounds.gains(curves) == pytest.approx({"fusion": 0.1, "oracle": 0.2, "kept": 0.5})
    assert mrf_rounds.bad_rounds([{"dice": [0.5, 0.4, 0.6]}], 3) == 0.5
    assert mrf_rounds.bad_rounds([{"dice": [0.5, 0.4]}], 5) == 0.25, "an object that ended loses no more"
    assert mrf_rounds.bad_rounds([{"dice": [0.5, 0.485, 0.6]}], 3) == 0


def test_disturbed_scenes(study_root: Path) -> None:
    suite = build_suite("open", study_root, SuiteOptions(per_case=1))
    target = suite.target(next(suite.choice.objects(suite.cases[0], suite.cases[0].read_image())))
    scenes = {n: d(target, 3) for n, d in robustness.disturbances().items()}
    low, high = SliceView(target.volume, 0).auto_window(4, (16, 20))
    width = high - low
    assert scenes["window twice as wide"].window == pytest.approx((low - width / 2, high + width / 2))
    assert scenes["window half as wide"].window == pytest.approx((low + width / 4, high - width / 4))
    assert scenes["window shifted up by a quarter"].window == pytest.approx((low + width / 4, high + width / 4))
    half = scenes["every second slice missing"]
    assert (half.volume.shape, half.truth.shape, half.volume.spacing) == ((4, 32, 40), (4, 32, 40), (4.0, 1.0, 1.0))
    np.testing.assert_array_equal(half.volume.array, target.volume.array[::2])
    noisy = scenes["noise, 10 % of the window"].volume.array
    difference = noisy.astype(float) - target.volume.array
    assert noisy.dtype == target.volume.array.dtype
    assert 0.05 * width < difference.std() < 0.11 * width, "a little less than 10 %, for values are cut off"
    np.testing.assert_array_equal(noisy, robustness.noise(target, 3, 0.1).volume.array)
    assert (robustness.noise(target, 4, 0.1).volume.array != noisy).any()
    assert (scenes["clicks moved by up to 2 mm"].robot.jitter, scenes[robustness.CLEAN].robot.jitter) == (2.0, 0.0)


def test_losses_are_paired(analysed: Analysed) -> None:
    found = analysed(robustness, "--rounds", "1", "--per-file", "1", "--only", "two")
    summary = found["summary"]["disturbances"]
    assert set(summary) == set(robustness.disturbances())
    clean = summary[robustness.CLEAN]
    assert clean["lost"] == [0.0]
    for one in summary.values():
        assert one["lost"][0] == pytest.approx(clean["dice"][0] - one["dice"][0])


def test_suggestions_are_followed_until_one_is_wrong() -> None:
    case = fake_case(engine=fake_engine(quality={i: 0.9 for i in range(12)} | {4: 0.1, 8: 0.3}))
    case.click((6, 20, 24))
    order: list[int] = []
    while len(order) < 3:
        order.append(case.suggest(skip=order).index)
    for looks, index in enumerate(order, start=1):
        wrong = np.zeros(12, bool)
        wrong[index] = True
        assert suggest.suggested(case, wrong) == (index, looks)


def test_slices_by_policy(analysed: Analysed, tmp_path: Path) -> None:
    rows = analysed(suggest, "--rounds", "4", "--per-file", "1")["rows"]
    assert len(rows) == 2 * 4
    for row in rows:
        if row["variant"] != suggest.CUSTOMARY:
            assert len(set(row["slices"])) == len(row["slices"]), "never back to a prompted slice"
        assert len(row["looked"]) == (len(row["slices"]) - 1 if row["variant"] == suggest.SUGGESTED else 0)
        assert all(n >= 1 for n in row["looked"])
    assert len({row["dice"][0] for row in rows if row["case"] == "ts_ct_one"}) == 1
    assert "against a random wrong slice" in (tmp_path / "suggest.md").read_text()


def test_tools_are_compared_with_another_version(
    study_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_segmenter()
    monkeypatch.setattr(InteractiveSegmenter, "from_pretrained", lambda *_, **__: model)
    options = ["--data", str(study_root), "--split", "val", "--per-source", "1"]
    tools.main([*options, "--out", str(tmp_path / "old")])
    rows = json.loads((tmp_path / "old/tools.json").read_text())["rows"]
    assert {row["group"] for row in rows} == {"ts", "openms"}
    assert all(0 <= value <= 1 for row in rows for value in (*row["dice"], *row["tools"].values()))
    assert any(row["tools"] for row in rows)
    capsys.readouterr()
    tools.main([*options, "--out", str(tmp_path / "new"), "--against", str(tmp_path / "old/tools.json")])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| box", "| click", "| lasso"))]
    assert {"click +", "click -", "box"} & {line.split(" |")[0].removeprefix("| ") for line in lines}
    assert all("+0.0000" in line.split("|")[-2] for line in lines)
    for analysis in (tools, border):  # told before anything is measured
        with pytest.raises(MissingFileError, match="does not exist"):
            analysis.main([*options[:4], "--out", str(tmp_path / "third"), "--against", str(tmp_path / "none.json")])
    assert not (tmp_path / "third").exists()
