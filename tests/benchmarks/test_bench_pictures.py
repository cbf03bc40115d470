"""Clicks to an IoU on pictures: rule and counts against slow references, the suite on fakes, both ways to ask."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.baselines.zoom import ZoomSession
from benchmarks.core.record import Record
from benchmarks.core.report import markdown_tables, published_clicks, write_report
from benchmarks.core.rounds import LimnetSession, Turn, config_hash, predictor_config
from benchmarks.core.suite import BASELINES, Entry, SuiteOptions, build_suite
from benchmarks.suites.interaction2d import ClickPredictor, ClickRounds, click_tables, clicks_to, next_click
from limnet import InteractiveSegmenter
from limnet.errors import InputError, MissingFileError
from limnet.image.volume import Volume
from limnet.interaction.networks.hrnet import HRNetOCR
from tests.helpers.bench import Answers, Disc, StartDisc, StartDiscSession, completed, fake_suite, run_object
from tests.helpers.every_set import picture_root
from tests.helpers.fake_picture_sets import build_berkeley, build_grabcut
from tests.helpers.fake_pictures import disc, photo
from tests.helpers.golden import golden_arrays
from tests.helpers.recipes import limnet
from tests.helpers.small_segmenter import small_segmenter
from tests.helpers.tiny_networks import scramble, small_quality

GROUPS = ("GrabCut", "Berkeley", "SBD", "DAVIS", "DAVIS-585 zero", "DAVIS-585 sp", "DAVIS-585 stm")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return picture_root(tmp_path_factory.mktemp("pictures"))


def same(array: np.ndarray) -> np.ndarray:
    return array


def slow_depth(region: np.ndarray, row: int, column: int) -> float:
    """Squared distance of a pixel to the nearest one that is not in the region, outside of the picture included."""
    height, width = region.shape
    return min(
        (row - r) ** 2 + (column - c) ** 2
        for r in range(-1, height + 1)
        for c in range(-1, width + 1)
        if not (0 <= r < height and 0 <= c < width and region[r, c])
    )


def slow_clicks(
    truth: np.ndarray, void: np.ndarray, mask: np.ndarray, click: Callable[..., np.ndarray], clicks: int, target: float
) -> list[tuple[int, int, bool, float]]:
    """The protocol pixel by pixel."""
    found: list[tuple[int, int, bool, float]] = []
    for _ in range(clicks):
        best: dict[bool, tuple[float, int, int]] = {True: (0, 0, 0), False: (0, 0, 0)}
        for kind in best:
            region = (truth & ~mask if kind else mask & ~truth) & ~void
            for row, column in np.argwhere(region).tolist():
                depth = slow_depth(region, row, column)
                if depth > best[kind][0] and all((row, column) != (r, c) for r, c, _, _ in found):
                    best[kind] = (depth, row, column)
        positive = best[True][0] > best[False][0]
        _, row, column = best[positive]
        mask = click((0, row, column), positive)[0]
        counted = [(bool(t), bool(m)) for t, m, v in zip(truth.flat, mask.flat, void.flat, strict=True) if not v]
        score = sum(t and m for t, m in counted) / sum(t or m for t, m in counted)
        found.append((row, column, positive, score))
        if score >= target:
            break
    return found


@pytest.mark.parametrize("start", [False, True])
def test_clicks_equal_a_slow_reference(start: bool):
    shape = (14, 18)
    truth = disc(6, 8, 5, shape) | disc(9, 13, 3, shape)
    truth[0:2, 0:5] = True  # on the border of the picture, which is an edge
    void = disc(10, 4, 3, shape)  # most of what the flawed mask has too much, and a little of the object
    flawed = disc(10, 4, 4, shape)
    volume = Volume.from_array(np.zeros((1, *shape, 3), np.uint8))
    rounds = ClickRounds(9, 0.95, {"c": partial(same, flawed[None])} if start else {}, {"c": partial(same, void[None])})
    rows = run_object(StartDisc(2.0), volume, truth[None], 0, rounds, case="c")
    session = StartDiscSession((1, *shape), 0, 2.0)
    if start:
        session.start_from(flawed[None])
    empty = np.zeros(shape, bool)
    expected = slow_clicks(truth, void, flawed if start else empty, session.click, 9, 0.95)
    assert [(*row.zyx[1:], row.positive) for row in rows if row.zyx] == [found[:3] for found in expected]
    assert [row.iou for row in rows] == pytest.approx([found[3] for found in expected])
    assert len(rows) > 4
    assert {row.positive for row in rows} == {True, False}
    assert [row.dice for row in rows] == pytest.approx([2 * f[3] / (1 + f[3]) for f in expected])


def test_an_object_ends_at_the_target():
    truth = disc(20, 28, 9)[None]

    def played(rounds: ClickRounds, truth: np.ndarray = truth) -> list[Turn]:
        radii = itertools.count(6)
        growing = Answers(lambda *_: disc(20, 28, next(radii))[None])
        return run_object(growing, Volume.from_array(np.zeros((len(truth), 40, 56))), truth, 0, rounds)

    scores = [disc(20, 28, r).sum() / truth.sum() for r in (6, 7, 8, 9)]
    assert [row.iou for row in played(ClickRounds(target=1.0))] == pytest.approx(scores)
    assert len(played(ClickRounds(20, 0.9))) == next(i for i, s in enumerate(scores, 1) if s >= 0.9)
    assert len(played(ClickRounds(2))) == 2
    with pytest.raises(InputError, match=r"from 0\.9 to 1"):
        ClickRounds(target=0.8)
    with pytest.raises(InputError, match="at least 1"):
        ClickRounds(0)
    with pytest.raises(InputError, match="one picture"):
        played(ClickRounds(), np.repeat(truth, 2, 0))
    with pytest.raises(InputError, match="empty"):
        played(ClickRounds(), truth & False)


def test_all_sets_beside_published_rows(root: Path, tmp_path: Path):
    suite = build_suite("interaction2d", root, SuiteOptions())
    results = completed(suite, StartDisc(5.0), tmp_path / "x.json")
    assert not results.errors
    counts = {g: len([o for o in results.rows if o["group"] == g]) for g in results.groups}
    assert counts == dict(zip(GROUPS, (3, 3, 2, 3, 12, 12, 12), strict=True))
    assert "files" not in json.dumps(results.fixed)
    assert set(results.fixed["config"]["rounds"]) == {"class", "clicks", "target"}
    assert results.quality == "iou"
    curves = results.table.curves("iou", "SBD")
    wanted = [next((i for i, v in enumerate(c, 1) if v >= 0.9), 20) for c in curves.values()]
    assert clicks_to(results, 0.9, "SBD") == (2, np.mean(wanted), sum(max(c) < 0.9 for c in curves.values()))
    assert results.summary()["SBD"]["noc@90"] == pytest.approx(np.mean(wanted))  # by IoU, not by Dice
    text = markdown_tables([results])
    columns = " | ".join((*published_clicks().columns, "DAVIS-585 stm"))
    assert f"| NoC@85 | {columns} |" in text
    assert f"| NoC@90 | {columns} |" in text
    for method, quality, values in published_clicks().rows:
        part = text.split(f"| NoC@{quality} |")[1].split("\n\n")[0]
        line = next(x for x in part.splitlines() if x.startswith(f"| {method} (published) |"))
        assert all(f"| {value:.2f} |" in line for value in values.values())
    assert all(f"- {caveat}" in text for caveat in published_clicks().caveats)
    written = write_report([tmp_path / "x.json"], tmp_path / "report", worst=2)
    assert "mean IoU" not in written[0].read_text()  # it stands on the plot
    assert all(path.stat().st_size > 3000 for path in written)


def test_counts_of_clicks():
    def results(curves: dict[str, list[float]]) -> Record:
        fixed = {"predictor": {"name": "m"}, "config": {"rounds": {"clicks": 20}}}
        record = Record(Path("x.json"), fixed, {"scores": "clicks"})
        for case, curve in curves.items():
            row = {"variant": "m", "case": case, "object": "object", "group": "GrabCut", "iou": curve, "dice": curve}
            numbers = {"rounds": list(range(1, len(curve) + 1)), "compliance": [1.0] * len(curve), "seconds": [0.5]}
            record.take([{**row, **numbers}])
        return record

    found = results({"a": [0.8, 0.86, 0.91], "b": [0.5] * 19 + [0.9], "c": [0.88] + [0.6] * 19})
    assert clicks_to(found, 0.85, "GrabCut") == (3, pytest.approx((2 + 20 + 1) / 3), 0)
    # reached with click 20 is no failure; never reached counts as 20 too
    assert clicks_to(found, 0.90, "GrabCut") == (3, pytest.approx((3 + 20 + 20) / 3), 1)
    text = click_tables([found])
    assert "| **m** | 14.33 (1) |" in text
    curve = [(0.8 + 0.5 + 0.88) / 3, (0.86 + 0.5 + 0.6) / 3, (0.91 + 0.5 + 0.6) / 3]
    assert "| m | GrabCut | " + " | ".join(f"{v:.3f}" for v in curve) in text


def test_undecided_pixels_and_starting_masks(root: Path):
    suite = build_suite("interaction2d", root, SuiteOptions())
    rounds = suite.rounds
    assert isinstance(rounds, ClickRounds)
    assert set(rounds.voids) == {c.name for c in suite.cases if c.name.startswith(("grabcut_", "berkeley_"))}
    void = rounds.voids["grabcut_flower"]()
    np.testing.assert_array_equal(void[0], disc(20, 28, 12) & ~disc(20, 28, 9 + 0))
    assert not rounds.voids["berkeley_113044"]().any()
    assert len(rounds.starts) == 24
    sp = rounds.starts["davis585-sp_breakdance_x_00060_object1"]()
    np.testing.assert_array_equal(sp[0], disc(20, 18, 10) | disc(20, 28, 3))
    stm = rounds.starts["davis585-stm_breakdance_x_00060_object1"]()
    np.testing.assert_array_equal(stm[0], disc(20, 18, 10) & disc(16, 28, 20))
    case = next(c for c in suite.cases if c.name == "grabcut_flower")

    band = Answers(lambda *_: disc(20, 28, 12)[None])  # the whole band is object: right, since nobody decided
    (row,) = run_object(band, case.read_image(), case.read_labels() == 1, 0, rounds, case=case.name)
    assert row.iou == 1.0


def test_parts_and_what_cannot_be_asked(root: Path, tmp_path: Path):
    one = build_suite("interaction2d", root, SuiteOptions(parts=("davis585-sp", "sbd"), per_group=1))
    assert one.name == "interaction2d-davis585-sp-sbd"
    assert [c.name for c in one.cases] == ["sbd_2008_000008", "davis585-sp_bike-packing_00060_object1"]
    assert build_suite("interaction2d", root / "GrabCut", SuiteOptions()).note.count("Berkeley") == 1
    with pytest.raises(InputError, match="no part 'coco'; its parts are grabcut, berkeley"):
        build_suite("interaction2d", root, SuiteOptions(parts=("coco",)))
    with pytest.raises(InputError, match="leave --nsd"):
        build_suite("interaction2d", root, SuiteOptions(jitter=2.0))
    with pytest.raises(MissingFileError, match="grabcut in GrabCut"):
        build_suite("interaction2d", tmp_path, SuiteOptions())
    with pytest.raises(InputError, match="no split 'val2'"):
        build_suite("interaction2d", root, SuiteOptions(split="val2"))
    # a method that takes no mask to start from fails where there is one, and nowhere else
    results = completed(one, Disc(), tmp_path / "x.json", views=False)
    assert results.groups == ["SBD"]
    assert [e["case"] for e in results.errors] == ["davis585-sp_bike-packing_00060_object1"]
    assert "no mask to start from" in results.errors[0]["error"]


def test_any_folder_of_images_and_masks_is_not_berkeley(root: Path, tmp_path: Path):
    own = tmp_path / "own"
    build_berkeley(own)
    with pytest.raises(MissingFileError, match=r"The folder itself could be berkeley: .* --part berkeley"):
        build_suite("interaction2d", own, SuiteOptions())
    assert len(build_suite("interaction2d", own, SuiteOptions(parts=("berkeley",))).cases) == 3
    assert len(build_suite("interaction2d", root / "Berkeley", SuiteOptions()).cases) == 3  # by its name
    build_grabcut(own / "GrabCut")
    beside = build_suite("interaction2d", own, SuiteOptions())
    assert {case.name.split("_")[0] for case in beside.cases} == {"grabcut"}
    assert "published: GrabCut 3 of 50. Not measured, for lack of data: Berkeley" in beside.note


def test_from_the_command_line(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(BASELINES, "disc", Entry("tests.helpers.bench", "a disc", "Disc"))

    common = ("--data", root, "--baseline", "disc:radius=6", "--out", tmp_path)
    assert limnet("bench", "interaction2d", *common, "--part", "grabcut", "--rounds", 7, "--target", 1) == 0
    shown = capsys.readouterr()
    assert "| NoC@90 | GrabCut |" in shown.out
    found = json.loads((tmp_path / "interaction2d-grabcut_disc-6.json").read_text())
    assert found["fixed"]["config"]["rounds"] == {"class": "ClickRounds", "clicks": 7, "target": 1.0}
    assert len(found["rows"][0]["clicks"]) == 7
    assert f"grabcut_banana object: {found['rows'][0]['iou'][0]:.3f}" in shown.err
    assert limnet("bench", "folder", *common, "--way", "zoom") == 2
    assert limnet("bench", "folder", *common, "--part", "grabcut") == 2


def test_other_suites_stay_with_dice(tmp_path: Path):
    results = completed(fake_suite(1), Disc(), tmp_path / "x.json", views=False)
    assert results.quality == "dice"
    assert results.summary()["all"]["dice@1"] == results.curve()[0]
    assert "iou" not in results.table.columns


OBJECT = disc(20, 28, 9)
PICTURE = Volume.from_array(photo(OBJECT)[None])
CLICKS = (((0, 20, 28), True), ((0, 5, 5), False), ((0, 14, 25), True))


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ClickPredictor]:
    """Makes methods of models that are there already."""
    found: dict[str, InteractiveSegmenter] = {}
    monkeypatch.setattr("benchmarks.core.rounds.loaded", lambda name, *rest: found[name])

    def make(segmenter: InteractiveSegmenter, **options: Any) -> ClickPredictor:
        found[f"m{len(found)}"] = segmenter
        return ClickPredictor([*found][-1], **options)

    return make


@pytest.fixture(scope="module")
def hrnet() -> InteractiveSegmenter:
    tiny = small_segmenter(3)
    network = HRNetOCR(width=8, ocr_width=8, small=True)
    scramble(network)
    return InteractiveSegmenter(network, tiny.propagation, small_quality(3), precision="fp32")


def test_windows_are_the_way_of_the_product(predictor):
    segmenter = small_segmenter(3)
    method = predictor(segmenter)
    assert method.chosen_way == "window"
    session = method.start(PICTURE, 0, "grabcut_flower", "object")
    assert isinstance(session, LimnetSession)
    case = segmenter.open(PICTURE)
    for zyx, positive in CLICKS:
        np.testing.assert_array_equal(session.click(zyx, positive), case.click(zyx, positive))
    flawed = disc(20, 24, 7)[None]
    session, case = method.start(PICTURE, 0, "a", "object"), segmenter.open(PICTURE)
    session.start_from(flawed)
    case.set_mask(flawed, frozen=False)
    assert isinstance(session, LimnetSession)
    np.testing.assert_array_equal(session.case.mask, flawed)
    np.testing.assert_array_equal(session.click((0, 20, 18), False), case.click((0, 20, 18), False))
    empty = method.start(PICTURE, 0, "a", "object")
    empty.start_from(np.zeros_like(flawed))
    np.testing.assert_array_equal(empty.click(*CLICKS[0]), segmenter.open(PICTURE).click(*CLICKS[0]))


@pytest.mark.parametrize("start", [False, True])
def test_zoom_is_the_reference_predictor(predictor, hrnet: InteractiveSegmenter, start: bool):
    method = predictor(hrnet, zooms={"davis345": 64})
    assert method.chosen_way == "zoom"
    session = method.start(PICTURE, 0, "davis345_00001", "object")
    assert isinstance(session, ZoomSession)
    image = np.moveaxis(PICTURE.array[0], -1, 0).astype(np.float32) / 255
    direct = ZoomSession(hrnet.interaction, image, 64)
    for each in (session, direct) if start else ():
        each.start_from(disc(20, 24, 7)[None])
    for zyx, positive in CLICKS:
        np.testing.assert_array_equal(session.click(zyx, positive), direct.click(zyx, positive))
    assert method.start(PICTURE, 0, "grabcut_x", "object").size == 400  # type: ignore[union-attr]


def test_gray_pictures(predictor, hrnet: InteractiveSegmenter):
    gray = PICTURE.array[..., 1]
    session = predictor(hrnet).start(Volume.from_array(gray), 0)
    assert isinstance(session, ZoomSession)
    torch.testing.assert_close(session.image, torch.from_numpy(gray / np.float32(255)).expand(1, 3, -1, -1))


def test_configuration(predictor, hrnet: InteractiveSegmenter):
    window, zoom = predictor(small_segmenter(3)), predictor(hrnet, zooms={"davis345": 600})
    assert predictor_config(window)["way"] == "window"
    assert predictor_config(zoom)["zoom"] == {"size": 400, "sizes": {"davis345": 600}, "flip": True, "threshold": 0.49}
    forced = predictor(hrnet, way="window")
    assert forced.name == "m2 window"
    assert zoom.name == "m1"
    assert config_hash(predictor_config(forced)) != config_hash(predictor_config(zoom))
    assert pickle.loads(pickle.dumps(forced)) == forced
    assert isinstance(forced.start(PICTURE, 0, "a", "b"), LimnetSession)
    with pytest.raises(InputError, match="allowed are auto, window, zoom"):
        ClickPredictor(way="whole")
    with pytest.raises(InputError, match="takes pictures"):
        window.start(Volume.from_array(np.zeros((2, 40, 56))), 0)
    with pytest.raises(InputError, match="prompt channels"):
        predictor(small_segmenter(3), way="zoom").start(PICTURE, 0)


def test_every_case_equals_the_reference() -> None:
    arrays, _ = golden_arrays("ritm_clicker")
    for index, name in enumerate(arrays["case_names"]):
        prefix = f"c{index:02d}"
        clicked = [(row, column) for row, column, _ in arrays[f"{prefix}_clicked"].tolist()]
        click = next_click(arrays[f"{prefix}_gt"], arrays[f"{prefix}_pred"], clicked)
        assert list(click) == arrays[f"{prefix}_next"].tolist(), name


def test_the_chain_of_clicks_equals_the_reference() -> None:
    arrays, _ = golden_arrays("ritm_clicker")
    chain = [(row, column, bool(positive)) for row, column, positive, _ in arrays["chain_clicks"].tolist()]
    assert len(chain) == 12
    for number, click in enumerate(chain):
        before = [(row, column) for row, column, _ in chain[:number]]
        assert next_click(arrays["chain_gt"], arrays["chain_pred"], before) == click


def test_first_click_is_the_centre_and_the_image_border_is_an_edge() -> None:
    truth = np.zeros((20, 30), int)
    truth[5:10, 7:12] = 1
    assert next_click(truth, np.zeros((20, 30))) == (7, 9, True)
    assert next_click(np.ones((5, 5)), np.zeros((5, 5))) == (2, 2, True)


def test_ties_are_negative_and_perfection_clicks_the_corner() -> None:
    truth, predicted = np.zeros((9, 20), int), np.zeros((9, 20), int)
    truth[3:6, 2:5] = 1
    predicted[3:6, 12:15] = 1
    assert next_click(truth, predicted) == (4, 13, False)
    assert next_click(truth, truth) == next_click(truth, truth, [(0, 0)]) == (0, 0, False)


def test_ignored_pixels_are_no_errors() -> None:
    truth = np.full((8, 8), -1)
    assert next_click(truth, np.ones((8, 8))) == (0, 0, False)
