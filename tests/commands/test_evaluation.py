"""`limnet evaluate`: a folder of every format, a model whose Dice is known in closed form, and runs that end early."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK

from limnet.cli import main
from limnet.commands.evaluation import find_pairs, play
from limnet.commands.evaluation_report import mean_and_error
from limnet.errors import FileFormatError, InputError, MissingFileError
from limnet.image.io.masks import Maker, Segment, write_segments
from limnet.image.volume import Volume
from limnet.metrics.masks import normalized_surface_dice
from limnet.simulation.clicks import RobotUser
from tests.helpers.dicom_files import write_slices

SHAPE, SPACING = (12, 16, 18), (3.0, 1.0, 1.0)
SIZES = {1: 8, 2: 10}
"""Slices of the objects."""


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Image and labels: two boxes of 8 and 10 slices; the image says which is which."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:10, 2:8, 2:8] = 1
    labels[1:11, 9:14, 9:16] = 2
    return labels.astype(np.int16) * 100, labels


class StepModel:
    """Gives 4, 6, 8, ... slices of the object that was clicked first, counted from below."""

    identity = {"name": "steps", "classes": [], "sha256": "0" * 64}  # noqa: RUF012
    name, device = "steps", "cpu"

    def __init__(self) -> None:
        self.clicks = 0
        self.stop_at: int | None = None

    def open(self, volume: Volume, axis: int = 0) -> Any:
        given: list[tuple[int, int, int]] = []

        def click(zyx: tuple[int, int, int], positive: bool) -> np.ndarray:
            if self.clicks == self.stop_at:
                raise KeyboardInterrupt
            self.clicks += 1
            given.append(zyx)
            truth = volume.array == volume.array[given[0]]
            first = int(np.flatnonzero(truth.any((1, 2)))[0])
            truth[first + 2 + 2 * len(given) :] = False
            return truth

        return types.SimpleNamespace(click=click)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> StepModel:
    found = StepModel()
    fake = types.ModuleType("limnet.segmenter")
    fake.InteractiveSegmenter = types.SimpleNamespace(from_pretrained=lambda name, device: found)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "limnet.segmenter", fake)
    return found


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """NIfTI with an NRRD label map, MHA with names in a JSON file of `save_labels`, both objects each."""
    root = tmp_path / "study"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    image, labels = scene()
    for name, kind in (("a_0000.nii.gz", "a_seg.nrrd"), ("b.mha", "b.mha")):
        for folder, file, array in (("images", name, image), ("labels", kind, labels)):
            stored = SimpleITK.GetImageFromArray(array)
            stored.SetSpacing(SPACING[::-1])
            SimpleITK.WriteImage(stored, str(root / folder / file))
    (root / "labels.json").write_text('{"1": "cube", "2": "block"}')
    return root


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *map(str, words)])
    return int(end.value.code or 0)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def curve(slices: int, rounds: int) -> list[float]:
    """Dice of the step model: the lower 4, 6, ... of so many equal slices."""
    held = [min(4 + 2 * n, slices) for n in range(rounds)]
    dice = [2 * n / (n + slices) for n in held]
    return dice[: dice.index(1.0) + 1] if 1.0 in dice else dice


def test_tables(study: Path, model: StepModel, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(study, "--out", out, "--rounds", 3) == 0
    labels = scene()[1]
    for line in rows(out / "rounds.csv"):
        number = {"cube": 1, "block": 2}[line["object"]]
        r = int(line["round"])
        assert float(line["dice"]) == pytest.approx(curve(SIZES[number], 3)[r - 1])
        partial = labels == number
        partial[int(np.flatnonzero(partial.any((1, 2)))[0]) + 2 + 2 * r :] = False
        assert float(line["nsd"]) == pytest.approx(normalized_surface_dice(partial, labels == number, SPACING, 2.0))
    found = rows(out / "objects.csv")
    assert [(o["case"], o["object"], o["round"]) for o in found] == [
        (case, name, "3") for case in ("a_0000", "b") for name in ("block", "cube")
    ]
    noc = [(o["noc80"], o["noc85"], o["noc90"]) for o in found if o["case"] == "b"]
    assert noc == [("3.0", "3.0", "3.0"), ("2.0", "2.0", "3.0")]  # Dice .571 .750 .889; .667 .857 1
    report = (out / "report.md").read_text(encoding="utf-8")
    assert "| block | 2 | 0.889 ± 0.000 |" in report
    assert "3.00 ± 0.00 (2 never) |" in report
    assert "| b | block | 3 | 0.889 |" in report
    assert " | 3 | 3 | >3 | " in report
    assert f"| all | 4 | {(16 / 18 + 1) / 2:.3f} ± 0.000 |" in report  # both images are alike: no error
    assert f"| cube | {2 / 3:.3f} ± 0.000 | {12 / 14:.3f} ± 0.000 | 1.000 ± 0.000 |" in report


class Pupil(StepModel):
    """Learns an object's value by name; proposes as many of its lower slices as it knows cases, and 5 more."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, tuple[int, int]] = {}
        self.lessons: list[tuple[str, int]] = []

    def learn(self, cases: list[Any], name: str, folder: Path) -> None:
        values = {int(case.volume.array[case.taught][0]) for case in cases}
        self.lessons.append((name, len(cases)))
        self.known[f"{folder.name}/{name}"] = (values.pop(), len(cases))
        assert not values

    def open(self, volume: Volume, axis: int = 0) -> Any:
        case = super().open(volume, axis)
        case.volume = volume

        def propose(name: str, folder: Path) -> None:
            value, cases = self.known[f"{folder.name}/{name}"]
            case.mask = volume.array == value
            case.mask[int(np.flatnonzero(case.mask.any((1, 2)))[0]) + 5 + cases :] = False

        case.propose, case.set_mask = propose, lambda mask, frozen: setattr(case, "taught", mask)
        return case


