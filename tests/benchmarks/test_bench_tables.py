"""The tables of the paper on fakes, beside the published rows; data sets that are missing or damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.core.report import markdown_tables, published_names, published_table
from benchmarks.core.suite import SUITES, SuiteOptions, build_suite
from benchmarks.suites.paper import Part, opened, sequence_and_class
from limnet.errors import InputError, MissingFileError
from tests.helpers.bench import Disc, completed
from tests.helpers.every_set import table_root
from tests.helpers.fake_volumes import build_kits19, build_msd


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table_root(tmp_path_factory.mktemp("data"))


KIDNEYS = {"kidney organ": 2, "kidney tumour": 2, "kidney without tumour": 2, "lung": 3, "colon": 4}
FILMS = {f"seq {n} {kind}": 1 for n in range(1, 5) for kind in ("shaft", "parenchyma")}
THREADS = {"seq 1 thread": 1, "seq 3 thread": 1}  # a class that is not in the paper's table


@pytest.mark.parametrize(
    ("name", "cases"),
    [
        ("table1", KIDNEYS),
        ("table2", KIDNEYS),
        ("table4", {"left kidney": 18, "right kidney": 18, "aorta": 18, "spleen": 18, "esophagus": 18, "liver": 18}),
        ("table5", {"colon cancer": 2, "pancreas tumour": 6}),
        ("table6", {**FILMS, **THREADS}),
    ],
)
def test_a_table_beside_the_published_rows(root: Path, tmp_path: Path, name: str, cases: dict[str, int]):
    suite = build_suite(name, root, SuiteOptions(rounds=2))
    results = completed(suite, Disc(2.0), tmp_path / "x.json", views=False)
    assert not results.errors
    published = published_table(name)
    assert {group: len([o for o in results.rows if o["group"] == group]) for group in results.groups} == cases
    more = sorted(set(cases) - set(published.columns))
    shown = [column for column in published.columns if column in cases]
    assert shown == published.columns or name == "table6"
    lines = markdown_tables([results]).splitlines()
    head = next(line for line in lines if line.startswith("| method | prompts |"))
    assert head == "| method | prompts | " + " | ".join([*published.columns, *more]) + " | all |"
    ours = next(line for line in lines if line.startswith("| **disc 2**"))
    cells = [f"{results.curve(group=c)[-1]:.3f}" if c in cases else "-" for c in (*published.columns, *more)]
    counted = [o for o in results.rows if o["group"] in published.columns]  # no class that the table lacks
    last = {(r["case"], r["object"]): r["dice"] for r in results.table.rows}
    mean = np.mean([last[o["case"], o["object"]] for o in counted])
    assert f"| {' | '.join(cells)} | {mean:.3f} |" in ours
    assert results.summary()["all"]["objects"] == len(counted) == sum(cases[c] for c in published.columns if c in cases)
    assert any("All: without " in line for line in lines) == bool(more)
    sliced = next(line for line in lines if line.startswith("| disc 2, per slice | 2 rounds |"))
    assert f" {results.curve('dice_slices', shown[0])[-1]:.3f} " in sliced
    for row in published.rows:
        note = f" [{row.note}]" if row.note else ""
        line = next(x for x in lines if x.startswith(f"| {row.method} (published){note} | {row.prompts} |"))
        assert line.endswith(f"| {row.values[published.columns[-1]]:.3f} |{' - |' * (len(more) + 1)}")
    assert all(f"- {caveat}" in lines for caveat in published.caveats)


def test_kidney_is_the_organ_with_its_tumour(root: Path):
    suite = build_suite("table1", root, SuiteOptions())
    case = suite.cases[0]
    organ, tumour, alone = suite.choice_of(case.name).objects(case, case.read_image())
    assert (organ.object, tumour.object) == ("kidney organ", "kidney tumour")
    assert np.array_equal(alone.truth, organ.truth & ~tumour.truth), "label 1, as Mem3D's loader takes it"
    assert (organ.truth & tumour.truth).sum() == tumour.truth.sum() > 0
    assert organ.truth.sum() > tumour.truth.sum()


def test_data_that_is_not_there(root: Path, tmp_path: Path):
    (tmp_path / "Task06_Lung").symlink_to(root / "Task06_Lung")
    suite = build_suite("table1", tmp_path, SuiteOptions(per_group=1))
    assert [case.name[:4] for case in suite.cases] == ["lung"]
    assert "kits19, msd-colon" in suite.note
    assert [c.name[:5] for c in build_suite("table5", root / "Task10_Colon", SuiteOptions()).cases] == ["colon"] * 2
    with pytest.raises(MissingFileError, match="kits19 in KiTS19"):
        build_suite("table1", root / "BTCV", SuiteOptions())
    with pytest.raises(InputError, match="no split 'test'"):
        build_suite("table4", root, SuiteOptions(split="test"))
    with pytest.raises(InputError, match="Did you mean table1"):
        build_suite("tabel1", root, SuiteOptions())


def test_a_split_that_is_not_whole_is_told(root: Path):
    told = "Cases that are there, of those published: kits19 2 of 42, msd-lung 3 of 21, msd-colon 4 of 26."
    assert told in build_suite("table1", root, SuiteOptions(per_group=1)).note
    assert "that are there" not in build_suite("table4", root, SuiteOptions()).note  # all 18
    assert "that are there" not in build_suite("table6", root, SuiteOptions()).note
    assert "that are there" not in build_suite("table1", root, SuiteOptions(split="train")).note


def test_whose_cases(root: Path):
    """Table IV: TransUNet's training cases; Table V: fold 0 of 3DSAM-adapter for both parts, also when asked alone."""
    held = {1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38}
    numbers = {int(case.name[-4:]) for case in build_suite("table4", root, SuiteOptions()).cases}
    assert numbers == {*range(1, 11), *range(21, 41)} - held
    other = build_suite("table4", root, SuiteOptions(split="val"))
    assert {int(case.name[-4:]) for case in other.cases} == held
    suite = build_suite("table5", root, SuiteOptions())
    assert [case.name for case in suite.cases] == ["colon_026", "colon_218"] + [
        f"pancreas_{n:03d}" for n in (6, 10, 15, 16, 18, 19)
    ]
    assert suite.config()["parts"]["msd-colon"] == ["test", {"colon cancer": [1]}, {"protocol": "3dsam"}]


