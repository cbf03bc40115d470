from __future__ import annotations

import dataclasses
import itertools
import json
import os
import pickle
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from benchmarks.core.distributed import patient
from benchmarks.core.record import Record
from benchmarks.core.report import markdown_tables
from benchmarks.core.rounds import LimnetPredictor, RobotRounds, Target, columns, config_hash, predictor_config
from benchmarks.core.run import run_suite
from benchmarks.core.suite import ObjectChoice, Suite, SuiteOptions, build_baseline, build_suite, evenly_spread
from limnet.environment import origin
from limnet.errors import FileFormatError, InputError, MissingFileError
from limnet.image.volume import Volume
from tests.helpers.bench import (
    Answers,
    Boxer,
    Disc,
    DiscSession,
    StartDisc,
    completed,
    fake_case,
    fake_suite,
    image,
    labels,
    run_object,
)
from tests.helpers.every_set import picture_root, table_root
from tests.helpers.fake_folders import write_folder
from tests.helpers.fake_picture_sets import build_coco_lvis
from tests.helpers.fake_volumes import build_cvpr25

REPOSITORY = Path(__file__).resolve().parents[2]


def test_objects_of_a_case():
    def found(**options: Any) -> list[Target]:
        return list(ObjectChoice(**{"smallest": 20, **options}).objects(fake_case(0), image(0)))

    assert [(t.object, t.group, int(t.truth.sum())) for t in found()] == [
        ("organ", "organ", 6 * 8 * 10),
        ("lesion 1", "lesion", 3 * 5 * 5),
        ("lesion 2", "lesion", 4 * 6 * 6),
    ]
    assert [t.object for t in found(smallest=1, components=())] == ["organ", "lesion", "speck"]
    assert [t.object for t in found(per_case=2)] == ["organ", "lesion 2"]
    (whole,) = found(merge={"all": (1, 2, 9)}, axis=2)
    assert (whole.object, whole.group, whole.axis) == ("all", "all", 2)
    assert np.array_equal(whole.truth, np.isin(labels(0), (1, 2)))
    assert evenly_spread(10, 4) == [0, 3, 6, 9]
    assert evenly_spread(2, 5) == [0, 1]
    assert evenly_spread(0, 5) == []
    with pytest.raises(InputError, match="per_case"):
        ObjectChoice(per_case=0)
    thick = ObjectChoice(smallest=20, axis=None)
    for shape, spacing, axis in (((6, 24, 24), (1.0, 3.0, 1.0), 1), ((1, 24, 24), (0.1, 1.0, 1.0), 0)):
        volume = Volume.from_array(np.zeros(shape), spacing)
        assert {t.axis for t in thick.objects(fake_case(0), volume)} == {axis}


def test_the_first_cases_of_each_group():
    cases = [fake_case(number) for number in range(5)]
    assert SuiteOptions(per_group=1).few_of_groups(cases, list("aabab")) == [cases[0], cases[2]]
    assert SuiteOptions().few_of_groups(cases, list("aabab")) == cases


