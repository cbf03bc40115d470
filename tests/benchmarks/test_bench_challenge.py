"""The protocol of the CVPR 2025 challenge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.core.record import Record
from benchmarks.core.report import markdown_tables
from benchmarks.core.suite import SuiteOptions, build_suite
from benchmarks.suites.cvpr25 import NAMES, challenge_click, challenge_means
from limnet.errors import InputError
from tests.helpers.bench import Boxer, Disc, completed
from tests.helpers.fake_volumes import build_cvpr25


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
    # the border of the volume is a border of the error: five slices, the middle one is deepest
    edge = np.zeros((9, 9, 9), bool)
    edge[4:] = True
    edge[4:, 0], edge[4:, :, 0] = False, False
    where = challenge_click(edge, np.zeros_like(edge))
    assert where is not None
    outside = np.pad(edge, 3)
    depth = ndimage.distance_transform_edt(outside)
    assert depth[tuple(v + 3 for v in where.zyx)] == depth.max() == 3.0
    assert where.zyx[0] == 6


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
    monkeypatch.setattr("benchmarks.suites.cvpr25.LARGE", 10)
    rough = challenge_click(truth, np.zeros_like(truth))
    assert exact is not None
    assert rough is not None
    assert truth[rough.zyx]
    depth = ndimage.distance_transform_edt(truth)
    assert depth[rough.zyx] >= depth[exact.zyx] - 2


def test_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "benchmarks.core.rounds.normalized_surface_dice", lambda mask, truth, spacing, tolerance: tolerance / 4
    )
    suite = build_suite("cvpr25", build_cvpr25(tmp_path / "data"), SuiteOptions())
    assert "files" not in suite.config()["rounds"]
    assert "parts" not in suite.config()
    boxed = completed(suite, Boxer(), tmp_path / "boxer.json", views=False)
    assert not boxed.errors
    assert boxed.groups == ["CT", "PET", "US"]
    rounds = {
        (o["case"], o["object"]): [
            r["round"] for r in boxed.table.rows if r["case"] == o["case"] and r["object"] == o["object"]
        ]
        for o in boxed.rows
    }
    assert rounds[("CT_AMOS_amos_0018", "id 2")] == [0, 1, 2, 3, 4, 5]  # right after the box: rounds are repeated
    assert rounds[("PET_Lesion_5", "id 1")] == [1, 2, 3, 4, 5]  # no box in the file
    assert boxed.curve(group="CT") == [1.0] * 5
    means = challenge_means(boxed)
    assert means["CT"] == (1, {"DSC_AUC": 4.0, "NSD_AUC": 2.0, "DSC_Final": 1.0, "NSD_Final": 0.5})
    assert means["all"][0] == 3
    failing = completed(suite, Disc(fail_on="amos_0018 id 2"), tmp_path / "disc.json", views=False)
    alone = failing.table.curves("dice")[("CT_AMOS_amos_0018", "id 1")]
    assert challenge_means(failing)["CT"][1]["DSC_Final"] == pytest.approx(alone[-1] / 2)  # a failed object counts 0
    text = markdown_tables([boxed, failing])
    assert "| boxer | CT | 1 | 4.000 | 2.000 | 1.000 | 0.500 |" in text
    assert "| **boxer** | box, 5 clicks |" in text
    assert f"| **{failing.name}** | 5 clicks |" in text  # takes no box


def test_order_of_the_spacing(tmp_path: Path):
    root = build_cvpr25(tmp_path / "data")
    plain, turned = (
        build_suite("cvpr25", root, SuiteOptions(dataset=f"cvpr25{o}")) for o in ("", ":spacing_order=xyz")
    )
    assert plain.cases[0].read_image().spacing == (3.0, 0.7, 0.9)
    assert turned.cases[0].read_image().spacing == (0.9, 0.7, 3.0)
    assert plain.config() == build_suite("cvpr25", root, SuiteOptions()).config()
    assert turned.config()["parts"] == {"cvpr25": {"spacing_order": "xyz"}}, "other numbers, another configuration"
    for given, message in (
        ("cvpr25:spacing_order=yxz", "allowed are zyx, xyz"),
        ("cvpr25:order=xyz", 'cannot be opened with {"order": "xyz"}'),
        ("btcv", "it reads cvpr25 alone"),
    ):
        with pytest.raises(InputError, match=message):
            build_suite("cvpr25", root, SuiteOptions(dataset=given))
    with pytest.raises(InputError, match="--name is an option of limnet bench dataset and of cvpr25; folder knows"):
        build_suite("folder", root, SuiteOptions(dataset="folder"))


@dataclass(frozen=True)
class Fails(Disc):
    """Fails on every object of some cases."""

    cases: str = "US"

    def start(self, volume, axis, case="", object=""):
        if case.startswith(self.cases):
            raise RuntimeError("out of memory")
        return super().start(volume, axis)


def surface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.core.rounds.normalized_surface_dice", lambda mask, truth, spacing, tolerance: 0.5)


def test_what_failed_counts_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    surface(monkeypatch)
    suite = build_suite("cvpr25", build_cvpr25(tmp_path / "data"), SuiteOptions())
    good = completed(suite, Disc(3.0), tmp_path / "good.json", views=False)
    whole = challenge_means(good)
    assert {group: number for group, (number, _) in whole.items()} == {"CT": 1, "PET": 1, "US": 1, "all": 3}
    bad = completed(suite, Fails(3.0), tmp_path / "bad.json", views=False)
    means = challenge_means(bad)  # every object of the US case failed
    assert means["US"] == (1, dict.fromkeys(NAMES, 0.0))
    assert means["CT"] == whole["CT"]
    assert means["all"][0] == 3
    for name in NAMES:
        assert means["all"][1][name] == pytest.approx((whole["CT"][1][name] + whole["PET"][1][name]) / 3)
    assert "| disc 3 | US | 1 | 0.000 | 0.000 | 0.000 | 0.000 |" in markdown_tables([bad])
    assert challenge_means(Record.read(tmp_path / "bad.json")) == means
    nothing = completed(suite, Fails(3.0, cases=""), tmp_path / "nothing.json", views=False)
    zero = dict.fromkeys(NAMES, 0.0)
    assert challenge_means(nothing) == {"CT": (1, zero), "PET": (1, zero), "US": (1, zero), "all": (3, zero)}


def test_a_case_that_cannot_be_read_counts_zero_until_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    surface(monkeypatch)
    root = build_cvpr25(tmp_path / "data")
    suite = build_suite("cvpr25", root, SuiteOptions())
    path = root / "3D_val_npz" / "CT_AMOS_amos_0018.npz"
    content = path.read_bytes()
    path.write_bytes(content[:200])
    broken = completed(suite, Disc(3.0), tmp_path / "x.json", views=False)
    assert [(e["case"], e["object"]) for e in broken.errors] == [("CT_AMOS_amos_0018", "")]
    assert challenge_means(broken)["CT"] == (1, dict.fromkeys(NAMES, 0.0))
    assert challenge_means(broken)["all"][0] == 3
    path.write_bytes(content)

    def fail_on_one(self, volume, axis, case, object):
        if f"{case} {object}" == "CT_AMOS_amos_0018 id 2":
            raise RuntimeError("out of memory")
        return self.session(volume.shape, axis, self.radius)

    monkeypatch.setattr(Disc, "start", fail_on_one)
    again = completed(suite, Disc(3.0), tmp_path / "x.json", views=False)
    alone = again.table.curves("dice")[("CT_AMOS_amos_0018", "id 1")]
    assert challenge_means(again)["CT"][1]["DSC_Final"] == pytest.approx(alone[-1] / 2)


@pytest.mark.parametrize("rounds", [3, 10])
def test_other_numbers_of_clicks_have_no_scores(tmp_path: Path, rounds: int):
    root = build_cvpr25(tmp_path / "data")
    suite = build_suite("cvpr25", root, SuiteOptions(rounds=rounds))
    results = completed(suite, Boxer(), tmp_path / "out.json")
    text = markdown_tables([results])
    assert "DSC_AUC" not in text
    assert "Scores of the challenge need 5 clicks" in text
    with pytest.raises(InputError, match="fixed rule"):
        build_suite("cvpr25", root, SuiteOptions(jitter=3.0))
    with pytest.raises(InputError, match="fixed rule"):
        build_suite("cvpr25", root, SuiteOptions(seed=4))
