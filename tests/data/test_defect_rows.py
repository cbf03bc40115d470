from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limnet.data.defects import DefectDataset
from limnet.data.shards import ShardDataset
from limnet.errors import InputError
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from tests.helpers.recipes import recipe
from tests.helpers.scenes import disks_view

QUALITY = recipe("quality")
DefectRows, StartRows = QUALITY.DefectRows, QUALITY.StartRows


def test_rows_hold_both_masks_and_their_dice(tmp_path: Path) -> None:
    view, truth = disks_view((2, 60, 70), ((30, 30, 9),))
    shifted, empty = np.roll(truth, 9, 1), np.zeros_like(truth)
    rows = DefectRows(size=32)
    rows.add(view, 0, truth, shifted, truth)
    rows.add(view, 1, shifted, shifted, truth)  # equal masks
    rows.add(view, 1, empty, truth, truth)
    assert len(rows) == 2
    overlap = (2 * (shifted & truth).sum() + 1) / (2 * truth.sum() + 1)
    np.testing.assert_allclose(rows.rows["dice"][0], [1, overlap], rtol=1e-6)
    assert rows.rows["dice"][1][1] == 1
    assert rows.rows["dice"][1][0] < 0.01
    assert rows.save(tmp_path / "sub" / "a.npz") == 0.5
    data = DefectDataset(tmp_path / "sub" / "a.npz")
    assert len(data) == 2
    assert data[2**31, 0][0].shape == (32, 32)


def test_corrupted_pairs_differ_and_depend_on_their_seed() -> None:
    view, truth = disks_view((1, 60, 70), ((30, 30, 12),))
    found = []
    for seed in (0, 0, 1):
        rows, rng = DefectRows(size=32), np.random.default_rng(seed)
        for _ in range(12):
            rows.add_corrupted(view, 0, truth, rng)
        found.append(np.stack(rows.rows["dice"]))
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert found[0].min() > 0
    assert len(np.unique(found[0])) > 10
    rows = DefectRows()
    rows.add_corrupted(view, 0, np.zeros_like(truth), np.random.default_rng(0))
    with pytest.raises(InputError, match="collect more"):
        rows.save(Path("never.npz"))


def test_true_masks_stand_on_either_side() -> None:
    view, truth = disks_view((1, 60, 70), ((30, 30, 12),))
    rows, rng = DefectRows(size=32), np.random.default_rng(0)
    for _ in range(40):
        rows.add_truth(view, 0, np.roll(truth, 6, 1), truth, rng)
    rows.add_truth(view, 0, truth, truth, rng)  # nothing to learn
    dice = np.stack(rows.rows["dice"])
    assert dice.shape == (40, 2)
    assert ((dice == 1).sum(1) == 1).all()
    assert 10 < (dice[:, 0] == 1).sum() < 30


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
