from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limnet.data.shards import ShardDataset, StartRows
from limnet.errors import InputError
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume


def test_rows_become_a_shard_with_start_masks(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((3, 48, 40)).astype(np.float32)
    truth, before = np.zeros((48, 40), bool), np.zeros((48, 40), bool)
    truth[10:30, 12:30], before[14:34, 12:30] = True, True
    view = SliceView(Volume.from_array(image), window=(0.0, 1.0))
    rows = StartRows(64)
    rows.add(view, 1, truth, before)
    rows.add(view, 2, truth, truth)  # nothing wrong
    rows.add(view, 2, np.zeros_like(truth), np.zeros_like(truth))
    rows.add(view, 0, np.zeros_like(truth), before)  # all of it wrong
    assert len(rows) == 2
    rows.save(tmp_path / "deep" / "d2_7")
    data = ShardDataset(tmp_path / "deep", "d2_*")
    pixels, mask, start = (part.numpy()[0] for part in data.read(0))
    assert pixels.shape == mask.shape == start.shape == (64, 64)
    overlap = 2 * (mask & start).sum() / (mask.sum() + start.sum())
    assert overlap == pytest.approx(2 * (truth & before).sum() / (truth.sum() + before.sum()), abs=0.02)
    assert pixels[mask > 0].mean() == pytest.approx(255 * image[1][truth].mean(), abs=6)
    assert not data.read(1)[1].any()
    assert data.read(1)[2].any()


def test_nothing_to_save(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="collect more cases"):
        StartRows().save(tmp_path / "d2_1")
    assert not list(tmp_path.iterdir())
