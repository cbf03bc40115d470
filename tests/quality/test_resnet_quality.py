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


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 57), (64, 40)])
def test_one_logit_per_slice_for_any_size(depth: int, height: int, width: int) -> None:
    network = ResNetQuality(depth).eval()
    with torch.no_grad():
        out = network(*inputs(height, width))
    assert out.shape == (2,)
    assert torch.isfinite(out).all()


def test_colour_and_configuration() -> None:
    network = ResNetQuality(18, image_channels=3).eval()
    again = ResNetQuality(**network.config)
    again.load_state_dict(network.state_dict())
    x = inputs(40, 40, 3)
    with torch.no_grad():
        assert torch.equal(network(*x), again.eval()(*x))


def test_a_batch_equals_its_slices() -> None:
    network = ResNetQuality(18).eval()
    image, previous, current = inputs(48, 48, batch=3)
    with torch.no_grad():
        together = network(image, previous, current)
        alone = torch.cat([network(image[i : i + 1], previous[i : i + 1], current[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-4)


def test_it_sees_the_order_of_the_masks() -> None:
    torch.manual_seed(0)
    network = ResNetQuality(18).eval()
    image, previous, current = inputs(48, 48)
    with torch.no_grad():
        assert not torch.allclose(network(image, previous, current), network(image, current, previous))


def test_bfloat16_and_export() -> None:
    network = ResNetQuality(18).eval()
    x = inputs(48, 40)
    with torch.no_grad():
        exact = network(*x)
        exported = torch.export.export(network, x).module()(*x)
        assert torch.allclose(exported, exact, atol=1e-4)
        rough = network.bfloat16()(*x)
    assert rough.dtype == torch.bfloat16
    assert torch.allclose(rough.float(), exact, atol=0.1, rtol=0.1)


def test_gradients_reach_the_first_layer() -> None:
    network = ResNetQuality(18)
    network(*inputs(32, 32)).sum().backward()
    assert network.trunk.conv1.weight.grad is not None


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
