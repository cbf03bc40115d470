"""The method of the tables: the paper's, whatever settings a model brings, unless the user asks for its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.core.suite import SuiteOptions, build_suite
from limnet import InteractiveSegmenter
from limnet.case.case import Case
from limnet.errors import InputError
from limnet.settings import Settings
from tests.helpers.bench import WanderingPropagator
from tests.helpers.fake_engine import ConstantAssessor, fake_engine
from tests.helpers.fake_volumes import build_msd
from tests.helpers.recipes import limnet

OURS = Settings(scope="interval", tau=1.0, look_back=4, one_sided=True)


class Stubborn:
    """A model whose sweeps differ from round to round and whose quality network keeps every earlier mask; its own
    settings never ask that network."""

    settings, identity = OURS, {"name": "stubborn", "sha256": "0"}

    def __init__(self) -> None:
        self.used: list[Settings] = []

    def open(self, volume: Any, axis: int, settings: Settings) -> Case:
        self.used.append(settings)
        engine = replace(fake_engine(), propagator=WanderingPropagator(), assessor=ConstantAssessor(0.9))
        return Case(engine, volume, axis=axis, settings=settings)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Stubborn:
    made = Stubborn()
    monkeypatch.setattr(InteractiveSegmenter, "from_pretrained", lambda *_, **__: made)
    return made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    build_msd(tmp_path / "data", "Task06_Lung")
    return tmp_path / "data"


def run(table: str, data: Path, *words: str) -> dict[str, Any]:
    """Result files by name of the method."""
    out = data.parent / "_".join(["out", table, *words])
    assert limnet("bench", table, "--data", data, "--out", out, "--per-group", 1, "--rounds", 3, *words) == 0
    found = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    return {content["fixed"]["predictor"]["name"]: content for content in found}


def told_settings(shown: str, name: str) -> set[str]:
    """What stands below the tables of a method."""
    line = next(line for line in shown.splitlines() if line.startswith(f"- {name}: "))
    return set(line.partition(": ")[2].split(", "))


def dice(content: dict[str, Any]) -> list[float]:
    return [content["summary"]["all"][f"dice@{i}"] for i in (1, 2, 3)]


def test_with_and_without_fusion_differ(data: Path, model: Stubborn, capsys: pytest.CaptureFixture[str]) -> None:
    found = run("table2", data)
    without, fused = found["limnet-tiny (paper) tau=1.0"], found["limnet-tiny (paper)"]
    assert dice(without)[0] == dice(fused)[0]
    assert min(abs(a - b) for a, b in zip(dice(without)[1:], dice(fused)[1:], strict=True)) > 0.02
    assert set(model.used) == {Settings.paper(), replace(Settings.paper(), tau=1.0)}
    assert fused["fixed"]["predictor"]["settings"] == Settings.paper().to_json()
    told = told_settings(capsys.readouterr().out, "limnet-tiny (paper)")
    assert {"method paper", "scope volume", "tau 0.5", "stop_after_empty 0", "look_back 0"} <= told


def test_the_settings_of_the_model(data: Path, model: Stubborn, capsys: pytest.CaptureFixture[str]) -> None:
    found = run("table2", data, "--method", "ours", "--setting", "look_back=0")
    first, second = (found[f"limnet-tiny look_back=0{tau}"] for tau in (" tau=1.0", ""))
    assert dice(first) == dice(second)  # its own threshold is 1
    assert set(model.used) == {replace(OURS, look_back=0)}
    told = told_settings(capsys.readouterr().out, "limnet-tiny look_back=0")
    assert {"scope interval", "tau 1.0", "stop_after_empty 3", "look_back 0", "one_sided True"} <= told


@pytest.mark.parametrize(
    ("table", "words", "used"),
    [
        ("table1", (), Settings.paper()),
        (
            "table1",
            ("--tau", "0.3", "--setting", "stop_after_empty=2"),
            replace(Settings.paper(), tau=0.3, stop_after_empty=2),
        ),
        ("table1", ("--method", "ours"), OURS),
    ],
)
def test_settings_by_method(data: Path, model: Stubborn, table: str, words: tuple[str, ...], used: Settings) -> None:
    run(table, data, *words)
    assert set(model.used) == {used}


def test_other_benchmarks_run_the_model(data: Path) -> None:
    suite = build_suite("dataset", data, SuiteOptions(dataset="msd-lung"))
    assert suite.method == "ours"
    assert build_suite("dataset", data, SuiteOptions(dataset="msd-lung", method="paper")).method == "paper"
    with pytest.raises(InputError, match="method is 'theirs'; allowed are ours and paper"):
        suite.limnet("limnet-tiny", method="theirs")