def test_fusion_off_and_on(root: Path):
    suite = build_suite("table2", root, SuiteOptions())
    assert list(suite.variants) == [{"tau": 1.0}, {}]
    assert suite.config() != build_suite("table1", root, SuiteOptions()).config()
    figure = build_suite("figure3", root, SuiteOptions())
    assert (figure.name, figure.rounds.rounds, suite.rounds.rounds, figure.published) == ("figure3", 10, 6, "table2")
    assert figure.variants == suite.variants
    assert [case.name for case in figure.cases] == [case.name for case in suite.cases]
    assert build_suite("figure3", root, SuiteOptions(rounds=8)).rounds.rounds == 8


def test_published_numbers():
    assert set(published_names()) == {"table1", "table2", "table4", "table5", "table6"} <= set(SUITES)
    first = published_table("table1")
    assert {row.method: row.values["kidney organ"] for row in first.rows}["LIM-Net with MRF"] == 0.973
    assert first.rows[2].title == "Mem3D (published) [quoted: Mem3D's row for scribbles]"
    assert {len(published_table(name).rows) for name in published_names()} == {5, 2, 4, 10, 6}
    for name in published_names():
        table = published_table(name)
        assert all(set(row.values) == set(table.columns) for row in table.rows)
        assert all(0 <= value <= 1 for row in table.rows for value in row.values.values())
        assert table.caveats
    with pytest.raises(InputError, match="no published table"):
        published_table("table3")


def test_groups_of_table6_are_its_columns():
    columns = published_table("table6").columns
    names = ("clamps", "suturing-needle", "small-intestine", "ultrasound-probe")
    assert [sequence_and_class("test_seq_1", name) for name in names] == columns[:4]
    more = ("instrument-shaft", "kidney-parenchyma", "instrument-wrist")
    assert [sequence_and_class("seq_4", name) for name in more] == columns[13:]
    assert sequence_and_class("seq_2", "instrument-clasper") == columns[7]
    assert sequence_and_class("seq_2", "thread") == "seq 2 thread"
    assert sequence_and_class("seq_2", "covered-kidney") == "seq 2 covered-kidney"


@pytest.fixture
def some(tmp_path: Path) -> Path:
    build_kits19(tmp_path / "KiTS19", (0, 2, 7))
    build_msd(tmp_path, "Task06_Lung")
    build_msd(tmp_path, "Task10_Colon")
    return tmp_path


def names(root: Path) -> list[str]:
    return [case.name for case in build_suite("table1", root, SuiteOptions()).cases]


def test_a_missing_file_costs_one_case(some: Path):
    whole = names(some)
    lost = next(name for name in whole if name.startswith("lung"))
    (some / "Task06_Lung" / "labelsTr" / f"{lost}.nii.gz").unlink()
    with pytest.warns(UserWarning, match=f"1 of 9 cases in .*Task06_Lung lack .* left out: {lost}"):
        assert names(some) == [name for name in whole if name != lost]


@pytest.mark.parametrize("text", [None, "{", '{"training": []}'])
def test_a_folder_that_cannot_be_used_stops_no_other(some: Path, text: str | None):
    path = some / "Task06_Lung" / "dataset.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.warns(UserWarning, match=r"msd-lung is not measured, its folder cannot be used: .*dataset\.json"):
        suite = build_suite("table1", some, SuiteOptions())
    assert {case.name.split("_")[0] for case in suite.cases} == {"case", "colon"}
    there = "Cases that are there, of those published: kits19 2 of 42, msd-colon 4 of 26."
    assert suite.note == f"{there} Not measured, as their folders cannot be used: msd-lung."
    with pytest.raises(
        MissingFileError, match=r"(?s)expected msd-lung in Task06_Lung.*cannot be used: .*dataset\.json"
    ):
        build_suite("table1", some, SuiteOptions(parts=("msd-lung",)))


@pytest.mark.filterwarnings("error")
def test_a_part_without_a_folder_is_absent(some: Path):
    assert opened(some, Part("btcv", ("BTCV", "btcv"), "val")) == (None, None)
    assert opened(some, Part("msd-lung", ("elsewhere", "Task06_Lung"), "val"))[0] is not None
    inside, _ = opened(some / "Task06_Lung", Part("msd-lung", ("Task06_Lung",), "val"))
    assert inside is not None
    assert inside.root == some / "Task06_Lung"
    assert opened(some / "Task06_Lung", Part("msd-colon", ("Task10_Colon",), "val")) == (None, None)


def test_the_root_itself_is_the_damaged_folder(some: Path):
    (some / "Task06_Lung" / "dataset.json").unlink()
    found, fault = opened(some / "Task06_Lung", Part("msd-lung", ("Task06_Lung",), "val"))
    assert found is None
    assert "there is no dataset.json" in str(fault)
