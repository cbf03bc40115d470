"""`limnet bench` from the command line: runs, reports, messages."""

from __future__ import annotations

import json
import pickle
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmarks.core.record import result_path
from benchmarks.core.report import RESULT, SIDE, TRUTH, view_of, view_path, write_report, write_view
from benchmarks.core.rounds import Predictor, config_hash, predictor_config
from benchmarks.core.run import check_ready
from benchmarks.core.suite import BASELINES, Entry, build_baseline
from limnet.errors import InputError
from limnet.image.volume import Volume
from tests.helpers.bench import Disc, fake_suite, image, labels
from tests.helpers.every_set import table_root
from tests.helpers.fake_folders import write_folder
from tests.helpers.recipes import limnet as run


@pytest.fixture
def baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BASELINES, "disc", Entry("tests.helpers.bench", "a disc", "Disc"))


@pytest.mark.usefixtures("baseline")
def test_baselines_on_own_data(tmp_path: Path, capsys: pytest.CaptureFixture):
    data, out = write_folder(tmp_path / "data", 2), tmp_path / "results"
    baselines = ("--baseline", "disc", "--baseline", "disc:radius=6")
    words = ("bench", "folder", "--data", data, "--out", out, "--rounds", 2, *baselines)
    assert run(*words) == 0
    shown = capsys.readouterr()
    assert "Mean Dice after every round" in shown.out
    assert "case0 id 1:" in shown.err
    first = json.loads((out / "folder_disc-4.json").read_text())
    assert len(first["rows"]) == 4
    assert {row["axis"] for row in first["rows"]} == {0}  # the thickest slices
    assert json.loads((out / "folder_disc-6.json").read_text())["fixed"]["predictor"]["radius"] == 6
    assert run(*words) == 0
    assert "case0" not in capsys.readouterr().err  # finished before
    assert run(*words, "--fresh") == 0
    assert "case0 id 1:" in capsys.readouterr().err
    assert run("bench", "report", *sorted(out.glob("*.json")), "--out", tmp_path / "report") == 0
    text = (tmp_path / "report/report.md").read_text()
    assert "| **disc 4** | 2 rounds |" in text
    assert "| **disc 6** | 2 rounds |" in text
    pictures = [str(path.relative_to(tmp_path / "report")) for path in (tmp_path / "report").rglob("*.png")]
    assert {"folder_rounds.png", "folder_cases.png"} < set(pictures)
    assert len([name for name in pictures if name.startswith("folder_disc-6_worst/case")]) == 4
    assert all(f"({name})" in text for name in pictures)


@pytest.mark.usefixtures("baseline")
def test_messages(tmp_path: Path, capsys: pytest.CaptureFixture):
    data = write_folder(tmp_path / "data", 1)
    assert run("bench", "folder", "--data", data, "--baseline", "disk") == 2
    assert "Did you mean disc" in " ".join(capsys.readouterr().err.split())
    assert run("bench", "folder", "--data", tmp_path / "nowhere", "--baseline", "disc") == 2
    assert run("bench", "report", tmp_path / "nothing.json") == 2
    (tmp_path / "other.json").write_text('{"a": 1}')
    assert run("bench", "report", tmp_path / "other.json") == 2
    assert "none of the files" in " ".join(capsys.readouterr().err.split())
    twice = ("--baseline", "disc", "--baseline", "disc:radius=4.0")
    assert run("bench", "folder", "--data", data, "--out", tmp_path / "r", *twice) == 2
    assert "two methods would write one file" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(InputError, match="options radius, fail_on"):
        build_baseline("disc:size=3")
    with pytest.raises(InputError, match="option=value"):
        build_baseline("disc:3")
    assert build_baseline("disc:radius=2.5,fail_on=x") == Disc(2.5, "x")


@pytest.mark.usefixtures("baseline")
def test_a_run_in_which_everything_failed(tmp_path: Path, capsys: pytest.CaptureFixture):
    data, out = write_folder(tmp_path / "data", 2), tmp_path / "results"
    words = ("bench", "folder", "--data", data, "--out", out, "--rounds", 1, "--baseline")
    failing = (*words, "disc:radius=3,fail_on=case")
    assert run(*failing) == 1
    shown = capsys.readouterr()
    message = "disc 3 finished no object; all 4 attempts failed, the first at case0 id 1: RuntimeError: this method has"
    assert message in shown.err
    assert "No object was finished by disc 3." in shown.out
    assert "| method |" not in shown.out
    assert run("bench", "report", out / "folder_disc-3.json", "--out", tmp_path / "report") == 0
    shown = capsys.readouterr()
    assert message in shown.err
    text = (tmp_path / "report/report.md").read_text()
    assert "- disc 3: case0 id 1: RuntimeError: this method has no idea" in text
    assert not list((tmp_path / "report").glob("*.png"))
    assert "Failed (in none of the means, but counted 0 in those of the CVPR 2025 challenge):\n\n- disc 3: " in text
    # Beside a method that works: tables of that one, errors of the other.
    assert run(*failing, "--baseline", "disc") == 1
    shown = capsys.readouterr()
    assert "| **disc 4** | 1 round |" in shown.out
    assert "**disc 3**" not in shown.out
    (tmp_path / "foreign.json").write_text("[]")  # results/*.json may hold other things
    files = [*sorted(out.glob("*.json")), tmp_path / "foreign.json"]
    assert run("bench", "report", *files, "--out", tmp_path / "report") == 0
    text = (tmp_path / "report/report.md").read_text()
    assert "| **disc 4** | 1 round |" in text
    assert "- disc 3: case0 id 1: RuntimeError" in text
    assert run(*words, "disc:radius=5,fail_on=case0") == 0  # some objects are finished
    capsys.readouterr()
    assert run(*words, "disc:radius=6", "--smallest", 10**6) == 1
    assert "disc 6 had nothing to do" in capsys.readouterr().err
    assert run("bench", "report", out / "folder_disc-6.json", "--out", tmp_path / "report") == 2


