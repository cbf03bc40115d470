"""The protocol of the CVPR 2025 challenge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from limnet.bench.challenge_means import challenge_means
from limnet.bench.challenge_rounds import challenge_click
from limnet.bench.registry import build_suite
from limnet.bench.report import markdown_tables
from limnet.bench.runner import run_suite
from limnet.bench.suite import SuiteOptions
from tests.helpers import fake_cvpr25
from tests.helpers.bench import Boxer, Disc


def test_click_is_the_deepest_voxel_of_the_largest_error():
    truth = np.zeros((9, 20, 20), bool)
    truth[1:8, 3:10, 3:10] = True
    mask = truth.copy()
    mask[:, 3:5] = False  # missed: a slab of 7 x 2 x 7
    mask[2:5, 14:17, 14:17] = True  # surplus: a smaller cube
    click = challenge_click(truth, mask)
    assert click is not None
    assert click.positive
    assert click.size == 7 * 2 * 7
    error = np.zeros_like(truth)
    error[1:8, 3:5, 3:10] = True
    assert ndimage.distance_transform_edt(error)[click.zyx] == 1.0
    mask[1:8, 14:19, 11:19] = True  # now the surplus is larger
    surplus = challenge_click(truth, mask)
    assert surplus is not None
    assert not surplus.positive
    assert mask[surplus.zyx]
    assert challenge_click(truth, mask) == surplus
    assert challenge_click(truth, truth) is None
    # at the edge of the volume nothing lies beyond: the deepest voxel is there, not one away from it
    edge = np.zeros((9, 9, 9), bool)
    edge[:, :, :4] = True
    where = challenge_click(edge, np.zeros_like(edge))
    assert where is not None
    assert where.zyx[2] == 0


def test_missed_and_surplus_voxels_that_touch_are_one_error():
    truth, mask = np.zeros((1, 9, 9), bool), np.zeros((1, 9, 9), bool)
    truth[0, 2:5, 1:4] = True
    mask[0, 2:5, 4:7] = True
    found = challenge_click(truth, mask)
    assert found is not None
    assert found.size == 18


def test_large_regions_at_half_resolution(monkeypatch):
    truth = np.zeros((33, 41, 41), bool)
    truth[8:27, 10:31, 10:31] = True
    exact = challenge_click(truth, np.zeros_like(truth))
    monkeypatch.setattr("limnet.bench.challenge_rounds.LARGE", 10)
    rough = challenge_click(truth, np.zeros_like(truth))
    assert exact is not None
    assert rough is not None
    assert truth[rough.zyx]
    depth = ndimage.distance_transform_edt(truth)
    assert depth[rough.zyx] >= depth[exact.zyx] - 2


def test_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "limnet.metrics.surface.normalized_surface_dice", lambda mask, truth, spacing, tolerance: tolerance / 4
    )
    suite = build_suite("cvpr25", fake_cvpr25.build(tmp_path / "data"), SuiteOptions())
    assert "files" not in suite.config()["rounds"]
    boxed = run_suite(suite, Boxer(), tmp_path / "boxer.json", views=False)
    assert boxed is not None
    assert not boxed.errors
    assert boxed.groups == ["CT", "PET", "US"]
    rounds = {
        (o["case"], o["object"]): [
            r["round"] for r in boxed.table.rows if r["case"] == o["case"] and r["object"] == o["object"]
        ]
        for o in boxed.objects
    }
    assert rounds[("CT_AMOS_amos_0018", "id 2")] == [0, 1, 2, 3, 4, 5]  # right after the box: rounds are repeated
    assert rounds[("PET_Lesion_5", "id 1")] == [1, 2, 3, 4, 5]  # no box in the file
    assert boxed.curve(group="CT") == [1.0] * 5
    means = challenge_means(boxed)
    assert means["CT"] == (1, {"DSC_AUC": 4.0, "NSD_AUC": 2.0, "DSC_Final": 1.0, "NSD_Final": 0.5})
    assert means["all"][0] == 3
    failing = run_suite(suite, Disc(fail_on="amos_0018 id 2"), tmp_path / "disc.json", views=False)
    assert failing is not None
    alone = failing.table.curves("dice")[("CT_AMOS_amos_0018", "id 1")]
    assert challenge_means(failing)["CT"][1]["DSC_Final"] == pytest.approx(alone[-1] / 2)  # a failed object counts 0
    text = markdown_tables([boxed, failing])
    assert "| boxer | CT | 1 | 4.000 | 2.000 | 1.000 | 0.500 |" in text