def test_rounds_follow_the_robot_user():
    volume, truth = image(0), labels(0) == 1
    rows = run_object(Disc(), volume, truth, 0, 4)
    assert [row.round for row in rows] == [1, 2, 3, 4]
    assert rows[0].zyx is not None
    assert truth[rows[0].zyx]
    assert rows[0].positive
    session, mask = DiscSession(volume.shape, 0, 4.0), None
    for row in rows:  # the clicks repeated by hand give the numbers of the rows
        assert row.zyx is not None
        if mask is not None:
            assert truth[row.zyx] != mask[row.zyx]  # every later click corrects an error
            assert row.positive == truth[row.zyx]
        mask = session.click(row.zyx, bool(row.positive))
        assert row.dice == pytest.approx(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    obeyed = [mask[row.zyx] == row.positive for row in rows if row.zyx is not None and mask is not None]
    assert rows[-1].compliance == sum(obeyed) / 4  # a later disc may take an earlier click with it
    dice = [row.dice for row in rows]
    assert [row.lost for row in rows] == [False, *(b < a - 0.02 for a, b in itertools.pairwise(dice))]
    assert any(row.lost for row in rows)
    assert "nsd" not in columns(rows)


def test_surface_dice_at_a_tolerance(monkeypatch):
    def stand_in(mask, truth, spacing, tolerance):
        assert mask.shape == truth.shape
        return sum(spacing) + tolerance

    monkeypatch.setattr("benchmarks.core.rounds.normalized_surface_dice", stand_in)
    rows = run_object(Disc(), image(0), labels(0) == 1, 0, RobotRounds(1, nsd_mm=1.5))
    assert columns(rows)["nsd"] == [6.5]


def test_an_object_that_is_right_takes_no_more_clicks():
    rows = run_object(Answers(lambda *_: labels(0) == 1), image(0), labels(0) == 1, 0, 6)
    assert [(row.round, row.dice) for row in rows] == [(1, 1.0)]


def test_what_cannot_be_played():
    with pytest.raises(InputError, match="nothing to click"):
        run_object(Disc(), image(0), np.zeros((6, 24, 24), bool))
    with pytest.raises(InputError, match="one grid"):
        run_object(Disc(), image(0), np.ones((6, 24, 23), bool))
    with pytest.raises(InputError, match="bool mask of shape"):
        run_object(Answers(lambda *_: np.zeros((1, 2), bool)), image(0), labels(0) == 1)
    with pytest.raises(InputError, match="at least 1"):
        RobotRounds(0)


def test_run_writes_results_and_goes_on_where_it_stopped(tmp_path):
    out = tmp_path / "fake.json"
    seen: list[dict] = []
    first = completed(fake_suite(2), Disc(), out, progress=seen.append)
    assert [(o["case"], o["object"]) for o in first.rows] == [
        (c, o) for c in ("case_00", "case_01") for o in ("lesion 1", "lesion 2", "organ")
    ]
    assert len(seen) == 6
    read = Record.read(out)
    assert read.table == first.table
    assert read.about["suite"] == "fake"
    assert read.key == first.key
    assert set(read.fixed) == {"predictor", "config", "data"}
    assert {"commit", "limnet", "machine", "packages", "threads"} <= set(read.environment)
    assert not list(tmp_path.glob("*.jsonl")), "everything is in the result"
    assert out.with_suffix(".csv").read_text().startswith("case,object,group,round,compliance,dice,dice_slices,lost\n")
    again: list[dict] = []
    run_suite(fake_suite(3), Disc(), out, progress=again.append)  # one case more: only that one is run
    assert {r["case"] for r in again} == {"case_02"}
    other: list[dict] = []
    run_suite(fake_suite(3), Disc(5.0), out, progress=other.append)  # another configuration: everything
    assert len(other) == 9


def test_a_killed_run_goes_on(tmp_path):
    out = tmp_path / "fake.json"

    def kill(record: dict) -> None:
        if record["object"] == "lesion 1" and record["case"] == "case_01":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_suite(fake_suite(2), Disc(), out, progress=kill)
    assert not out.exists()
    journal = tmp_path / "fake.part0.jsonl"
    with open(journal, "ab") as file:
        file.write(b'{"type": "object", "case": "case_01", "obj')  # cut short by the crash
    seen: list[dict] = []
    results = completed(fake_suite(2), Disc(), out, progress=seen.append)
    assert [(r["case"], r["object"]) for r in seen] == [("case_01", "lesion 2")]
    fresh = completed(fake_suite(2), Disc(), tmp_path / "fresh.json")
    assert results.table == fresh.table
    assert (tmp_path / "fake.csv").read_bytes() == (tmp_path / "fresh.csv").read_bytes()


def test_other_folders_are_other_data(tmp_path: Path) -> None:
    seen: list[dict] = []

    def ran(data: Path) -> list[str]:
        seen.clear()
        suite = build_suite("folder", data, SuiteOptions(rounds=1))
        run_suite(suite, Disc(), tmp_path / "x.json", views=False, progress=seen.append)
        return [row["case"] for row in seen]

    first, second = write_folder(tmp_path / "a", 2), write_folder(tmp_path / "b", 1)
    assert ran(first) == ["case0"] * 2 + ["case1"] * 2
    assert ran(second) == ["case0"] * 2, "the same names in another folder"
    assert ran(first) == []
    (first / "masks" / "case1.nii.gz").write_bytes(b"no NIfTI")
    assert ran(first) == [], "nothing is read where all is finished"
    assert len(list(tmp_path.glob("x.????????.json"))) == 2, "results of other folders are kept"


def test_nothing_is_read_twice(tmp_path: Path):
    counts = {"image": 0, "labels": 0}

    def read(what: str) -> Any:
        counts[what] += 1
        return image(0) if what == "image" else labels(0)

    case = dataclasses.replace(fake_case(0), read_image=lambda: read("image"), read_labels=lambda: read("labels"))
    results = completed(Suite("f", "F", [case], RobotRounds(2), ObjectChoice(smallest=20)), Disc(), tmp_path / "x.json")
    assert len(results.rows) == 3
    assert counts == {"image": 1, "labels": 1}


def test_other_predictions_in_the_same_folder_are_another_method(tmp_path: Path):
    data = write_folder(tmp_path / "data", 1)
    baseline = build_baseline(f"predictions:folder={data / 'masks'}")
    before = config_hash(predictor_config(baseline))
    assert before == config_hash(predictor_config(baseline))
    assert predictor_config(baseline)["folder"] == str(data / "masks")
    (data / "masks" / "case0.nii.gz").write_bytes(b"other labels")
    assert config_hash(predictor_config(baseline)) != before
    assert predictor_config(build_baseline("predictions"))["files"] is None


def test_commits_are_those_that_finished_the_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "x.json"

    def ran(number: int, head: str, method: Disc | None = None) -> Record:
        monkeypatch.setattr("limnet.environment.commit", lambda folder: head)
        results = completed(fake_suite(number), method or Disc(), out, views=False)
        return results

    version = origin()["limnet"]
    assert ran(1, "a" * 40).environment["commit"] == "a" * 40
    kept = ran(1, "b" * 40).environment  # nothing was run
    assert (kept["commit"], kept["limnet"]) == ("a" * 40, version)
    both = ran(2, "c" * 40 + "+changes")
    assert both.environment["commit"] == ["a" * 40, "c" * 40 + "+changes"]
    assert both.environment["limnet"] == version
    assert f"limnet {version}, aaaaaaaaaa and cccccccccc+, " in markdown_tables([both])
    assert ran(2, "d" * 40, Disc(fail_on="case")).environment["commit"] == "d" * 40  # nothing finished


def test_failures_are_recorded_and_tried_again(tmp_path):
    out = tmp_path / "fake.json"
    # The configuration is the same for the failing method, as after mending what made it fail.
    failing, mended = Disc(fail_on="case_00 lesion 2"), Disc()
    object.__setattr__(mended, "describe", lambda: {"disc": 1})
    object.__setattr__(failing, "describe", lambda: {"disc": 1})
    results = completed(fake_suite(3, broken=(1,)), failing, out)
    assert [(row["case"], row["object"], row["error"]) for row in results.errors] == [
        ("case_00", "lesion 2", "RuntimeError: this method has no idea"),
        ("case_01", "", "OSError: disk on fire"),
    ]
    assert len(results.rows) == 5
    assert Record.read(out).errors == results.errors
    assert "- disc 4: case_01: OSError: disk on fire" in markdown_tables([results])
    repaired = completed(fake_suite(3), mended, out)
    assert not repaired.errors
    assert len(repaired.rows) == 9


def test_unusable_suites(tmp_path):
    with pytest.raises(InputError, match="no cases"):
        run_suite(fake_suite(0), Disc(), tmp_path / "x.json")
    twice = fake_suite(1)
    with pytest.raises(InputError, match="unique"):
        run_suite(type(twice)("f", "F", [*twice.cases, *twice.cases]), Disc(), tmp_path / "x.json")
    with pytest.raises(InputError, match=r"\.json"):
        run_suite(twice, Disc(), tmp_path / "x.txt")
    with pytest.raises(MissingFileError):
        Record.read(tmp_path / "none.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(FileFormatError, match="no result"):
        Record.read(tmp_path / "other.json")


def test_predictor_config_decides_the_key():
    assert predictor_config(Disc()) == {"class": "Disc", "radius": 4.0, "fail_on": "", "name": "disc 4"}
    assert predictor_config(Disc(3.0)) != predictor_config(Disc())
    with pytest.raises(InputError, match="unknown settings"):
        LimnetPredictor(settings={"tua": 1.0})
    one = LimnetPredictor(settings={"scope": "volume", "tau": 1.0})
    assert one.name == "limnet-tiny scope=volume tau=1.0"
    assert one.describe()["settings"]["tau"] == 1.0
    assert pickle.loads(pickle.dumps(one)) == one
    one, other = (Target(case, name, "", image(0), labels(0) == 1) for case, name in ("ab", "ba"))
    assert one.number != other.number


SCRIPT = """
import atexit
import json
import os
import sys
from pathlib import Path
from torch import distributed
from benchmarks.core.run import run_suite
from benchmarks.core.suite import SuiteOptions, build_suite
from tests.helpers.bench import Answers, Boxer, Disc, fake_suite
from tests.helpers.bench import StartDisc
# registered first, so called last: what is left of the process group when the interpreter ends
left = Path(sys.argv[2]).with_name(f"group_left_{os.environ['RANK']}")
atexit.register(lambda: left.write_text(str(distributed.is_initialized())))
trainer = {"accelerator": "cpu", "devices": 2, "num_nodes": 1, "strategy": "ddp"}
ran = []
first = Path(sys.argv[1])
run_suite(fake_suite(3, broken=(2,)), Disc(fail_on="case_01 organ"), first, trainer=trainer, progress=ran.append)
first.with_name(f"ran_{os.environ['RANK']}").write_text(json.dumps([[row["case"], row["object"]] for row in ran]))
# more processes than cases: one of them has nothing to do
run_suite(fake_suite(1), Disc(), Path(sys.argv[2]), trainer=trainer)
# clicks on pictures, some from flawed masks
suite = build_suite("interaction2d", Path(sys.argv[3]), SuiteOptions(per_group=3, rounds=8))
run_suite(suite, StartDisc(fail_on="berkeley_113044"), Path(sys.argv[4]), trainer=trainer, views=False)
# tables and data sets
for out, name, data, options in json.loads(sys.argv[5]):
    suite = build_suite(name, Path(data), SuiteOptions(**options))
    method = Boxer() if name == "cvpr25" else Disc(3.0)
    run_suite(suite, method, Path(out), trainer=trainer, views=False)
"""
TABLES = ("table1", "table6")  # of volumes and of films


def test_processes_wait_long_for_each_other(tmp_path, monkeypatch):
    class Asked(Exception):
        pass

    def start(backend=None, **given):
        asked.append({"backend": backend, **given})
        raise Asked

    asked: list[dict] = []
    monkeypatch.setattr(torch.distributed, "init_process_group", start)
    trainer = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "precision": "32-true"}
    # Lightning's launcher leaves the place of this process in the environment, where later trainings would find it
    with mock.patch.dict(os.environ), pytest.raises(Asked):
        run_suite(fake_suite(1), Disc(), tmp_path / "x.json", trainer={**trainer, "strategy": "ddp"})
    own = DDPStrategy(timeout=timedelta(seconds=7))
    with mock.patch.dict(os.environ), pytest.raises(Asked):
        run_suite(fake_suite(1), Disc(), tmp_path / "x.json", trainer={**trainer, "strategy": own})
    assert [call["timeout"] for call in asked] == [timedelta(days=7), timedelta(seconds=7)]
    assert {call["backend"] for call in asked} == {"gloo"}
    assert patient("ddp_find_unused_parameters_true") == "ddp_find_unused_parameters_true"


def test_two_processes_give_the_results_of_one(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    two, few = tmp_path / "two.json", tmp_path / "few.json"
    seen: list[dict] = []
    run_suite(fake_suite(1), Disc(fail_on="case_01 organ"), two, progress=seen.append)  # an interrupted run
    assert len(seen) == 3
    pictures, clicks = picture_root(tmp_path / "pictures"), tmp_path / "clicks.json"
    root, coco = table_root(tmp_path / "tables"), build_coco_lvis(tmp_path / "coco")
    few_rounds = {"rounds": 2, "per_group": 3}
    plan: list[tuple[str, Path, dict]] = [(name, root, few_rounds) for name in TABLES]
    plan.append(("dataset", coco, {**few_rounds, "dataset": "coco-lvis"}))
    plan.append(("cvpr25", build_cvpr25(tmp_path / "cvpr25"), {}))
    jobs = [(str(tmp_path / f"{name}_two.json"), name, str(data), options) for name, data, options in plan]
    places = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    command += [*(str(path) for path in (two, few, pictures, clicks)), json.dumps(jobs)]
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [(tmp_path / f"group_left_{rank}").read_text() for rank in (0, 1)] == ["False", "False"]
    one = tmp_path / "one.json"
    run_suite(fake_suite(3, broken=(2,)), Disc(fail_on="case_01 organ"), one)
    run_suite(fake_suite(1), Disc(), tmp_path / "few1.json")
    assert two.with_suffix(".csv").read_bytes() == one.with_suffix(".csv").read_bytes()
    assert few.with_suffix(".csv").read_bytes() == (tmp_path / "few1.csv").read_bytes()
    suite = build_suite("interaction2d", pictures, SuiteOptions(per_group=3, rounds=8))
    run_suite(suite, StartDisc(fail_on="berkeley_113044"), tmp_path / "clicks1.json", views=False)
    assert clicks.with_suffix(".csv").read_bytes() == (tmp_path / "clicks1.csv").read_bytes()
    left = same(tmp_path / "clicks1.json", clicks)
    assert [error["case"] for error in left["errors"]] == ["berkeley_113044"]
    for name, data, options in plan:
        suite = build_suite(name, data, SuiteOptions(**options))
        alone = completed(suite, Boxer() if name == "cvpr25" else Disc(3.0), tmp_path / f"{name}.json")
        assert alone.rows
        assert not alone.errors
        assert (tmp_path / f"{name}_two.csv").read_bytes() == (tmp_path / f"{name}.csv").read_bytes()
        same(tmp_path / f"{name}.json", tmp_path / f"{name}_two.json")
    left = same(one, two)
    assert all(left[part] for part in ("rows", "errors", "summary"))
    assert not list(tmp_path.glob("*.jsonl"))
    # every object was run by exactly one process
    first, other = (json.loads((tmp_path / f"ran_{rank}").read_text()) for rank in (0, 1))
    ran = [*((row["case"], row["object"]) for row in seen if "error" not in row), *map(tuple, (*first, *other))]
    assert len(ran) == len(set(ran))
    assert {(row["case"], row["object"]) for row in (*left["rows"], *left["errors"])} <= set(ran)
    assert other


def same(one: Path, two: Path) -> dict[str, Any]:
    """Content of the result of one process, which is that of two but for the times."""
    left, right = (json.loads(path.read_text()) for path in (one, two))
    assert (left["about"]["processes"], right["about"]["processes"]) == (1, 2)
    assert (left["key"], left["environment"]["commit"]) == (right["key"], right["environment"]["commit"])
    for row in (*left["rows"], *right["rows"]):
        assert len(row.pop("seconds")) == len(row["rounds"])
    for part in ("rows", "errors", "summary", "cases"):
        assert left[part] == right[part]
    return left