def test_learning(study: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder, suffix in (("images", "mha"), ("labels", "mha")):
        for name in "cd":
            shutil.copy(study / folder / f"b.{suffix}", study / folder / f"{name}.{suffix}")
    pupil, out = Pupil(), tmp_path / "out"
    fake = types.ModuleType("limnet.segmenter")
    fake.InteractiveSegmenter = types.SimpleNamespace(from_pretrained=lambda name, device: pupil)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "limnet.segmenter", fake)
    words = (study, "--out", out, "--rounds", 3, "--nsd", 0, "--learn", 1, "--learn", 3)
    assert run(*words) == 0
    assert sorted(pupil.lessons) == [(f"label {number}", cases) for number in (0, 1) for cases in (1, 3)]
    found = rows(out / "objects.csv")
    proposals = {(o["object"], o["learned"]): float(o["proposal"]) for o in found}
    assert proposals == {
        ("block", "0.0"): 0.0,
        ("block (learned from 1)", "1.0"): pytest.approx(2 * 6 / 16),
        ("block (learned from 3)", "3.0"): pytest.approx(2 * 8 / 18),
        ("cube", "0.0"): 0.0,
        ("cube (learned from 1)", "1.0"): pytest.approx(2 * 6 / 14),
        ("cube (learned from 3)", "3.0"): 1.0,
    }
    assert [o["round"] for o in found if o["object"] == "cube (learned from 3)"] == ["0"]  # nothing to click on
    report = (out / "report.md").read_text(encoding="utf-8")
    assert "| block | 1 | 0.889 |" in report  # the tables above are those without learning
    assert "| cube | - | 1 | - | 0.667 | 0.857 | 1.000 | 2.000 | 2.000 | 3.000 |" in report
    assert "| cube | 1 | 1 | 0.857 | 0.667 | 0.857 | 1.000 | 0.000 | 0.000 | 3.000 |" in report
    assert "| cube | 3 | 1 | 1.000 | 1.000 | 1.000 | 1.000 | 0.000 | 0.000 | 0.000 |" in report
    clicks = pupil.clicks
    assert run(*words) == 0
    assert (pupil.clicks, len(pupil.lessons)) == (clicks, 4)  # all of it came from the journal
    assert run(study, "--out", tmp_path / "none", "--learn", 4) == 2
    (study / "labels/a_seg.nrrd").write_bytes(b"NRRD0004\n")
    assert run(study, "--out", tmp_path / "damaged", "--nsd", 0, "--learn", 1) != 0
    kept = {(o["case"], o["learned"]) for o in rows(tmp_path / "damaged/objects.csv")}
    assert kept == {(case, "0.0") for case in "bcd"}  # nothing counts as learned from what could not be read


