"""The click network of a model alone: as limnet works, and as RITM is evaluated."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.baselines.zoom import ZoomSession
from benchmarks.core.method import LimnetSession, config_hash, predictor_config
from benchmarks.suites.interaction2d import ClickPredictor
from limnet import InteractiveSegmenter
from limnet.errors import InputError
from limnet.image.volume import Volume
from limnet.interaction.networks.hrnet import HRNetOCR
from tests.helpers.fake_pictures import disc, photo
from tests.helpers.small_segmenter import small_segmenter
from tests.helpers.tiny_networks import scramble, small_quality

OBJECT = disc(20, 28, 9)
PICTURE = Volume.from_array(photo(OBJECT)[None])
CLICKS = (((0, 20, 28), True), ((0, 5, 5), False), ((0, 14, 25), True))


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ClickPredictor]:
    """Makes methods of models that are there already."""
    found: dict[str, InteractiveSegmenter] = {}
    monkeypatch.setattr("benchmarks.core.method.loaded", lambda name, *rest: found[name])

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
