"""Clicks at the very border of the image, with the released weights."""

from __future__ import annotations

import numpy as np
import pytest

from limnet import InteractiveSegmenter
from limnet.metrics import dice


@pytest.fixture(scope="module")
def segmenter() -> InteractiveSegmenter:
    return InteractiveSegmenter.from_pretrained("limnet-tiny", precision="fp32")


@pytest.mark.parametrize("border", [0, 1, 3])  # at the lower one the first look shows a part with a border in sight
def test_a_click_on_the_border_finds_the_whole_object(border: int, segmenter: InteractiveSegmenter) -> None:
    """A square of 20 pixels that touches the border; the answers were dots of 8 to 39 pixels."""
    truth = np.zeros((3, 64, 64), bool)
    truth[:, :20, 22:42] = True
    clicked = np.zeros((64, 64), bool)
    clicked[0, 32] = True
    truth, clicked = np.rot90(truth, border, (1, 2)), np.rot90(clicked, border)
    row, column = (int(v) for v in np.argwhere(clicked)[0])
    case = segmenter.open(np.where(truth, 120.0, 40.0), spacing=(2.0, 1.0, 1.0))
    found = case.click((1, row, column), propagate=False)
    assert dice(found[1], np.ascontiguousarray(truth[1])) > 0.9
