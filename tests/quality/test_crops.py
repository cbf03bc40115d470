from __future__ import annotations

import numpy as np
import pytest
import torch

from limnet.quality.crops import quality_crops
from tests.helpers.scenes import disks_view


@pytest.mark.parametrize("channels", [1, 3])
def test_window_holds_all_masks_and_shows_the_slice_below_them(channels: int) -> None:
    view, mask = disks_view((2, 90, 120), ((30, 40, 9),))
    first, second = mask.astype(np.float32) * 0.9, np.roll(mask, 25, 1).astype(np.float32)
    image, old, new = quality_crops(view, 1, [first, second], channels=channels, size=64)
    assert image.shape == (1, channels, 64, 64)
    assert old.shape == new.shape == (1, 1, 64, 64)
    assert not bool((old > 0.5).logical_and(new > 0.5).any()), "25 pixels apart, they do not touch"
    for m in (old[0, 0] > 0.5, new[0, 0] > 0.5):
        rows, columns = torch.nonzero(m, as_tuple=True)
        assert bool(m.any())
        assert 0 < int(rows.min()) <= int(rows.max()) < 63
        assert 0 < int(columns.min()) <= int(columns.max()) < 63
    inside = old[0, 0] > 0.5
    assert abs(float(image[0, 0][inside].mean()) - float(image[0, 0][~inside].mean())) > 0.1


def test_empty_masks_show_the_whole_slice() -> None:
    view, mask = disks_view((2, 60, 70), ((30, 30, 9),))
    image, crop = quality_crops(view, 0, [np.zeros(mask.shape, np.float32)], size=64)
    assert not crop.any()
    share = float((image > image.mean()).float().mean())  # the disk is as large in the window as it is in the slice
    assert share == pytest.approx(mask.mean(), abs=0.03)