@pytest.mark.usefixtures("baseline")
def test_what_is_missing_is_said_before_the_first_case(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    data, out, weights = write_folder(tmp_path / "data", 1), tmp_path / "results", tmp_path / "weights"
    weights.mkdir()
    for module in ("transformers", "nnInteractive.inference.inference_session"):
        monkeypatch.setitem(sys.modules, module, None)  # not installed

    def said(*words: object) -> str:
        assert run("bench", "folder", "--data", data, "--out", out, "--baseline", "disc", *words) == 2
        assert not out.exists()  # not even the method that could run
        return " ".join(capsys.readouterr().err.split())

    assert "'sam' needs transformers" in said("--baseline", f"sam:weights={weights}")
    assert "'nninteractive' needs nnInteractive" in said("--baseline", f"nninteractive:weights={weights}")
    assert "no model" in said("--model", "limnet-tyni").lower()
    assert "predictions:folder=FOLDER" in said("--baseline", "predictions")
    assert f"{tmp_path}/none" in said("--baseline", f"predictions:folder={tmp_path}/none")
    monkeypatch.setitem(sys.modules, "transformers", ModuleType("transformers"))
    assert "'sam2-video' needs weights" in said("--baseline", "sam2-video")
    assert "sam:weights=FOLDER; nothing is downloaded" in said("--baseline", "sam:weights=none")
    ready = [build_baseline(f"sam:weights={weights}"), build_baseline(f"predictions:folder={weights}")]
    check_ready(fake_suite(1), [*ready, build_baseline("random-walker")])  # nothing is loaded yet


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Predictor]:
    """The methods that a command would run."""
    found: list[Predictor] = []
    monkeypatch.setattr("benchmarks.core.run.check_ready", lambda suite, predictors: found.extend(predictors))
    monkeypatch.setattr("benchmarks.core.run.run_suite", lambda *_, **__: None)
    return found


def test_tau_beside_the_variants_of_a_table(tmp_path: Path, made: list[Predictor]):
    run("bench", "table2", "--data", table_root(tmp_path / "data"), "--tau", 0.5)
    assert [method.name for method in made] == ["limnet-tiny (paper) tau=1.0", "limnet-tiny (paper) tau=0.5"]
    assert [predictor_config(method)["settings"]["tau"] for method in made] == [1.0, 0.5]


