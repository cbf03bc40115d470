"""The click network of a model alone: as limnet works, and as RITM is evaluated."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.baselines.zoom import ZoomPredictor
from benchmarks.core.method import LimnetSession, config_hash, predictor_config
from benchmarks.suites.interaction2d import THRESHOLD, ClickPredictor, ZoomSession
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


def predictor(segmenter: InteractiveSegmenter, **options: Any) -> ClickPredictor:
    found = ClickPredictor("m", **options)
    object.__setattr__(found, "_segmenter", segmenter)
    return found


@pytest.fixture(scope="module")
def hrnet() -> InteractiveSegmenter:
    tiny = small_segmenter(3)
    network = HRNetOCR(width=8, ocr_width=8, small=True)
    scramble(network)
    return InteractiveSegmenter(network, tiny.propagation, small_quality(3), precision="fp32")


def test_windows_are_the_way_of_the_product():
    segmenter = small_segmenter(3)
    method = predictor(segmenter)
    assert method.chosen_way == "window"
    session = method.start_named(PICTURE, 0, "grabcut_flower", "object")
    assert isinstance(session, LimnetSession)
    case = segmenter.open(PICTURE)
    for zyx, positive in CLICKS:
        np.testing.assert_array_equal(session.click(zyx, positive), case.click(zyx, positive))
    flawed = disc(20, 24, 7)[None]
    session, case = method.start_named(PICTURE, 0, "a", "object"), segmenter.open(PICTURE)
    session.start_from(flawed)
    case.set_mask(flawed, frozen=False)
    assert isinstance(session, LimnetSession)
    np.testing.assert_array_equal(session.case.mask, flawed)
    np.testing.assert_array_equal(session.click((0, 20, 18), False), case.click((0, 20, 18), False))
    empty = method.start_named(PICTURE, 0, "a", "object")
    empty.start_from(np.zeros_like(flawed))
    np.testing.assert_array_equal(empty.click(*CLICKS[0]), segmenter.open(PICTURE).click(*CLICKS[0]))


@pytest.mark.parametrize("start", [False, True])
def test_zoom_is_the_reference_predictor(hrnet: InteractiveSegmenter, start: bool):
    method = predictor(hrnet, zooms={"davis345": 64})
    assert method.chosen_way == "zoom"
    session = method.start_named(PICTURE, 0, "davis345_00001", "object")
    assert isinstance(session, ZoomSession)
    direct = ZoomPredictor.cvpr(hrnet.interaction, 64)  # type: ignore[arg-type]
    direct.set_image(np.moveaxis(PICTURE.array[0], -1, 0).astype(np.float32) / 255)
    flawed = disc(20, 24, 7)
    if start:
        session.start_from(flawed[None])
    for number, (zyx, positive) in enumerate(CLICKS):
        previous = flawed.astype(np.float32) if start and number == 0 else None
        expected = direct.add_click(zyx[1], zyx[2], positive, previous)
        np.testing.assert_array_equal(session.click(zyx, positive)[0], expected > THRESHOLD)
    assert method.start_named(PICTURE, 0, "grabcut_x", "object").predictor.target_size == 400  # type: ignore[union-attr]


def test_gray_pictures(hrnet: InteractiveSegmenter):
    gray = PICTURE.array[..., 1]
    session = predictor(hrnet).start(Volume.from_array(gray), 0)
    assert isinstance(session, ZoomSession)
    image = session.predictor._image
    assert image is not None
    torch.testing.assert_close(image, torch.from_numpy(gray / np.float32(255)).expand(1, 3, -1, -1))


def test_configuration(hrnet: InteractiveSegmenter):
    window, zoom = predictor(small_segmenter(3)), predictor(hrnet, zooms={"davis345": 600})
    assert predictor_config(window)["way"] == "window"
    assert predictor_config(zoom)["zoom"] == {"size": 400, "sizes": {"davis345": 600}, "flip": True, "threshold": 0.49}
    forced = predictor(hrnet, way="window")
    assert forced.name == "m window"
    assert zoom.name == "m"
    assert config_hash(predictor_config(forced)) != config_hash(predictor_config(zoom))
    assert pickle.loads(pickle.dumps(forced)) == forced
    assert isinstance(forced.start_named(PICTURE, 0, "a", "b"), LimnetSession)
    with pytest.raises(InputError, match="allowed are auto, window, zoom"):
        ClickPredictor(way="whole")
    with pytest.raises(InputError, match="takes pictures"):
        window.start(Volume.from_array(np.zeros((2, 40, 56))), 0)
    with pytest.raises(InputError, match="prompt channels"):
        predictor(small_segmenter(3), way="zoom").start(PICTURE, 0)
