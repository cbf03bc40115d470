"""Finished objects belong to their data: the same names elsewhere are other data, a moved folder is not."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.core import work
from benchmarks.core.challenge_rounds import ChallengeRounds
from benchmarks.core.click_rounds import ClickRounds
from benchmarks.core.fingerprint import content_mark, files_mark, folder_mark
from benchmarks.core.protocol import config_hash, predictor_config
from benchmarks.core.registry import build_peer, build_suite
from benchmarks.core.report import markdown_tables
from benchmarks.core.results import BenchResults, read_results
from benchmarks.core.rounds import RobotRounds, Rounds
from benchmarks.core.runner import run_suite
from benchmarks.core.suite import Suite, SuiteOptions
from limnet.datasets.labelled import LabelledCase
from limnet.datasets.objects import ObjectChoice
from limnet.environment import origin
from tests.helpers.bench import Disc, fake_case, fake_suite, image, labels
from tests.helpers.fake_folders import STEPS, body, write_folder
from tests.helpers.fake_nifti import oriented_affine, write_nifti

PLAIN = RobotRounds(2)


def play(data: Path, out: Path, method: Disc | None = None) -> tuple[BenchResults, list[tuple[str, str, str]]]:
    """Results, and (type, case, object) of what was newly done."""
    seen: list[dict[str, Any]] = []
    suite = build_suite("folder", data, SuiteOptions(rounds=2))
    results = run_suite(suite, method or Disc(), out, views=False, progress=seen.append)
    assert results is not None
    return results, [(r["type"], r["case"], r["object"]) for r in seen]


def kinds(done: list[tuple[str, str, str]]) -> list[str]:
    return [kind for kind, _, _ in done]


def move_labels(data: Path, name: str) -> None:
    """Labels of a case two voxels to one side."""
    path = data / "masks" / f"{name}.nii.gz"
    write_nifti(path, np.roll(body(int(name[4:]))[1], 2, axis=0), oriented_affine("LPS", STEPS))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cases of which the data was read."""
    found: list[str] = []

    def counted(case: LabelledCase, *rest: Any) -> str:
        found.append(case.name)
        return content_mark(case, *rest)

    monkeypatch.setattr(work, "content_mark", counted)
    return found


def test_the_same_names_with_other_labels_are_other_data(tmp_path: Path):
    first, second = write_folder(tmp_path / "a", 2), write_folder(tmp_path / "b", 2)
    move_labels(second, "case1")
    one, done = play(first, tmp_path / "same.json")
    assert kinds(done) == ["object", "object", "case"] * 2
    other, done = play(second, tmp_path / "same.json")
    # Case 0 is the same in both, so that its figures stay; case 1 is not.
    assert done == [
        ("case", "case0", ""),
        ("object", "case1", "id 1"),
        ("object", "case1", "id 2"),
        ("case", "case1", ""),
    ]
    fresh, _ = play(second, tmp_path / "fresh.json")
    assert other.table == fresh.table
    assert other.objects == fresh.objects
    assert other.table != one.table
    assert (one.header["key"], one.header["data"]) == (other.header["key"], str(first))
    assert read_results(tmp_path / "same.json").header["data"] == str(second)
    again, done = play(first, tmp_path / "same.json")  # the journal still holds what was done there
    assert not done or kinds(done) == ["case"]
    assert again.table == one.table


def test_labels_changed_in_place(tmp_path: Path):
    data, out = write_folder(tmp_path / "a", 2), tmp_path / "x.json"
    before, _ = play(data, out)
    move_labels(data, "case0")
    after, done = play(data, out)
    assert {case for _, case, _ in done} == {"case0"}
    fresh, _ = play(data, tmp_path / "fresh.json")
    assert (after.objects, after.table) == (fresh.objects, fresh.table)
    assert after.objects != before.objects  # clicks lie elsewhere


