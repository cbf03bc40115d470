from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import nn

from limnet import InteractiveSegmenter
from limnet.interaction import features as place
from limnet.interaction.features import fingerprint
from tests.helpers.small_segmenter import blob, small_segmenter


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def train(net: nn.Module) -> None:
    net(torch.ones(2, 1, 8, 8)).square().sum().backward()
    with torch.no_grad():
        for p in net.parameters():
            p.sub_(p.grad, alpha=1e-3)  # type: ignore[arg-type]


def see_statistics(net: nn.Module) -> None:
    with torch.no_grad():
        net(torch.rand(2, 1, 8, 8))


def swap_filters(net: nn.Module) -> None:
    with torch.no_grad():
        net[0].weight.copy_(net[0].weight.flip(0).clone())  # type: ignore[index,union-attr,operator]


def replace(net: nn.Module) -> None:
    net[2].weight = nn.Parameter(net[2].weight.detach() + 1)  # type: ignore[index,union-attr,operator]


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "load": lambda net: net.load_state_dict({k: v + 1 for k, v in net.state_dict().items()}),
    "train": train,
    "statistics": see_statistics,
    "data": lambda net: net[0].weight.data.mul_(1.0001),  # type: ignore[index,union-attr,operator]
    "one number by NumPy": lambda net: net[2].weight.detach().numpy().__setitem__((0, 0, 0, 0), 3.0),  # type: ignore[index,union-attr,operator]
    "order": swap_filters,
    "parameter": replace,
    "format": lambda net: net.to(torch.bfloat16),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_of_the_weights_is_seen(change: Callable[[nn.Module], object]) -> None:
    net = network()
    before = fingerprint(net)
    change(net)
    after = fingerprint(net)
    assert after != before
    assert after == fingerprint(copy.deepcopy(net))  # what a module that was never looked at says
    assert fingerprint(network()) == before


def test_hashed_once_and_again_after_a_change() -> None:
    net = network()
    with patch.object(place, "_hash", wraps=place._hash) as hashed:
        assert len({fingerprint(net) for _ in range(3)}) == 1
        assert hashed.call_count == 1
        train(net)
        fingerprint(net), fingerprint(net)
        assert hashed.call_count == 2


def test_layout_in_memory_is_no_change() -> None:
    net = network()
    before = fingerprint(net)
    assert fingerprint(net.to(memory_format=torch.channels_last)) == before


def test_unusual_weights() -> None:
    with torch.inference_mode():
        frozen = network()
    assert fingerprint(frozen) == fingerprint(network())
    odd = nn.Module()
    assert fingerprint(odd) == fingerprint(nn.ReLU())
    odd.register_buffer("flags", torch.tensor([True, False]))
    odd.register_buffer("waves", torch.ones(2, dtype=torch.complex128))
    odd.register_buffer("scalar", torch.tensor(2.0))
    before = fingerprint(odd)
    odd.flags.data[1] = True  # type: ignore[operator,union-attr,index]
    assert fingerprint(odd) != before


def test_networks_are_not_kept_alive() -> None:
    net = network()
    fingerprint(net)
    watch = weakref.ref(net)
    del net
    gc.collect()
    assert watch() is None


def test_a_volume_is_opened_without_hashing_and_identity_follows_the_weights() -> None:
    segmenter: InteractiveSegmenter = small_segmenter()
    volume = blob().astype(np.float32)
    segmenter.open(volume)
    before = segmenter.identity
    with patch.object(place, "_hash", wraps=place._hash) as hashed:
        segmenter.open(volume)
        assert hashed.call_count == 0
        segmenter.interaction.load_state_dict({k: v * 2 for k, v in segmenter.interaction.state_dict().items()})
        case = segmenter.open(volume)
        assert hashed.call_count == 2  # the click network and its image half
    assert segmenter.identity["sha256"] != before["sha256"]
    assert case._engine.identity == segmenter.identity
