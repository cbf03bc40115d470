"""What all networks keep: any size, slices of a batch apart, the same bits twice, bfloat16 near float32, one config."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limnet.interaction.networks.hrnet import HRNetOCR
from limnet.propagation.networks.xmem import XMem
from limnet.quality.networks.resnet import ResNetQuality
from tests.helpers.tiny_networks import Part, disk, small_interaction, small_propagation, small_quality


def clicked(network: Any, image: Tensor, first: Tensor, second: Tensor) -> Tensor:
    maps = [first * 0.8, second, second.flip(-1), first.flip(-2)][: len(network.prompt_channels)]
    result: Tensor = network(image, torch.cat(maps, 1))["instances"]
    return result


def propagated(network: Any, image: Tensor, first: Tensor, second: Tensor) -> Tensor:
    before, features = network.encode_image(image), network.encode_image(image * 0.9)
    last = network.remember(before, first)
    result: Tensor = network.segment(features, network.read(features, [last], 8), [last], last, image, first)
    return result


def segmented(network: Any, image: Tensor, first: Tensor, second: Tensor) -> Tensor:
    features = network.encode_image(image)
    sensory = network.initial_sensory(features, 2)
    value, sensory = network.encode_value(image, features, sensory, torch.cat([first, second], 1))
    result: Tensor = network.segment(features, value, sensory, size=image.shape[-2:])[2]
    return result


def compared(network: Any, image: Tensor, first: Tensor, second: Tensor) -> Tensor:
    result: Tensor = network(image, first, second)
    return result


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[..., Tensor], tuple[int, ...] | None]] = {
    "TinyInteraction": (small_interaction, clicked, (1,)),
    "HRNetOCR": (lambda: HRNetOCR(4, 4, True, mean=[0.4], std=[0.2]), clicked, (1,)),
    "TinyPropagation": (small_propagation, propagated, (1,)),
    "XMem": (lambda: XMem(8, 32, 16), segmented, (3,)),
    "TinyQuality": (small_quality, compared, None),
    "ResNetQuality": (ResNetQuality, compared, None),
}
"""Name -> how it is made, how it is called, and channels of its maps (None: one number a slice)."""


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name][0]().eval()


def inputs(height: int = 48, width: int = 40, seed: int = 1) -> tuple[Tensor, ...]:
    """Three slices and two masks of each."""
    image = torch.rand(3, 1, height, width, generator=torch.Generator().manual_seed(seed))
    masks = (disk(height, width, centre, radius) for centre, radius in (((20, 17), 9), ((24, 20), 6)))
    return image, *(mask.repeat(3, 1, 1, 1) for mask in masks)


def called(name: str, network: nn.Module, height: int = 48, width: int = 40, rows: slice = slice(0, 3)) -> Tensor:
    """The answer for some of three slices."""
    with torch.inference_mode():
        return NETWORKS[name][1](network, *(x[rows] for x in inputs(height, width)))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 57), (64, 40)])
def test_any_size(name: str, height: int, width: int) -> None:
    maps, result = NETWORKS[name][2], called(name, made(name), height, width)
    assert result.shape == ((3,) if maps is None else (3, *maps, height, width))
    assert result.dtype == torch.float32
    assert bool(result.isfinite().all())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_slices_of_a_batch_are_apart(name: str) -> None:
    network = made(name)
    alone = torch.cat([called(name, network, rows=slice(i, i + 1)) for i in range(3)])
    torch.testing.assert_close(called(name, network), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_configuration_and_weights_give_the_same_bits(name: str) -> None:
    network = made(name)
    again = type(network)(**json.loads(json.dumps(network.config)))
    again.load_state_dict(network.state_dict())
    assert again.config == network.config
    first = called(name, network)
    assert torch.equal(called(name, again.eval()), first)
    assert torch.equal(called(name, network), first)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"HRNetOCR"}))
def test_bfloat16_stays_close(name: str) -> None:
    """That of HRNetOCR is measured with real weights (tests/interaction/networks/test_hrnet.py)."""
    network = made(name)
    exact = called(name, network)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = called(name, network)
    for rough in (mixed, called(name, copy.deepcopy(network).to(torch.bfloat16))):
        assert rough.dtype == torch.float32 or name == "ResNetQuality"
        assert float((rough.float() - exact).abs().max()) < 0.05 * (1 + float(exact.abs().max()))


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"HRNetOCR"}))
def test_networks_export(name: str) -> None:
    """Halves of HRNetOCR are exported for any size (tests/interaction/networks/test_hrnet.py)."""
    network, call = made(name), NETWORKS[name][1]
    with torch.no_grad():
        exported = torch.export.export(Part(network, call), inputs()).module()
        torch.testing.assert_close(exported(*inputs(seed=2)), call(network, *inputs(seed=2)), rtol=1e-4, atol=1e-4)
