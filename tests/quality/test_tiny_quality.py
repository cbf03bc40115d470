from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from limnet.errors import InputError
from limnet.quality.networks.tiny import TinyQuality
from tests.helpers.tiny_networks import Part, disk, small_quality


@pytest.fixture(scope="module")
def network() -> TinyQuality:
    return small_quality()


def inputs(height: int = 64, width: int = 64, batch: int = 2, channels: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(batch, channels, height, width, generator=generator)
    first = disk(height, width, (20, 20), 9).expand(batch, -1, -1, -1)
    return image, first, disk(height, width, (24, 25), 6).expand(batch, -1, -1, -1)


def test_swapping_the_masks_negates_the_answer(network: TinyQuality) -> None:
    image, previous, current = inputs()
    with torch.inference_mode():
        answer = network(image, previous, current)
        swapped = network(image, current, previous)
        same = network(image, current, current)
    assert answer.shape == (2,)
    assert answer.dtype == torch.float32
    assert float(answer.abs().min()) > 1e-4
    assert torch.equal(answer, -swapped)
    assert torch.equal(same, torch.zeros(2))


@pytest.mark.parametrize("channels", [1, 3])
def test_score_at_an_odd_size(channels: int) -> None:
    image, previous, current = inputs(33, 70, 1, channels)
    network = small_quality(channels)
    assert network(image, previous, current).shape == (1,)
    assert network.score(image, current).shape == (1,)


def test_export(network: TinyQuality) -> None:
    image, previous, current = inputs()
    compared = torch.export.export(network, (image, previous, current)).module()
    scored = torch.export.export(Part(network, lambda n, *parts: n.score(*parts)), (image, current)).module()
    torch.testing.assert_close(compared(image, current, previous), network(image, current, previous))
    torch.testing.assert_close(scored(image, previous), network.score(image, previous))


def test_references_change_the_answer() -> None:
    network = small_quality(references=True)
    image, previous, current = inputs()
    seen = torch.rand(2, network.reference_channels, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        plain, told = network(image, previous, current), network(image, previous, current, seen)
        assert torch.equal(plain, network(image, previous, current, torch.zeros_like(seen)))
        one = network(image[1:], previous[1:], current[1:], seen[1:])
        assert network.score(image, current, seen).shape == (2,)
    assert (plain - told).abs().min() > 1e-4
    torch.testing.assert_close(told[1:], one, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"\(2, 3, 64, 64\); expected \(2, 7, 64, 64\)"):
        network(image, previous, current, seen[:, :3])
    again = TinyQuality(**json.loads(json.dumps(network.config)))
    again.load_state_dict(network.state_dict())