def test_a_moved_or_copied_folder_is_the_same_data(tmp_path: Path, reads: list[str]):
    data, out = write_folder(tmp_path / "a", 2), tmp_path / "x.json"
    before, _ = play(data, out)
    reads.clear()
    assert play(data, out)[1] == []
    assert reads == []  # known by its files
    moved = tmp_path / "elsewhere" / "b"
    moved.parent.mkdir()
    data.rename(moved)
    after, done = play(moved, out)
    assert kinds(done) == ["case", "case"]  # read, found to be the same, and marked
    assert reads == ["case0", "case1"]
    assert after.table == before.table
    assert after.header["data"] == str(moved)
    assert play(moved, out)[1] == []
    assert len(reads) == 2
    copied = shutil.copytree(moved, tmp_path / "copy", copy_function=shutil.copyfile)  # times are new
    assert kinds(play(copied, out)[1]) == ["case", "case"]


def test_an_interrupted_case_in_a_moved_folder(tmp_path: Path):
    data, out = write_folder(tmp_path / "a", 1), tmp_path / "x.json"
    whole, _ = play(data, out)
    journal = tmp_path / "x.part0.jsonl"
    journal.write_text(journal.read_text().splitlines()[0] + "\n")
    moved = data.rename(tmp_path / "b")
    results, done = play(moved, out)
    assert done == [("object", "case0", "id 2"), ("case", "case0", "")]
    assert results.table == whole.table
    # A whole case of which an object is missing, as where the journal of another process was lost, is not whole.
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    journal.write_text("".join(json.dumps(r) + "\n" for r in lines if r["object"] != "id 1"))
    assert play(moved, out)[1] == [("object", "case0", "id 1"), ("case", "case0", "")]


def test_journals_without_marks_are_of_unknown_data(tmp_path: Path):
    data, out = write_folder(tmp_path / "a", 1), tmp_path / "x.json"
    before, first = play(data, out)
    journal = tmp_path / "x.part0.jsonl"
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    for record in records:
        assert set(record.pop("data")) == {"files", "content"}
        assert (record.pop("limnet"), record.pop("commit")) == tuple(origin().values())
    journal.write_text("".join(json.dumps(record) + "\n" for record in records))
    after, done = play(data, out)
    assert done == first
    assert after.table == before.table


def test_data_that_cannot_be_read_any_more(tmp_path: Path):
    data, out = write_folder(tmp_path / "a", 2), tmp_path / "x.json"
    play(data, out)
    (data / "masks" / "case1.nii.gz").write_bytes(b"no NIfTI")
    results, done = play(data, out)
    assert done == [("error", "case1", "")]
    assert {o["case"] for o in results.objects} == {"case0"}
    assert [error["case"] for error in results.errors] == ["case1"]


def test_nothing_is_read_twice(tmp_path: Path):
    counts = {"image": 0, "labels": 0}

    def read(what: str) -> Any:
        counts[what] += 1
        return image(0) if what == "image" else labels(0)

    case = dataclasses.replace(fake_case(0), read_image=lambda: read("image"), read_labels=lambda: read("labels"))
    results = run_suite(Suite("f", "F", [case], PLAIN, ObjectChoice(smallest=20)), Disc(), tmp_path / "x.json")
    assert results is not None
    assert len(results.objects) == 3
    assert counts == {"image": 1, "labels": 1}


def marks(case: LabelledCase, rounds: Rounds = PLAIN) -> tuple[str | None, str]:
    return files_mark(case, rounds), content_mark(case, case.read_image(), case.read_labels(), rounds)


def test_what_belongs_to_the_data(tmp_path: Path):
    case = fake_case(0)
    assert marks(case)[0] is None  # no path among the arguments
    assert marks(case) == marks(fake_case(0))
    assert marks(case)[1] != marks(fake_case(1))[1]
    for other in (
        dataclasses.replace(case, labels={1: "lesion", 2: "organ", 3: "speck"}),
        dataclasses.replace(case, includes={1: (2,)}),
        dataclasses.replace(case, read_labels=lambda: labels(0).astype(np.int16)),
        dataclasses.replace(case, read_image=lambda: dataclasses.replace(image(0), spacing=(1.0, 1.0, 1.0))),
        dataclasses.replace(case, read_image=lambda: dataclasses.replace(image(0), modality="CT")),
    ):
        assert marks(other)[1] != marks(case)[1]
    turned = np.asfortranarray(image(0).array)  # another order in memory only
    same = dataclasses.replace(case, read_image=lambda: dataclasses.replace(image(0), array=turned))
    assert marks(same)[1] == marks(case)[1]
    path = tmp_path / "start.npy"
    np.save(path, labels(0))
    read = dataclasses.replace(case, read_labels=partial(np.load, path))
    assert marks(read)[0] is not None
    assert marks(read)[1] == marks(case)[1]
    os.utime(path, ns=(0, 0))
    assert files_mark(read, PLAIN) == files_mark(read, PLAIN) != marks(case)[0]
    strange = dataclasses.replace(case, read_labels=partial(np.load, path, mmap_mode=object()))
    assert files_mark(strange, PLAIN) is None


