from __future__ import annotations

import pytest
import torch
from torch import nn

from limnet.blocks import resnet
from limnet.blocks.resnet import BasicBlock, ResNetTrunk, make_stage
from limnet.blocks.tiny import (
    Bottleneck,
    PlainBlock,
    PromptUNet,
    ResidualBlock,
    TinyEncoder,
    pad_to_stride,
    product,
    similarity,
    weight_dtype,
)
from limnet.errors import InputError
from tests.helpers.tiny_networks import scramble

WIDTHS = (16, 8, 24, 32)


def encoder() -> TinyEncoder:
    network = TinyEncoder(1, WIDTHS, (1, 2, 1, 1), embedding=6)
    scramble(network)
    return network


def test_encoder_strides_and_unit_embedding() -> None:
    maps = encoder()(torch.rand(2, 1, 64, 96))
    assert [tuple(m.shape) for m in maps] == [
        (2, 16, 16, 24),
        (2, 8, 8, 12),
        (2, 24, 4, 6),
        (2, 32, 2, 3),
        (2, 6, 8, 12),
    ]
    torch.testing.assert_close(maps[4].norm(dim=1), torch.ones(2, 8, 12))


def test_encoder_follows_its_weights_number_format() -> None:
    network = encoder().to(torch.bfloat16)
    assert weight_dtype(network) == torch.bfloat16
    assert {m.dtype for m in network(torch.rand(1, 1, 32, 32))} == {torch.bfloat16}


@pytest.mark.parametrize("block", [ResidualBlock(8), Bottleneck(8, 4), PlainBlock(8)])
def test_blocks_start_as_the_identity(block: nn.Module) -> None:
    x = torch.rand(2, 8, 6, 5)  # positive, so that the block's last ReLU changes nothing
    torch.testing.assert_close(block(x), x)


def test_similarity_by_hand() -> None:
    embedding = torch.nn.functional.normalize(torch.randn(1, 4, 3, 3), dim=1)
    weights = torch.zeros(1, 3, 3, 3)
    weights[0, 0, 1, 2] = 2.0
    weights[0, 1] = 1.0
    result = similarity(embedding, weights)
    expected = (embedding[0] * embedding[0, :, 1:2, 2:3]).sum(0)
    torch.testing.assert_close(result[0, 0], expected)
    assert float(result[0, 0, 1, 2]) == pytest.approx(1.0)
    assert float(result.abs().max()) <= 1 + 1e-6
    assert not result[0, 2].any()  # an empty map says nothing


def test_products_stay_in_float32_under_autocast() -> None:
    left, right = torch.rand(3, 50), torch.rand(50, 4)
    with torch.autocast("cpu", torch.bfloat16):
        result = product(left, right)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, left @ right)
    assert product(left.bfloat16(), right.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(("height", "width"), [(32, 64), (33, 63), (1, 95)])
def test_padding_repeats_the_edge(height: int, width: int) -> None:
    x = torch.rand(1, 2, height, width)
    padded = pad_to_stride(x)
    assert padded.shape[-2] % 32 == 0
    assert padded.shape[-1] % 32 == 0
    assert 0 <= padded.shape[-2] - height < 32
    torch.testing.assert_close(padded[..., :height, :width], x)
    torch.testing.assert_close(padded[..., -1, -1], x[..., -1, -1])
    assert pad_to_stride(padded) is padded


def test_decoder_uses_every_input() -> None:
    network = PromptUNet(maps=2, similarities=3, readout=5, widths=WIDTHS)
    scramble(network)
    features = [f.detach().requires_grad_() for f in encoder()(torch.rand(1, 1, 32, 64))[:4]]
    others = [torch.rand(1, 2, 32, 64), torch.rand(1, 3, 4, 8), torch.rand(1, 5, 2, 4)]
    inputs = [*features, *(o.requires_grad_() for o in others)]
    logits = network(tuple(inputs[:4]), *inputs[4:])
    assert logits.shape == (1, 1, 32, 64)
    logits.square().sum().backward()
    assert all(float(i.grad.abs().sum()) > 0 for i in inputs)  # type: ignore[union-attr]


# ResNet


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
    block = resnet.Bottleneck(64, 32, stride=2)
    assert block.conv1.stride == (1, 1)
    assert block.conv2.stride == (2, 2)


def test_skip_only_where_shapes_differ() -> None:
    stage = make_stage(BasicBlock, 64, 64, 2)
    assert stage[0].downsample is None
    assert make_stage(BasicBlock, 64, 128, 2, 2)[0].downsample is not None
    assert make_stage(resnet.Bottleneck, 64, 64, 2)[0].downsample is not None


def test_unknown_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="choose"):
        ResNetTrunk(19)
