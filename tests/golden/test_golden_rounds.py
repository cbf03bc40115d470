"""Real rounds with the released weights on real volumes give the masks they gave before, bit for bit."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from limnet import InteractiveSegmenter
from limnet.metrics import dice
from tests.golden.rounds import CLOSE, SOURCES, Stored, difference, play, processor, released, sha256, stored
from tests.helpers.golden import shared_path

ADVICE = (
    "\nIf the change is meant, keep it by `python -m tests.golden --write` in the commit that makes it, with the "
    "measured reason in its message."
)


@pytest.fixture(scope="module")
def segmenter() -> InteractiveSegmenter:
    return released()


@pytest.mark.parametrize("name", SOURCES)
def test_golden_rounds(name: str, segmenter: InteractiveSegmenter):
    shared_path("data", *SOURCES[name].file.split("/"))
    found = play(shared_path("data"), name, segmenter)
    expected, made_on = stored()
    assert [step.what for step in found] == [step.what for step in expected[name]]
    pairs = list(zip(found, expected[name], strict=True))
    changes = [change for pair in pairs if (change := difference(*pair))]
    if made_on == processor():
        assert not changes, "\n".join([name, *changes]) + ADVICE
        return
    other = f"stored on {made_on}, this is {processor()}: masks are compared by Dice >= {CLOSE}, not by bits"
    if changes:
        warnings.warn("\n".join([other, name, *changes]), stacklevel=1)
    far = [difference(new, old) for new, old in pairs if dice(new.mask, old.mask) < CLOSE]
    assert not far, "\n".join([other, name, *map(str, far)]) + ADVICE


@pytest.mark.parametrize("name", SOURCES)
def test_the_table_describes_the_masks(name: str):
    steps: list[Stored] = stored()[0][name]
    assert [s.sha256 for s in steps] == [sha256(s.mask) for s in steps]
    assert [s.voxels for s in steps] == [int(s.mask.sum()) for s in steps]
    undone, before = (next(s.mask for s in steps if what in s.what) for what in ("undo", "negative"))
    assert np.array_equal(undone, before)
