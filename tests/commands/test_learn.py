"""`limnet learn` and `limnet segment --propose`, with the lesson of two steps; what is learned: tests/learning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from limnet import InteractiveSegmenter
from limnet.image.volume import Volume
from limnet.learning import adapter, training
from tests.helpers.fake_engine import phantom
from tests.helpers.small_segmenter import blob
from tests.test_cli import run

SHAPE = (8, 32, 40)


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Path, Path]:
    """An image and its mask in files."""
    volume = Volume.from_array(phantom(SHAPE), (5.0, 1.0, 1.0))
    image = volume.write_mask((phantom(SHAPE) * 1).astype(np.uint8), tmp_path / "image.nii.gz")
    return image, Volume.read(image).write_mask(blob(SHAPE), tmp_path / "mask.nii.gz")


@pytest.mark.filterwarnings("ignore:no ball was found")
def test_learn_list_propose_remove(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image, mask = finished
    monkeypatch.setenv("LIMNET_ADAPTERS", str(tmp_path / "adapters"))
    monkeypatch.setattr(training, "_MOST", 2)
    monkeypatch.setattr(training, "_BATCH", 1)
    monkeypatch.setattr(training, "_POOR", 0.0)
    session = tmp_path / "case.limnet"
    case = InteractiveSegmenter.from_pretrained("limnet-tiny").open(image)
    case.object("ball").set_mask(mask, frozen=False)
    case.save_session(session)
    assert run("learn", "from", "ball", session, "--case", f"{image},{mask}") == 0
    assert "learned from 2 case(s)" in capsys.readouterr().out
    assert run("learn", "list") == 0
    assert capsys.readouterr().out.startswith("ball: 2 case(s)")
    out = tmp_path / "out.nii.gz"
    point = ",".join(map(str, np.argwhere(blob(SHAPE))[60]))
    assert run("segment", image, "--propose", "ball", "--click", point, "--out", out) == 0
    assert out.exists()
    assert run("segment", image, "--propose", "bell", "--click", point, "--out", out) != 0
    assert "'bell'" in capsys.readouterr().err
    proposed = np.zeros(SHAPE, np.float32)
    for found in (True, False):  # no prompt is needed, as an option and in a file
        monkeypatch.setattr(adapter, "propose", lambda *_, found=found: proposed + 0.9 * (found & blob(SHAPE)))
        for number, entry in enumerate([None, {"volume": "image.nii.gz", "propose": "ball", "prompts": []}]):
            made = tmp_path / f"{found}{number}.nii.gz"
            (tmp_path / "jobs.json").write_text(json.dumps([entry and {**entry, "out": made.name}]))
            words = ["--prompts", tmp_path / "jobs.json"] if entry else [image, "--propose", "ball", "--out", made]
            assert run("segment", *words) == (0 if found else 2)
            assert made.exists() == found
    assert "no ball was found in" in capsys.readouterr().err
    assert run("learn", "remove", "ball") == 0
    assert run("learn", "list") == 0
    assert capsys.readouterr() == ("", f"nothing was learned yet in {tmp_path / 'adapters'}\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["learn", "from", "ball"], "give finished cases"),
        (["learn", "from", "ball", "--case", "image.nii.gz"], "an image and its mask"),
        (["learn", "from", "../ball", "--case", "a,b"], "name of a task"),
        (["learn", "from", "ball", "--case", "a,b", "--case", "a,b"], "a came twice"),
        (["learn", "from", "ball", "a.limnet", "./a.limnet"], "a.limnet came twice"),
        (["learn", "from", "ball", "--case", "a,b", "--object", "ball"], "give sessions"),
        (["learn", "from", "ball", "a.limnet", "--label", "1"], "give --case"),
        (["view", "--index", "1"], "give the file"),
        (["view", "--gaps", "x"], "gaps='x' is unknown"),
        (["segment", "a.nii", "--propose", "x", "--start", "b.nii", "-c", "1,1,1", "-o", "c.nii"], "leave one of them"),
    ],
)
def test_wrong_words_are_told(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    assert told in capsys.readouterr().err


def test_a_session_without_the_object_and_an_image_of_two_volumes_are_refused(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = tmp_path / "case.limnet"
    case = InteractiveSegmenter.from_pretrained("limnet-tiny").open(finished[0])
    case.save_session(session)
    assert run("learn", "from", "ball", session) == 2
    assert "nothing is marked" in capsys.readouterr().err
    assert run("learn", "from", "ball", session, "--object", "liver") == 2
    assert "'liver'" in capsys.readouterr().err
    np.save(tmp_path / "two.npy", np.zeros((2, *SHAPE)))
    assert run("learn", "from", "ball", "--case", f"{tmp_path / 'two.npy'},{finished[1]}") == 2
    assert "holds 2 volumes, one is expected. Save that one" in capsys.readouterr().err
