"""The published classes through save, load, golden file and verification."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from limnet.hub.card import describe_model
from limnet.hub.folder import TABLE, fit_arguments, name_of, resolve
from limnet.hub.model import list_zoo, load_model, locate, save_model
from limnet.hub.verify import compare_golden, read_golden, verify_model, write_golden
from limnet.interaction.networks.hrnet import HRNetOCR
from limnet.interaction.networks.tiny import TinyInteraction
from limnet.propagation.networks.tiny import TinyPropagation
from limnet.propagation.networks.xmem import XMem
from limnet.quality.networks.resnet import ResNetQuality

TinyQuality = pytest.importorskip("limnet.quality.networks.tiny").TinyQuality


def networks(family: str) -> dict[str, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        if family == "tiny":
            quality = TinyQuality(references=True)
            return {"interaction": TinyInteraction(), "propagation": TinyPropagation(), "quality": quality}
        return {
            "interaction": HRNetOCR(width=8, ocr_width=16, small=True),
            "propagation": TinyPropagation(),
            "quality": ResNetQuality(image_channels=3),
        }


@pytest.mark.parametrize("family", ["tiny", "base"])
def test_save_load_verify(tmp_path: Path, family: str) -> None:
    made = networks(family)
    folder = save_model(tmp_path / family, **made, settings={}, half=True)
    write_golden(folder)
    assert [str(problem) for problem in verify_model(folder) if problem.part != "size"] == []
    found = load_model(folder)
    for role, network in made.items():
        loaded = getattr(found, role)
        assert loaded.config == network.config
        for key, value in network.state_dict().items():
            torch.testing.assert_close(loaded.state_dict()[key], value, atol=1e-3, rtol=1e-3)
    trained = sum(p.numel() for net in made.values() for p in net.parameters())
    assert describe_model(folder)["parameters"] == pytest.approx(trained, rel=1e-4)


def test_golden_outputs_depend_on_the_weights_for_prompted_slices(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "tiny", **networks("tiny"), settings={})
    golden = read_golden(write_golden(folder).parent)
    model = load_model(folder)
    assert compare_golden(model, golden) == {}
    with torch.no_grad():
        model.quality.cues[3].weight += 0.5
    assert set(compare_golden(model, golden)) == {"quality"}


def test_every_class_of_the_table_exists_and_takes_its_configuration() -> None:
    classes = [resolve(role, name) for role, names in TABLE.items() for name in names]
    assert XMem in classes
    for cls in classes:
        assert name_of(cls)[1] == cls.__name__
        assert fit_arguments(cls, {}, "") == {}  # every argument has a default
    assert fit_arguments(XMem, {"key_dim": 64, "value_dim": 512, "hidden_dim": 0}, "")["hidden_dim"] == 0


@pytest.mark.parametrize("name", list_zoo())
def test_bundled_models_are_sound(name: str) -> None:
    assert [str(problem) for problem in verify_model(locate(name))] == []
