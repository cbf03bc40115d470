from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from limnet.quality.networks.tiny import CUES, comparison_cues, reference_channels
from tests.helpers.tiny_networks import disk


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
