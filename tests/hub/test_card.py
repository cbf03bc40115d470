from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from limnet.errors import ModelFormatError
from limnet.hub.card import (
    Measurement,
    Results,
    describe_model,
    license_of,
    make_card,
    read_results,
    write_card,
    write_results,
)
from limnet.hub.model import save_model
from tests.helpers import standins


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    standins.register(monkeypatch)
    return save_model(tmp_path / "mini", **standins.build(), settings={"tau": 0.5}, half=True)


RESULTS = Results(
    rows=(
        Measurement("Dice after 6 rounds", 0.81, "make demo", dataset="one CT | five organs"),
        Measurement("Time per round", "1.2 ± 0.1", "limnet demo", unit="s"),
    ),
    data=("synthetic volumes",),
    limits=("thin vessels",),
    machine="two cores",
)


def test_a_save_without_card_makes_one(folder: Path) -> None:
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "limnet"
    assert card.data.pipeline_tag == "image-segmentation"
    assert 'from_pretrained("mini")' in card.text
    assert "Nothing has been measured yet" in card.text
    assert "Not recorded" in card.text


def test_card_holds_results_with_their_commands(folder: Path) -> None:
    write_results(folder, RESULTS)
    assert read_results(folder) == RESULTS
    text = make_card(folder, name="mini", source="org/mini")
    write_card(folder, text)
    card = ModelCard.load(folder / "README.md")
    assert card.data.eval_results is not None
    assert card.data.eval_results[0].metric_value == 0.81
    assert r"| Dice after 6 rounds | one CT \| five organs | 0.81 | `make demo` |" in text
    assert "| Time per round |  | 1.2 ± 0.1 s | `limnet demo` |" in text
    for piece in ("- synthetic volumes\n", "- thin vessels\n", 'from_pretrained("org/mini")'):
        assert piece in text
    assert "Machine: two cores." in text
    assert "\n\n\n" not in text


def test_description(folder: Path) -> None:
    write_results(folder, RESULTS)
    found = describe_model(folder)
    networks = standins.build()
    assert found["parameters"] == sum(p.numel() for net in networks.values() for p in net.parameters())
    assert found["components"]["interaction"]["class"] == "MiniInteraction"
    assert found["components"]["interaction"]["dtypes"] == ["F16", "F32", "I64"]
    assert (found["license"], found["card"], found["golden"]) == ("apache-2.0", True, False)
    assert found["results"][0]["command"] == "make demo"
    json.dumps(found)


def test_every_number_names_its_command(folder: Path) -> None:
    row = {"measure": "Dice", "value": 0.8, "command": "make demo"}
    for change, message in (
        ({"command": ""}, "lacks measure, value or command"),
        ({"value": None}, r"Measurement value is 'None' \(NoneType\); expected float | int | str"),
        ({"note": "x"}, "unexpected keyword argument 'note'"),
    ):
        content = {"format_version": 1, "results": [{**row, **change}]}
        (folder / "results.json").write_text(json.dumps(content))
        with pytest.raises(ModelFormatError, match=message):
            make_card(folder)
    (folder / "results.json").write_text('{"format_version": 1, "data": "x"}')
    with pytest.raises(ModelFormatError, match=r"data is 'x' \(str\); expected tuple"):
        read_results(folder)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("---\nlicense: mit\n---\n# x", "mit"),
        ("---\ntags: []\n---\nlicense: mit", None),
        ("license: mit", None),
        (None, None),
    ],
)
def test_licence_is_read_from_the_head_only(text: str | None, found: str | None) -> None:
    assert license_of(text) == found
