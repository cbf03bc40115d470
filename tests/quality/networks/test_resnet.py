from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limnet.errors import InputError
from limnet.quality.networks.resnet import ResNetQuality


def inputs(height: int, width: int, channels: int = 1, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.rand(batch, channels, height, width),
        torch.rand(batch, 1, height, width),
        torch.rand(batch, 1, height, width),
    )


@pytest.mark.parametrize(("depth", "channels"), [(18, 3), (50, 1)])
def test_one_logit_per_slice_at_any_depth_and_in_colour(depth: int, channels: int) -> None:
    network = ResNetQuality(depth, channels).eval()
    assert network.config == {"depth": depth, "image_channels": channels}
    with torch.no_grad():
        out = network(*inputs(33, 57, channels))
    assert out.shape == (2,)
    assert torch.isfinite(out).all()


def test_it_sees_the_order_of_the_masks() -> None:
    torch.manual_seed(0)
    network = ResNetQuality(18).eval()
    image, previous, current = inputs(48, 48)
    with torch.no_grad():
        assert not torch.allclose(network(image, previous, current), network(image, current, previous))


@pytest.mark.parametrize(
    ("image", "previous"),
    [
        ((2, 3, 40, 40), (2, 1, 40, 40)),
        ((2, 1, 31, 40), (2, 1, 31, 40)),
        ((2, 1, 40, 40), (2, 1, 40, 41)),
        ((2, 40, 40), (2, 40, 40)),
    ],
)
def test_wrong_shapes_are_refused(image: tuple[int, ...], previous: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected"):
        ResNetQuality(18).eval()(torch.rand(image), torch.rand(previous), torch.rand(previous))


@pytest.mark.parametrize("arguments", [{"depth": 20}, {"image_channels": 2}])
def test_wrong_configuration_is_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(InputError, match="choose"):
        ResNetQuality(**arguments)
