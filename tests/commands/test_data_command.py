from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from limnet.cli import app
from limnet.datasets.counts import count_slices
from limnet.datasets.registry import dataset_names, open_dataset
from tests.helpers.every_set import MEDICAL_SETS, PICTURE_SETS
from tests.helpers.fake_nifti import damage
from tests.helpers.fake_picture_sets import build_davis


def run(*args: str, columns: int = 400):
    return CliRunner().invoke(app, ["data", *args], env={"COLUMNS": str(columns)})


def test_list_names_every_data_set_with_licence_and_access():
    result = run("list", columns=80)
    assert result.exit_code == 0, result.output
    for name in dataset_names():
        assert name in result.output
    assert "CC BY-NC-SA 4.0" in result.output
    assert "https://www.synapse.org/Synapse:syn3193805" in result.output, "an address in one piece"


def test_faults_are_told_with_advice(tmp_path: Path):
    root = MEDICAL_SETS["kits19"](tmp_path)
    damage(root / "data/case_00001/imaging.nii.gz")
    (root / "data/case_00002/segmentation.nii.gz").unlink()
    result = run("check", "kits19", str(root))
    assert result.exit_code == 1
    assert "case_00001: " in result.output
    assert "-> copy or download it again" in result.output
    assert "case_00002: left out, as data/case_00002/segmentation.nii.gz is not there" in result.output
    assert "2 problem(s)" in result.output
    short = run("check", "kits19", str(root), "--show", "1")
    assert short.exit_code == 1
    assert "case_00001" not in short.output or "case_00002" not in short.output
    assert "and 1 more" in short.output


def test_slices_are_counted_as_in_table_3(tmp_path: Path):
    """The fake draws kidneys on three slices of every case, tumours on two of these; depths are 6 + number % 3."""
    root = MEDICAL_SETS["kits19"](tmp_path / "kits19")
    result = run("count", "kits19", str(root))
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines()]
    told = ["kidney", "9,", "kidney", "tumour", "6", "(in", "all", "15)"]
    assert rows[1] == ["train", "3", "18", "9", "14072", *told]
    assert rows[2] == ["val", "3", "22", "9", "1753", *told]
    colon = MEDICAL_SETS["msd-colon"](tmp_path / "colon")
    assert " 1034 " in run("count", "msd-colon", str(colon)).output
    assert " 1034 " not in run("count", "msd-colon:protocol=3dsam", str(colon)).output  # other cases than the paper's
    damage(root / "data/case_00002/segmentation.nii.gz")
    result = run("count", "kits19", str(root))
    assert result.exit_code == 1
    assert "case_00002 is not counted: " in result.output


def test_layers_of_a_picture_are_one_picture(tmp_path: Path):
    """Table III counts the pictures of COCO + LVIS."""
    dataset = open_dataset("coco-lvis", PICTURE_SETS["coco-lvis"](tmp_path))
    for split in dataset.splits:
        cases = dataset.cases(split)
        found = count_slices(dataset, split)
        assert (found.cases, found.slices) == (len(cases), len(cases))
        assert found.filled == sum(bool(case.read_labels().any()) for case in cases)
    assert sum(len(case.read_labels()) for case in dataset.all_cases()) > len(dataset.all_cases())


def test_a_folder_that_is_another_data_set(tmp_path: Path):
    result = run("check", "btcv", str(tmp_path))
    assert result.exit_code == 1
    assert "RawData/Training/img/img0001.nii.gz" in result.output
    assert "https://www.synapse.org/Synapse:syn3193805" in result.output, "an address in one piece"


def test_options_of_a_data_set(tmp_path: Path):
    root = build_davis(tmp_path)
    (root / "DAVIS/ImageSets/2017").rename(root / "DAVIS/ImageSets/2016")
    assert "there is no ImageSets/2017" in run("check", "davis2017", str(root)).output
    done = run("check", "davis2017:year=2016", str(root))
    assert "labelled cases" in done.output
    wrong = run("check", "davis2017:jahr=2016", str(root))
    assert wrong.exit_code == 2
    assert "its options are" in wrong.output
    assert "year" in wrong.output


def test_an_unknown_name(tmp_path: Path):
    result = run("check", "kits91", str(tmp_path))
    assert result.exit_code == 2
    assert "kits19" in result.output