def test_an_image_that_cannot_be_read_is_told_once_whatever_is_learned(
    study: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("images", "labels"):
        shutil.copy(study / folder / "b.mha", study / folder / "c.mha")
    (study / "images/c.mha").write_bytes(b"ObjectType = Image\n")
    fake = types.ModuleType("limnet.segmenter")
    fake.InteractiveSegmenter = types.SimpleNamespace(from_pretrained=lambda name, device: Pupil())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "limnet.segmenter", fake)
    assert run(study, "--out", tmp_path / "out", "--nsd", 0, "--learn", 1) == 2
    assert capsys.readouterr().err.count("c: error:") == 1
    assert (tmp_path / "out/report.md").read_text(encoding="utf-8").count("- c: ") == 1


def test_goes_on_where_it_stopped(
    study: Path, model: StepModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    words = (study, "--rounds", 2, "--nsd", 0)
    run(*words, "--out", whole)
    model.clicks, model.stop_at = 0, 5  # in the first round of the third object
    assert run(*words, "--out", out) == 130
    assert len(rows(out / "objects.csv")) == 2
    assert "1 of 2 images" in (out / "report.md").read_text(encoding="utf-8")
    with open(out / "journal.jsonl", "ab") as file:
        file.write(b'{"case": "b", "obj')  # as a crash leaves it
    model.clicks, model.stop_at = 0, None
    assert run(*words, "--out", out) == 0
    assert model.clicks == 4
    assert run(*words, "--out", out, "--label", "cube") == 0  # a part of what is there
    assert [o["object"] for o in rows(out / "objects.csv")] == ["cube", "cube"]
    assert run(*words, "--out", out) == 0
    assert model.clicks == 4
    drop = [{k: v for k, v in row.items() if k != "seconds"} for row in rows(out / "rounds.csv")]
    assert drop == [{k: v for k, v in row.items() if k != "seconds"} for row in rows(whole / "rounds.csv")]

    assert run(study, "--rounds", 3, "--nsd", 0, "--out", out) == 2
    assert "rounds was 2, is 3" in capsys.readouterr().err
    image = SimpleITK.ReadImage(str(study / "labels" / "b.mha"))
    SimpleITK.WriteImage(image * (image == 1), str(study / "labels" / "b.mha"))  # other labels: played again
    assert run(*words, "--out", out) == 0
    assert model.clicks == 6
    assert len(rows(out / "objects.csv")) == 3
    assert run(study, "--rounds", 3, "--nsd", 0, "--out", out, "--fresh") == 0
    assert {row["round"] for row in rows(out / "rounds.csv")} == {"1", "2", "3"}


def test_faults_leave_the_rest(study: Path, model: StepModel, tmp_path: Path) -> None:
    (study / "labels" / "a_seg.nrrd").write_bytes(b"no nrrd")
    assert run(study, "--out", tmp_path / "out", "--rounds", 1, "--nsd", 0) == 2
    assert {o["case"] for o in rows(tmp_path / "out" / "objects.csv")} == {"b"}
    assert "## Left out\n\n- a_0000: " in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    two = SimpleITK.GetImageFromArray(np.zeros((2, *SHAPE)), isVector=False)
    SimpleITK.WriteImage(two, str(study / "images/a_0000.nii.gz"))
    assert run(study, "--out", tmp_path / "two", "--rounds", 1, "--nsd", 0) == 2
    assert "holds 2 volumes, one is expected. Save that one" in (tmp_path / "two/report.md").read_text(encoding="utf-8")
    assert run(study, "--out", tmp_path / "none", "--label", "heart", "--nsd", 0) == 2
    assert not (tmp_path / "none" / "report.md").exists()


def test_dicom(model: StepModel, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    root = tmp_path / "study"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    image, labels = scene()
    for name, suffix in (("p1", ".dcm"), ("p2", ".rtstruct.dcm")):
        write_slices(root / "images" / name, image.astype(np.uint16), np.diag([1.0, 1.0, 3.0, 1.0]))
        volume = Volume.read(root / "images" / name)
        segments = [Segment(n, f"object {n}", labels == n) for n in (1, 2)]
        write_segments(volume, segments, root / "labels" / f"{name}{suffix}", Maker())
    (root / "labels.json").write_text('{"1": "of label maps alone"}')
    assert [pair.name for pair in find_pairs(root)] == ["p1", "p2"]
    assert run(root, "--out", tmp_path / "out", "--rounds", 2, "--nsd", 0) == 0
    found = [(o["case"], o["object"], float(o["dice"])) for o in rows(tmp_path / "out" / "objects.csv")]
    known = [(f"object {n}", pytest.approx(curve(SIZES[n], 2)[-1])) for n in (1, 2)]
    assert found == [(case, *one) for case in ("p1", "p2") for one in known]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_lists(study: Path, model: StepModel, tmp_path: Path, kind: str) -> None:
    entries = [{"image": "images/b.mha", "label": "labels/b.mha", "name": "patient 7"}]
    text = json.dumps(entries) if kind == "json" else "image,label,name\nimages/b.mha,labels/b.mha,patient 7\n"
    path = study / f"test.{kind}"
    path.write_text(text, encoding="utf-8")
    assert run(path, "--out", tmp_path / "out", "--rounds", 1, "--nsd", 0, "--seeds", 2, "--jitter", 3) == 0
    found = rows(tmp_path / "out" / "rounds.csv")
    assert [(row["case"], row["object"]) for row in found] == [
        ("patient 7", f"{name} (seed {seed})") for name in ("block", "cube") for seed in (0, 1)
    ]
    assert found[0]["y"] + found[0]["x"] != found[1]["y"] + found[1]["x"]


def test_refusals(study: Path, tmp_path: Path) -> None:
    (study / "images" / "c.mha").write_bytes(b"")
    with pytest.raises(MissingFileError, match="without a mask: c"):
        find_pairs(study)
    with pytest.raises(MissingFileError, match="has no folder images/"):
        find_pairs(tmp_path)
    for text, match in (
        ("picture,label\n", "lists no"),
        ("a,b\n1,2\n", "KeyError"),
        ("image,label\na,b\na,c\n", "more"),
    ):
        (tmp_path / "list.csv").write_text(text, encoding="utf-8")
        with pytest.raises(FileFormatError, match=match):
            find_pairs(tmp_path / "list.csv")
    with pytest.raises(InputError, match="empty"):
        next(play(lambda zyx, positive: np.ones(SHAPE, bool), np.zeros(SHAPE, bool), RobotUser(), 1))
    assert run(study / "nothing", "--out", tmp_path) == 2
    assert run(study, "--out", tmp_path, "--seeds", 2) == 2


def test_standard_error() -> None:
    values = np.random.default_rng(0).random(9)
    images = [f"image {i}" for i in range(9)]
    mean, error = mean_and_error(values.tolist(), images)
    assert (mean, error) == pytest.approx((values.mean(), values.std(ddof=1) / 3))
    # the same objects twice in each image say nothing new
    assert mean_and_error(np.repeat(values, 2).tolist(), np.repeat(images, 2).tolist()) == pytest.approx((mean, error))
    assert np.isnan(mean_and_error([0.5, 0.6], ["a", "a"])[1])
