from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limnet.blocks.resnet import ResNetTrunk
from limnet.errors import ModelFormatError
from limnet.hub.convert import convert_imagenet_resnet, quality_from_state
from limnet.hub.folder import load_component
from limnet.interaction.networks.hrnet import IMAGENET_MEAN, IMAGENET_STD
from limnet.quality.networks.resnet import ResNetQuality
from tests.helpers.recipes import recipe


def trained(depth: int) -> ResNetTrunk:
    """A trunk for colour pictures with statistics that are not those of a fresh one."""
    torch.manual_seed(depth)
    trunk = ResNetTrunk(depth)
    for name, buffer in trunk.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return trunk.eval().requires_grad_(False)


def public(trunk: ResNetTrunk) -> dict[str, Tensor]:
    """What torchvision's file of such a network holds."""
    channels = trunk.channels[-1]
    return {**trunk.state_dict(), "fc.weight": torch.randn(1000, channels), "fc.bias": torch.randn(1000)}


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_a_grey_slice_looks_as_it_did_in_colour(depth: int, tmp_path: Path) -> None:
    trunk = trained(depth)
    torch.save(public(trunk), tmp_path / "resnet.pth")
    convert_imagenet_resnet(tmp_path / "resnet.pth", tmp_path / "out")
    network = load_component(tmp_path / "out", "quality")
    assert isinstance(network, ResNetQuality)
    assert network.config == {"depth": depth, "image_channels": 1}
    slices, masks = torch.rand(2, 1, 64, 64), (torch.rand(2, 2, 64, 64) > 0.5).float()
    colour = (slices - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    seen = torch.cat([slices, masks], 1) * 2 - 1
    with torch.no_grad():
        expected, found = (part.bn1(part.conv1(x)) for part, x in ((trunk, colour), (network.trunk, seen)))
    inner = (..., slice(2, -2), slice(2, -2))  # the padding of the border is another grey
    assert torch.allclose(found[inner], expected[inner], atol=1e-4)
    for name, value in trunk.state_dict().items():
        if not name.startswith(("conv1.", "bn1.running_mean")):
            assert torch.equal(network.trunk.state_dict()[name], value), name
    with torch.no_grad():
        assert torch.equal(network(slices, masks[:, :1], masks[:, 1:]), torch.zeros(2))


def test_masks_are_learnt_from_the_start() -> None:
    network = quality_from_state(public(trained(18))).train().requires_grad_(True)
    torch.nn.init.ones_(network.head.weight)
    network(torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32)).sum().square().backward()
    gradient = network.trunk.conv1.weight.grad
    assert gradient is not None
    assert (gradient.abs().amax((0, 2, 3)) > 0).all()


def deeper(state: dict[str, Tensor]) -> None:
    state["layer3.6.conv1.weight"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layer2.0.bn1.weight"), "layer2.0.bn1.weight is missing"),
        (lambda s: s.pop("conv1.weight"), "conv1.weight is missing"),
        (lambda s: s.update({"conv1.weight": torch.zeros(64, 1, 7, 7)}), r"shape \(64, 1, 7, 7\)"),
        (deeper, "layer3.6.conv1.weight is unknown"),
        (lambda s: s.update({"bn1.bias": torch.full((64,), torch.nan)}), "NaN"),
        (lambda s: s.update({"epoch": 3}), "flat dict"),
    ],
)
def test_foreign_files_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    state: dict[str, Any] = public(trained(18))
    change(state)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(ModelFormatError, match=message):
        convert_imagenet_resnet(tmp_path / "x.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_training_starts_from_it_or_at_another_depth(tmp_path: Path) -> None:
    torch.save(public(trained(18)), tmp_path / "resnet18.pth")
    start = convert_imagenet_resnet(tmp_path / "resnet18.pth", tmp_path / "start")
    words = ["train", "--smoke", "--preset", "paper", "--accelerator", "cpu", "--images", "0", "--steps", "1"]
    out = ["--out", str(tmp_path / "out")]
    recipe("quality").main([*words, *out, "--init", str(start)])
    after = load_component(tmp_path / "out" / "quality", "quality").state_dict()
    before = load_component(start, "quality").state_dict()
    assert (after["trunk.layer1.0.conv1.weight"] - before["trunk.layer1.0.conv1.weight"]).abs().max() < 0.01
    for more, message in (
        (["--depth", "50", "--init", str(start)], "--init holds a ResNet-18, --depth is 50"),
        (["--depth", "50", "--network", "TinyQuality"], "TinyQuality has no depth"),
    ):
        with pytest.raises(SystemExit, match=message):
            recipe("quality").main([*words, "--out", str(tmp_path / "refused"), *more])
    recipe("quality").main([*words, "--out", str(tmp_path / "deep"), "--depth", "50"])
    assert load_component(tmp_path / "deep" / "quality", "quality").config["depth"] == 50
