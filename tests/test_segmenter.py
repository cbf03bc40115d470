from __future__ import annotations

import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from limnet import InteractiveSegmenter
from limnet.errors import InputError, InputTypeError, ModelNotFoundError, SessionError
from limnet.image.volume import Volume
from limnet.interaction.networks.tiny import TinyInteraction
from limnet.interaction.window import fingerprint
from limnet.propagation.networks.tiny import TinyPropagation
from limnet.quality.networks.tiny import TinyQuality
from limnet.settings import Settings
from tests.helpers.fake_engine import phantom
from tests.helpers.tiny_networks import ENCODER, MEMORY

CENTRE = (6, 20, 24)


def networks() -> tuple[TinyInteraction, TinyPropagation, TinyQuality]:
    """Small networks with weights drawn from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return TinyInteraction(**ENCODER), TinyPropagation(**ENCODER, **MEMORY), TinyQuality(widths=(16, 16, 16))


@pytest.fixture(scope="module")
def segmenter() -> InteractiveSegmenter:
    return InteractiveSegmenter(*networks(), precision="fp32")


def test_save_and_load(segmenter: InteractiveSegmenter, tmp_path: Path) -> None:
    special = InteractiveSegmenter(*networks(), settings={"tau": 0.25, "scope": "interval"}, precision="fp32")
    special.save_pretrained(tmp_path / "model")
    again = InteractiveSegmenter.from_pretrained(tmp_path / "model", precision="fp32")
    assert again.settings == Settings(tau=0.25, scope="interval")
    assert again.identity["name"] == "model"
    assert InteractiveSegmenter.from_pretrained(str(tmp_path / "model")).identity["name"] == "model", (
        "not where it lies"
    )
    assert again.identity["sha256"] == special.identity["sha256"] == segmenter.identity["sha256"]
    assert np.array_equal(again.open(phantom()).click(CENTRE), special.open(phantom()).click(CENTRE))
    with pytest.raises(ModelNotFoundError):
        InteractiveSegmenter.from_pretrained("limnet-tny")


def test_layout_of_the_weights_changes_no_answer() -> None:
    given, unchanged = networks(), networks()
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    segmenter = InteractiveSegmenter(*given, precision="fp32")
    kernels = [m.weight for m in segmenter.interaction.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    assert fingerprint(segmenter.interaction) == fingerprint(unchanged[0])  # sessions know it again
    with torch.inference_mode():
        for fast, plain in zip(given[:2], unchanged[:2], strict=True):
            pairs = zip(fast.eval().encode_image(image), plain.eval().encode_image(image), strict=True)
            assert max(float((a - b).abs().max()) for a, b in pairs) < 1e-4


def test_open_paths(segmenter: InteractiveSegmenter, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", phantom())
    case = segmenter.open(tmp_path / "v.npy", spacing=(3.0, 0.5, 0.5), axis=2, window=(-100, 200))
    assert case.volume.spacing == (3.0, 0.5, 0.5)
    assert (case.axis, case.view.window) == (2, (-100.0, 200.0))
    case.click(CENTRE)
    assert np.array_equal(np.load(case.save(tmp_path / "mask.npy")) > 0, case.mask)
    again = segmenter.resume(case.save_session(tmp_path / "s"))
    assert again.volume.spacing == (3.0, 0.5, 0.5)


def test_a_label_map_given_as_image_is_told(segmenter: InteractiveSegmenter, tmp_path: Path) -> None:
    image = Volume.from_array(np.random.default_rng(0).normal(0, 9, (8, 64, 64)))
    path = image.write_mask(image.array > 12, tmp_path / "m.nii.gz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmenter.open(image)
    with pytest.warns(UserWarning, match=r"m\.nii\.gz has only 2 different values"):
        segmenter.open(path)
    with pytest.warns(UserWarning, match="same value everywhere"):
        segmenter.open(np.zeros((8, 64, 64)))
    labels = nibabel.load(path)
    labels.header.set_intent("label")
    nibabel.save(labels, path)
    with pytest.raises(InputError, match="is a segmentation, no image"):
        segmenter.open(path)
    assert np.array_equal(segmenter.open(image).set_mask(path), image.array > 12)


def test_an_existing_session_is_never_overwritten(segmenter: InteractiveSegmenter, tmp_path: Path) -> None:
    segmenter.open(phantom(), session=tmp_path / "x")
    with pytest.raises(InputError, match="resume"):
        segmenter.open(phantom(), session=tmp_path / "x")
    (tmp_path / "x").write_bytes(b"damaged")
    with pytest.raises(SessionError):
        segmenter.resume(tmp_path / "x")


def test_bad_construction() -> None:
    a, b, c = networks()
    with pytest.raises(InputTypeError, match="propagation"):
        InteractiveSegmenter(a, "b", c)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="precision"):
        InteractiveSegmenter(a, b, c, precision="fp16")
    for device in ("tpu", "cuda:77", 3.5):
        with pytest.raises(InputError, match="device"):
            InteractiveSegmenter(a, b, c, device=device)  # type: ignore[arg-type]


def test_settings_of_a_case_reach_its_networks(segmenter: InteractiveSegmenter, tmp_path: Path) -> None:
    wanted = Settings(follow_window=False, stop_after_empty=7, cache_bytes=1000)
    case = segmenter.open(phantom(), settings=wanted)
    again = segmenter.resume(case.save_session(tmp_path / "x.limnet"))
    for one in (case, again):
        propagator = one._engine.propagator
        assert propagator.settings == wanted
        assert propagator.encoder.cache.max_bytes == 1000
