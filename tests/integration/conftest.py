from __future__ import annotations

import pytest

from limnet import InteractiveSegmenter
from tests.helpers.small_segmenter import small_segmenter


@pytest.fixture(scope="module")
def segmenter() -> InteractiveSegmenter:
    return small_segmenter()
