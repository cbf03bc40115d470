from __future__ import annotations

import numpy as np
import pytest
import torch

from limnet.quality.assessor import Prompted, quality_crops, reference_crops
from limnet.quality.networks.tiny import reference_channels
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


@pytest.mark.parametrize("channels", [1, 3])
def test_prompted_slices_are_seen_through_the_same_window(channels: int) -> None:
    view, mask = disks_view((9, 90, 120), ((30, 40, 9),), (2.0, 1.0, 1.0))
    first, empty = mask.astype(np.float32), np.zeros(mask.shape, np.float32)
    moved = np.roll(first, 4, 0)
    said = Prompted(6, empty, {6: first, 1: moved, 8: empty})
    image, old, new = quality_crops(view, 2, [first, moved], channels=channels, size=64)
    seen = reference_crops(view, 2, [first, moved], said, channels=channels, size=64)
    assert seen.shape == (1, reference_channels(channels), 64, 64)
    assert torch.equal(seen[:, :channels], image), "all slices of this volume look alike"
    assert not seen[:, channels].any()
    assert torch.equal(seen[:, channels + 1], old[:, 0])
    assert torch.equal(seen[:, 2 * channels + 2], new[:, 0]), "slice 1 is nearer than slice 8"
    far, near = float(seen[0, -2, 0, 0]), float(seen[0, -1, 0, 0])
    assert (seen[0, -2] == far).all()
    assert 1 / far - 1 == pytest.approx(4 * (1 / near - 1), rel=1e-5), "four slices away, and one"


def test_what_was_not_said_is_zero() -> None:
    view, mask = disks_view((3, 60, 70), ((30, 30, 9),))
    first = mask.astype(np.float32)
    assert not reference_crops(view, 0, [first], None, size=32).any()
    alone = reference_crops(view, 0, [first], Prompted(2, first, {2: first}), size=32)
    assert alone[0, :3].flatten(1).any(1).all()
    assert not alone[0, 3:5].any()
    assert not alone[0, -1].any()