def test_boxes_and_start_masks_belong_to_the_data(tmp_path: Path):
    case = fake_case(0)
    boxes, start = tmp_path / "boxes.npz", tmp_path / "start.npy"
    np.savez(boxes, boxes=np.arange(6), imgs=np.zeros(100))
    np.save(start, np.zeros((1, 4, 4), bool))
    boxed = ChallengeRounds(files={case.name: boxes})
    started = ClickRounds(starts={case.name: partial(np.load, start)})
    before = [marks(case), marks(case, boxed), marks(case, started)]
    assert len({content for _, content in before}) == 3
    assert before[0] == marks(case, ChallengeRounds(files={"another": boxes}))
    np.savez(boxes, boxes=np.arange(6) + 1, imgs=np.zeros(100))
    np.save(start, np.ones((1, 4, 4), bool))
    os.utime(boxes, ns=(0, 0))
    os.utime(start, ns=(0, 0))
    after = [marks(case, boxed), marks(case, started)]
    assert all(a != b for old, new in zip(before[1:], after, strict=True) for a, b in zip(old, new, strict=True))
    plain = ChallengeRounds(files={case.name: start})  # no archive: its bytes
    assert marks(case, plain)[1] not in {content for _, content in before}


def test_a_folder_is_marked_by_its_files(tmp_path: Path):
    folder = tmp_path / "a"
    assert folder_mark(folder) is None
    folder.mkdir()
    (folder / "x.txt").write_text("1")
    (folder / "notes").write_text("1")
    before = folder_mark(folder, ".txt")
    (folder / "notes").unlink()
    assert folder_mark(folder.rename(tmp_path / "b"), ".txt") == before
    (tmp_path / "b" / "x.txt").write_text("12")
    assert folder_mark(tmp_path / "b", ".txt") != before


def test_other_predictions_in_the_same_folder_are_another_method(tmp_path: Path):
    data = write_folder(tmp_path / "data", 1)
    peer = build_peer(f"predictions:folder={data / 'masks'}")
    before = config_hash(predictor_config(peer))
    assert before == config_hash(predictor_config(peer))
    assert predictor_config(peer)["folder"] == str(data / "masks")
    move_labels(data, "case0")
    assert config_hash(predictor_config(peer)) != before
    assert predictor_config(build_peer("predictions"))["files"] is None


def test_commits_are_those_that_finished_the_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "x.json"

    def ran(number: int, head: str, method: Disc | None = None) -> BenchResults:
        monkeypatch.setattr("limnet.environment.commit", lambda folder: head)
        results = run_suite(fake_suite(number), method or Disc(), out, views=False)
        assert results is not None
        return results

    version = origin()["limnet"]
    assert ran(1, "a" * 40).header["commit"] == "a" * 40
    kept = ran(1, "b" * 40).header  # nothing was run
    assert (kept["commit"], kept["limnet"]) == ("a" * 40, version)
    both = ran(2, "c" * 40 + "+changes")
    assert both.header["commit"] == ["a" * 40, "c" * 40 + "+changes"]
    assert both.header["limnet"] == version
    assert f"limnet {version}, aaaaaaaaaa and cccccccccc+, " in markdown_tables([both])
    assert ran(2, "d" * 40, Disc(fail_on="case")).header["commit"] == "d" * 40  # nothing finished
