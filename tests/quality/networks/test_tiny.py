from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from limnet.errors import InputError
from limnet.quality.networks.tiny import CUES, TinyQuality, comparison_cues, reference_channels
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


# cues


def scene(before: Tensor, after: Tensor, channels: int = 1) -> Tensor:
    """References in which the newest prompt changed `before` (1, 1, H, W) into `after`; nothing else is known."""
    references = torch.zeros(1, reference_channels(channels), *before.shape[2:])
    references[:, channels], references[:, channels + 1] = before[:, 0], after[:, 0]
    references[:, -2] = 0.5
    return references


LARGE, SMALL = disk(32, 32, (16, 16), 10), disk(32, 32, (16, 16), 5)


def test_a_change_like_the_newest_correction_agrees_with_it() -> None:
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    same = comparison_cues(image, LARGE, SMALL, scene(LARGE, SMALL))[0]
    back = comparison_cues(image, SMALL, LARGE, scene(LARGE, SMALL))[0]
    assert same.shape == (CUES,)
    np.testing.assert_allclose(same[:5].numpy(), [1, 0, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(back[:5].numpy(), [-1, 0, 0, 1, 0], atol=1e-6)
    assert same[5] == 1
    assert back[6] == 1, "the mask of the round before is that of the prompted slice"


def test_cues_of_empty_masks_are_finite_and_small() -> None:
    nothing = torch.zeros(1, 1, 32, 32)
    for old, new in ((nothing, LARGE), (LARGE, nothing)):
        cues = comparison_cues(torch.ones(1, 3, 32, 32), old, new, torch.zeros(1, reference_channels(3), 32, 32))
        assert cues.isfinite().all()
        assert cues.abs().max() <= 3


def test_samples_of_a_batch_do_not_touch_each_other() -> None:
    image = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    old, new = torch.cat([LARGE, SMALL]), torch.cat([SMALL, LARGE])
    references = torch.cat([scene(LARGE, SMALL), scene(SMALL, SMALL)])
    together = comparison_cues(image, old, new, references)
    alone = [comparison_cues(*(x[i : i + 1] for x in (image, old, new, references)))[0] for i in (0, 1)]
    torch.testing.assert_close(together, torch.stack(alone))
