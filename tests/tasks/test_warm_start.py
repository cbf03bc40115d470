from __future__ import annotations

import pytest
import torch
import torch.nn.functional as functional

from limnet.errors import InputError
from limnet.tasks.warm_start import warm_start
from tests.helpers.tiny_networks import disk, small_interaction, small_propagation


def test_it_says_what_the_click_network_says_to_the_mask_before() -> None:
    click, network = small_interaction(), small_propagation(decoder="unet")
    warm_start(network, click)
    with torch.no_grad():
        network.copy_gain.zero_()
    first, second = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    mask = disk(64, 64, (30, 22), 9)
    with torch.no_grad():
        before, features = network.encode_image(first), network.encode_image(second)
        assert all(torch.equal(a, b) for a, b in zip(features, click.encode_image(second), strict=True))
        last = network.remember(before, mask)
        found = network.segment(features, network.read(features, [last]), [last], last, first, mask)
        maps = torch.zeros(1, click.decoder.maps.in_channels // 16, 64, 64)
        maps[:, 0] = mask[:, 0]
        look = functional.avg_pool2d(mask, 8).flatten(2) @ before[5].flatten(2).transpose(1, 2)
        same = (functional.normalize(look, dim=2) @ features[5].flatten(2)).reshape(1, 1, 8, 8)
        similar = torch.zeros(1, 4, 8, 8)
        similar[:, [0, 3]] = same
        wanted = click.decoder(features[1:5], maps, similar)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="start from one of the same size"):
        warm_start(small_propagation(widths=(16, 16, 16, 24)), small_interaction())


def test_the_base_family_is_refused() -> None:
    with pytest.raises(InputError, match="TinyPropagation cannot start from a Linear"):
        warm_start(small_propagation(), torch.nn.Linear(1, 1))  # type: ignore[arg-type]