def test_view_shows_the_worst_slice(tmp_path: Path):
    truth = labels(0) == 1
    mask = truth.copy()
    mask[4, 2:9, 2:6] = False
    mask[1, 3, 3] = False
    view = view_of(image(0), 0, truth, mask)
    blue, orange = ((view == colour).all(-1) for colour in (TRUTH, RESULT))
    step = SIDE / 20  # rows 0 to 18, columns 0 to 20 with the margin: longer side 20
    assert view.shape == (round(18 * step), SIDE, 3)
    assert orange.any()
    assert (np.argwhere(blue).max(0) <= np.ceil([9 * step, 6 * step])).all(), "seen where the result lacks something"
    side = view_of(image(0), 1, truth, mask)
    assert side.shape[:2] == (round(SIDE * 18 / 20), SIDE), "six slices 3 mm apart are rows here"
    path = view_path(tmp_path / "r.json", "key", "case", "a/b lesion")
    write_view(path, view)
    assert np.array_equal(Volume.read(path).array[0], view)
    colour = Volume.from_array(np.zeros((1, 900, 600, 3), np.uint8))
    all_of_it = np.ones((1, 900, 600), bool)
    assert view_of(colour, 0, all_of_it, all_of_it).shape == (SIDE, SIDE * 2 // 3, 3)


def test_names_of_result_files():
    assert result_path(Path("r"), "open", "limnet-tiny tau=1.0") == Path("r/open_limnet-tiny-tau=1.0.json")
    assert result_path(Path("r"), "open", "../my model") == Path("r/open_my-model.json")
    assert result_path(Path("a/b.json"), "open", "x") == Path("a/b.json")


def test_model_and_device_reach_the_baselines(tmp_path: Path, made: list[Predictor]):
    baselines = ["nearest-copy", "shape-interpolation:model=other,precision=bf16", "sam:device=cpu", "random-walker"]
    words = [word for baseline in baselines for word in ("--baseline", baseline)]
    data = write_folder(tmp_path / "data", 1)
    run("bench", "folder", "--data", data, *words, "--model", "mine", "--accelerator", "gpu", "--precision", "fp32")
    first, copied, interpolated, sam, walker = made
    assert first.model == copied.model == "mine"  # type: ignore[attr-defined]
    assert (copied.device, copied.precision) == ("cuda", "fp32")  # type: ignore[attr-defined]
    assert interpolated == build_baseline("shape-interpolation:model=other,precision=bf16,device=cuda")
    assert (sam, walker) == (
        build_baseline("sam"),
        build_baseline("random-walker"),
    )  # its own word holds; nothing to give
    made.clear()
    run("bench", "folder", "--data", data, "--baseline", "nearest-copy")
    assert made == [build_baseline("nearest-copy")]


def test_every_baseline_can_be_made():
    for name in BASELINES:
        baseline = build_baseline(name)
        assert isinstance(baseline, Predictor)
        assert pickle.loads(pickle.dumps(baseline)) == baseline
        assert config_hash(predictor_config(baseline)) == config_hash(predictor_config(build_baseline(name)))


@pytest.mark.usefixtures("baseline")
def test_reports_keep_data_and_folders_apart(tmp_path: Path):
    for name, count in (("a", 1), ("b", 2)):
        data = write_folder(tmp_path / name, count)
        words = ("bench", "folder", "--data", data, "--rounds", 1, "--baseline", "disc")
        assert run(*words, "--out", tmp_path / f"r{name}") == 0
    assert run(*words, "--out", tmp_path / "q") == 0  # b once more
    files = [tmp_path / folder / "folder_disc-4.json" for folder in ("ra", "rb", "q")]
    written = write_report(files, tmp_path / "report", worst=1)
    assert len(set(written)) == len(written) == 1 + 2 * 2 + 3
    text = written[0].read_text()
    assert "## Folder a" in text
    assert "## Folder b" in text
    assert "| **disc 4 (rb)** | 1 round |" in text
    assert "| **disc 4 (q)** | 1 round |" in text
    assert "cannot be compared" not in text
    words = ("bench", "folder", "--data", tmp_path / "b", "--rounds", 1, "--per-group", 1, "--out", tmp_path / "rb")
    assert run(*words, "--peer", "disc:radius=3") == 0  # the option's earlier name
    assert len(json.loads((tmp_path / "rb/folder_disc-3.json").read_text())["rows"]) == 2  # of one case
    write_report([tmp_path / "rb/folder_disc-3.json", files[1]], tmp_path / "other", worst=1)
    text = (tmp_path / "other/report.md").read_text()
    assert "The methods did not finish the same objects" in text
    assert "| objects |  | 2 | 2 | 4 |" in text


@pytest.mark.usefixtures("baseline")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--accelerator", "tpu"), "allowed are cpu, gpu and auto"),
        (("--accelerator", "auto", "--devices", "-1"), "on the CPU give a number of processes"),
        (("--jitter", "inf"), "give a distance of 0 mm or more"),
        (("--threads", "-1"), "give a whole number of at least 0"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture, words, message):
    data = write_folder(tmp_path / "data", 1)
    assert run("bench", "folder", "--data", data, "--out", tmp_path / "out", "--baseline", "disc", *words) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_a_folder_called_by_a_number():
    assert build_baseline("predictions:folder=501").folder == "501"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("baseline")
def test_views_and_threads_are_those_of_the_objects(tmp_path: Path):
    data = write_folder(tmp_path / "data", 1)
    words = ("bench", "folder", "--data", data, "--out", tmp_path / "out", "--baseline", "disc", "--rounds")
    path = tmp_path / "out" / "folder_disc-4.json"
    shown, seen = [], []
    for rounds in (3, 1, 3):
        assert run(*words, rounds) == 0
        seen.append(path.read_bytes())
        shown.append(view_path(path, json.loads(path.read_text())["key"], "case0", "id 1").read_bytes())
    assert shown[0] == shown[2] != shown[1]
    others = sorted((tmp_path / "out").glob("folder_disc-4.????????.json"))
    assert sorted(file.read_bytes() for file in others) == sorted(seen[:2]), "nothing is lost"
    assert all(file.with_suffix(".csv").is_file() for file in others)
    text = write_report([path, *others], tmp_path / "report", worst=1)[0].read_text()
    assert all(f"**disc 4 ({file.stem})**" in text for file in (path, *others))
    path.write_text(re.sub(r'"threads": \d+', '"threads": 77', path.read_text(), count=4))
    assert run(*words, 3) == 0
    assert 77 in np.ravel(json.loads(path.read_text())["environment"]["threads"])
