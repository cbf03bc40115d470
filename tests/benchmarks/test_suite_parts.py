"""Suites over several data sets of which some are missing, incomplete or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.core.suite import SuiteOptions, build_suite
from benchmarks.suites.parts import Part, opened
from limnet.errors import MissingFileError
from tests.helpers.fake_volumes import build_kits19, build_msd


@pytest.fixture
def root(tmp_path: Path) -> Path:
    build_kits19(tmp_path / "KiTS19", (0, 2, 7))
    build_msd(tmp_path, "Task06_Lung")
    build_msd(tmp_path, "Task10_Colon")
    return tmp_path


def names(root: Path) -> list[str]:
    return [case.name for case in build_suite("table1", root, SuiteOptions()).cases]


def test_a_missing_file_costs_one_case(root: Path):
    whole = names(root)
    lost = next(name for name in whole if name.startswith("lung"))
    (root / "Task06_Lung" / "labelsTr" / f"{lost}.nii.gz").unlink()
    with pytest.warns(UserWarning, match=f"1 of 9 cases in .*Task06_Lung lack .* left out: {lost}"):
        assert names(root) == [name for name in whole if name != lost]


@pytest.mark.parametrize("text", [None, "{", '{"training": []}'])
def test_a_folder_that_cannot_be_used_stops_no_other(root: Path, text: str | None):
    path = root / "Task06_Lung" / "dataset.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.warns(UserWarning, match=r"msd-lung is not measured, its folder cannot be used: .*dataset\.json"):
        suite = build_suite("table1", root, SuiteOptions())
    assert {case.name.split("_")[0] for case in suite.cases} == {"case", "colon"}
    there = "Cases that are there, of those published: kits19 2 of 42, msd-colon 4 of 26."
    assert suite.note == f"{there} Not measured, as their folders cannot be used: msd-lung."
    with pytest.raises(
        MissingFileError, match=r"(?s)expected msd-lung in Task06_Lung.*cannot be used: .*dataset\.json"
    ):
        build_suite("table1", root, SuiteOptions(parts=("msd-lung",)))


@pytest.mark.filterwarnings("error")
def test_a_part_without_a_folder_is_absent(root: Path):
    assert opened(root, Part("btcv", ("BTCV", "btcv"), "val")) == (None, None)
    assert opened(root, Part("msd-lung", ("elsewhere", "Task06_Lung"), "val"))[0] is not None
    inside, _ = opened(root / "Task06_Lung", Part("msd-lung", ("Task06_Lung",), "val"))
    assert inside is not None
    assert inside.root == root / "Task06_Lung"
    assert opened(root / "Task06_Lung", Part("msd-colon", ("Task10_Colon",), "val")) == (None, None)


def test_the_root_itself_is_the_damaged_folder(root: Path):
    (root / "Task06_Lung" / "dataset.json").unlink()
    found, fault = opened(root / "Task06_Lung", Part("msd-lung", ("Task06_Lung",), "val"))
    assert found is None
    assert "there is no dataset.json" in str(fault)
