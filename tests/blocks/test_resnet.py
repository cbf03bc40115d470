from __future__ import annotations

import pytest
import torch

from limnet.blocks.resnet import BasicBlock, Bottleneck, ResNetTrunk, make_stage
from limnet.errors import InputError


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


def test_unknown_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="choose"):
        ResNetTrunk(19)
