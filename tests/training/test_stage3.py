"""One command from a folder of images and masks to a model that segments."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")

from limnet import InteractiveSegmenter
from limnet.interaction.networks.hrnet import HRNetOCR
from limnet.tasks.interaction import InteractionModule
from tests.helpers.fake_folders import STEPS, body, write_folder, write_nnunet
from tests.helpers.fake_nifti import oriented_affine, write_nifti
from tests.helpers.recipes import recipe
from tests.helpers.small_segmenter import small_segmenter


@pytest.fixture(scope="module")
def stage3() -> ModuleType:
    return recipe("stage3")


@pytest.fixture
def start(tmp_path: Path) -> Path:
    return small_segmenter().save_pretrained(tmp_path / "start")


def words(tmp_path: Path, start: Path, *more: str) -> list[str]:
    fixed = ["--init", str(start), "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--smoke"]
    return ["--data", "folder", "--root", str(tmp_path / "data"), *fixed, "--accelerator", "cpu", *more]


def test_own_folder_to_a_model(stage3, start, tmp_path, capsys, monkeypatch):
    learning, step = [], InteractionModule.training_step

    def watched(self, *arguments):
        learning.append(all(part.training for part in self.network.modules()))
        return step(self, *arguments)

    monkeypatch.setattr(InteractionModule, "training_step", watched)
    write_folder(tmp_path / "data")
    stage3.main(words(tmp_path, start))
    assert learning == [True, True], "batch norm learns after the first measurement"
    printed = capsys.readouterr().out
    assert "Dice after 1 click(s)" in printed
    assert f'from_pretrained("{tmp_path / "out" / "model"}")' in printed
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["steps"] == 2
    assert set(result["before"]) == set(result["after"]) >= {"dice_1", "dice_6"}

    old, new = InteractiveSegmenter.from_pretrained(start), InteractiveSegmenter.from_pretrained(tmp_path / "out/model")
    for role, changed in (("interaction", True), ("propagation", False)):
        first, second = (getattr(s, role).state_dict() for s in (old, new))
        same = all(torch.allclose(first[k], second[k], rtol=2e-3, atol=1e-6) for k in first)
        assert same != changed, role
    assert {p.name for p in (tmp_path / "out" / "images").iterdir()} == {"step_000000.png", "step_000002.png"}
    assert "val/dice_1" in (tmp_path / "out" / "metrics.csv").read_text()
    assert new.settings == old.settings
    image, labels = (a.transpose(2, 1, 0) for a in body(0))
    z, y, x = np.argwhere(labels == 1).mean(0).astype(int).tolist()
    case = new.open(image, spacing=(2.5, 1.5, 1.0))
    assert case.click((z, y, x)).shape == image.shape


def test_a_finished_training_is_found_again(stage3, start, tmp_path):
    write_folder(tmp_path / "data")
    hashes = []
    for more in ([], ["--resume", "--seed", "5"], ["--overwrite", "--seed", "5"]):
        stage3.main(words(tmp_path, start, *more))
        hashes.append(json.loads((tmp_path / "out" / "result.json").read_text())["weights_sha256"])
    assert hashes[0] == hashes[1] != hashes[2]
    before = (tmp_path / "out" / "metrics.csv").read_text()
    with pytest.raises(SystemExit, match=r"freeze_encoder False, now it is True;.* set --freeze-encoder as before"):
        stage3.main(words(tmp_path, start, "--resume", "--freeze-encoder"))
    assert (tmp_path / "out" / "metrics.csv").read_text() == before
    (tmp_path / "out" / "last.ckpt").write_bytes(b"rubbish")
    with pytest.raises(SystemExit, match=r"last.ckpt cannot be read .*; leave --resume out"):
        stage3.main(words(tmp_path, start, "--resume"))


def test_a_held_out_patient_without_objects(stage3, start, tmp_path, capsys):
    write_folder(tmp_path / "data", 3)
    write_nifti(tmp_path / "data" / "masks" / "case2.nii.gz", body(2)[1] * 0, oriented_affine("LPS", STEPS))
    (tmp_path / "data" / "splits.json").write_text('{"train": ["case0", "case1"], "val": ["case2"]}')
    with pytest.warns(UserWarning, match=r"no validation: split 'val' has 1 case\(s\) \(case2\)"):
        stage3.main(words(tmp_path, start))
    assert "no case with an object is held out" in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["steps"], result["before"]) == (2, {})
    assert (tmp_path / "out" / "model").is_dir()


def test_channel_of_another_data_set(stage3, start, tmp_path, monkeypatch):
    write_nnunet(tmp_path / "data")
    seen = []
    import limnet.datasets.nnunet as module

    monkeypatch.setattr(module, "modality_of", lambda content, channel: seen.append(channel) or "mr")
    options = words(tmp_path, start, "--channel", "1")
    options[1] = "nnunet"
    stage3.main(options)
    assert set(seen) == {1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--data": "foldr"}, "invalid choice"),
        ({"--root": None}, "needs --root"),
        ({"--data": None}, "add: --data folder"),
        ({"--channel": "1"}, "no channels to choose from"),
        ({"--init": "limnet-huge"}, "limnet-huge"),
        ({"--root": "nowhere"}, "nowhere is no folder"),
        ({"--validate-every": "0"}, "--validate-every: 0 came; give a whole number of at least 1"),
        ({"--images": "-1"}, "--images: -1 came"),
        ({"--seed": "-1"}, "--seed: -1 came"),
        ({"--steps": "0"}, "--steps: 0 came"),
    ],
)
def test_what_is_wrong_is_said(stage3, start, tmp_path, change, message, capsys):
    write_folder(tmp_path / "data")
    options = {"--data": "folder", "--root": str(tmp_path / "data"), "--init": str(start), **change}
    line = [word for key, value in options.items() if value is not None for word in (key, value)]
    with pytest.raises(SystemExit) as end:
        stage3.main([*line, "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--smoke"])
    assert message in f"{end.value} {capsys.readouterr().err}"


def test_a_folder_with_other_things_is_not_overwritten(stage3, start, tmp_path):
    write_folder(tmp_path / "data")
    (tmp_path / "out" / "model").mkdir(parents=True)
    (tmp_path / "out" / "model" / "thesis.docx").touch()
    with pytest.raises(SystemExit, match="holds other files"):
        stage3.main(words(tmp_path, start))
    assert not (tmp_path / "cache").exists()


def test_a_network_of_the_paper_keeps_its_windows(stage3, start, tmp_path, monkeypatch):
    """It is trained on the windows it is shown in use, and says which these were."""
    whole = InteractiveSegmenter.from_pretrained(start)
    hrnet = HRNetOCR(width=4, ocr_width=8, small=True, window_size=64)
    InteractiveSegmenter(hrnet, whole.propagation).save_pretrained(tmp_path / "hrnet")
    write_folder(tmp_path / "data")

    class Drawn(Exception):
        pass

    def drawn(args, processes):
        raise Drawn(args.size)

    line = words(tmp_path, tmp_path / "hrnet")
    with monkeypatch.context() as context:
        context.setattr(stage3, "data_module", drawn)
        with pytest.raises(Drawn, match="64"):
            stage3.main([word for word in line if word != "--smoke"])
    stage3.main([*line, "--images", "0"])
    assert not (tmp_path / "out" / "images").exists()
    assert InteractiveSegmenter.from_pretrained(tmp_path / "out" / "model").interaction.window_size == 32
