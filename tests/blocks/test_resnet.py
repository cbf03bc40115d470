from __future__ import annotations

import pytest
import torch
from torch import nn

from limnet.blocks.fold import fold_batchnorm
from limnet.blocks.resnet import BasicBlock, Bottleneck, ResNetTrunk, make_stage
from limnet.errors import InputError


def shaken(module: nn.Module) -> nn.Module:
    """The module in eval mode with statistics and affine parameters away from their start values."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.3)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.uniform_(part.weight, 0.3, 1)
            nn.init.normal_(part.bias, std=0.3)
    return module.eval()


@pytest.mark.parametrize(("depth", "channels"), [(18, [64, 128, 256, 512]), (50, [256, 512, 1024, 2048])])
def test_trunk_gives_four_scales(depth: int, channels: list[int]) -> None:
    trunk = ResNetTrunk(depth, in_channels=2).eval()
    with torch.no_grad():
        maps = trunk(torch.rand(1, 2, 65, 96))
    assert trunk.channels == channels
    assert [tuple(m.shape[1:]) for m in maps] == [
        (c, -(-65 // s), 96 // s) for c, s in zip(channels, (4, 8, 16, 32), strict=True)
    ]


def test_trunk_has_the_usual_number_of_parameters() -> None:
    assert sum(p.numel() for p in ResNetTrunk(18).parameters()) == 11_176_512
    assert sum(p.numel() for p in ResNetTrunk(50).parameters()) == 23_508_032


def test_bottleneck_strides_on_the_3x3() -> None:
    block = Bottleneck(64, 32, stride=2)
    assert block.conv1.stride == (1, 1)
    assert block.conv2.stride == (2, 2)


def test_skip_only_where_shapes_differ() -> None:
    stage = make_stage(BasicBlock, 64, 64, 2)
    assert stage[0].downsample is None
    assert make_stage(BasicBlock, 64, 128, 2, 2)[0].downsample is not None
    assert make_stage(Bottleneck, 64, 64, 2)[0].downsample is not None


@pytest.mark.parametrize("arguments", [{"depth": 19}, {"depth": 18, "stages": 5}])
def test_unknown_sizes_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(InputError, match="choose"):
        ResNetTrunk(**arguments)


@pytest.mark.parametrize("depth", [18, 50])
def test_folding_changes_nothing_but_rounding(depth: int) -> None:
    torch.manual_seed(0)
    trunk = shaken(ResNetTrunk(depth))
    x = torch.rand(2, 3, 40, 48)
    with torch.no_grad():
        before = [m.clone() for m in trunk(x)]
        after = fold_batchnorm(trunk)(x)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in trunk.modules())
    for left, right in zip(before, after, strict=True):
        assert (left - right).abs().max() < 1e-5 * left.abs().max()


def test_folding_handles_sequences_biases_and_groups() -> None:
    torch.manual_seed(0)
    net = shaken(
        nn.Sequential(
            nn.Conv2d(4, 8, 3, groups=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 1),
            nn.ReLU(),
            nn.BatchNorm2d(8),
        )
    )
    x = torch.rand(1, 4, 9, 9)
    with torch.no_grad():
        before = net(x)
        after = fold_batchnorm(net)(x)
    assert isinstance(net[1], nn.Identity)
    assert isinstance(net[3], nn.BatchNorm2d)
    assert isinstance(net[6], nn.BatchNorm2d)
    assert torch.allclose(before, after, atol=1e-5)


def test_folding_in_training_mode_is_refused() -> None:
    with pytest.raises(InputError, match="eval"):
        fold_batchnorm(ResNetTrunk(18, stages=1).train())
