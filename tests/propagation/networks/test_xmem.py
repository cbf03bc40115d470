from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from limnet.errors import InputError
from limnet.propagation.networks.xmem import ImageFeatures, XMem, aggregate, pad, padding, unpad
from tests.helpers.golden import golden_arrays, golden_shapes, golden_weights, max_difference

TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def golden() -> tuple[XMem, dict[str, np.ndarray]]:
    arrays, meta = golden_arrays("xmem_modules")
    network = XMem()
    network.load_state_dict(golden_weights("xmem", meta["overrides"]))
    return network.eval(), arrays


@pytest.fixture(scope="module")
def features(golden: tuple[XMem, dict[str, np.ndarray]]) -> ImageFeatures:
    network, arrays = golden
    with torch.no_grad():
        return network.encode_image(image_of(arrays))


@pytest.fixture(scope="module")
def small() -> XMem:
    torch.manual_seed(0)
    return XMem(key_dim=8, value_dim=32, hidden_dim=16).eval()


def image_of(arrays: dict[str, np.ndarray]) -> Tensor:
    return (torch.from_numpy(arrays["image"]).float() / 255).permute(2, 0, 1)[None]


def test_state_dict_has_the_public_names_and_shapes() -> None:
    shapes = golden_shapes("xmem")
    state = XMem().state_dict()
    assert len(state) == 412
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes
    assert sum(value.numel() for value in XMem().parameters()) == 62_185_224


def test_encode_image_golden(golden: tuple[XMem, dict[str, np.ndarray]], features: ImageFeatures) -> None:
    arrays = golden[1]
    assert max_difference(features.key, arrays["key"]) < TOLERANCE
    assert max_difference(features.shrinkage, arrays["shrinkage"]) < TOLERANCE
    assert max_difference(features.selection, arrays["selection"]) < TOLERANCE
    assert max_difference(features.f16, arrays["f16"]) < TOLERANCE
    assert max_difference(features.f8[:, ::8], arrays["f8_every8"]) < TOLERANCE
    assert max_difference(features.f4[:, ::8], arrays["f4_every8"]) < TOLERANCE


@pytest.mark.parametrize("objects", [1, 2])
def test_encode_value_golden(golden: tuple[XMem, dict[str, np.ndarray]], features: ImageFeatures, objects: int) -> None:
    network, arrays = golden
    masks, hidden = (torch.from_numpy(arrays[name])[:, :objects] for name in ("masks", "hidden_in"))
    with torch.no_grad():
        value, state = network.encode_value(image_of(arrays), features, hidden, masks)
    assert max_difference(value, arrays[f"value_{objects}obj"]) < TOLERANCE
    assert max_difference(state, arrays[f"value_hidden_{objects}obj"]) < TOLERANCE


def test_encode_value_of_three_objects_without_deep_update(
    golden: tuple[XMem, dict[str, np.ndarray]], features: ImageFeatures
) -> None:
    network, arrays = golden
    masks = torch.from_numpy(np.concatenate([arrays["masks"], arrays["third_mask"]], 1))
    before = torch.rand(1, 3, 64, 6, 8)
    with torch.no_grad():
        value, state = network.encode_value(image_of(arrays), features, before, masks, deep_update=False)
    assert max_difference(value[:, :, ::8], arrays["value_3obj_every8"]) < TOLERANCE
    assert state is before


@pytest.mark.parametrize("objects", [1, 2])
def test_segment_golden(golden: tuple[XMem, dict[str, np.ndarray]], features: ImageFeatures, objects: int) -> None:
    network, arrays = golden
    readout, hidden = (torch.from_numpy(arrays[name])[:, :objects] for name in ("readout", "hidden_in"))
    with torch.no_grad():
        state, raw = network.decode(features, readout, hidden)
        state_too, logits, prob = network.segment(features, readout, hidden)
        untouched, _, _ = network.segment(features, readout, hidden, update_sensory=False)
    assert max_difference(raw, arrays[f"segment_raw_logits_{objects}obj"]) < TOLERANCE
    assert max_difference(prob, arrays[f"segment_prob_{objects}obj"]) < TOLERANCE
    assert max_difference(state, arrays[f"segment_hidden_{objects}obj"]) < TOLERANCE
    assert torch.equal(state, state_too)
    assert torch.equal(untouched, hidden)
    if objects == 2:
        assert max_difference(logits, arrays["segment_logits_2obj"]) < TOLERANCE


def test_aggregate_golden() -> None:
    arrays, _ = golden_arrays("xmem_modules")
    logits, prob = aggregate(torch.from_numpy(arrays["aggregate_in"]), 0)
    assert max_difference(logits, arrays["aggregate_logits"]) < TOLERANCE
    assert max_difference(prob, arrays["aggregate_prob"]) < TOLERANCE


def test_aggregate_keeps_a_binary_mask_binary_even_from_bfloat16() -> None:
    mask = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.bfloat16)
    prob = aggregate(mask, 0)[1]
    assert prob.dtype == torch.float32
    assert torch.allclose(prob, torch.eye(3), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47), (89, 121), (40, 50)])
def test_padding_puts_the_odd_pixel_last_and_comes_off_again(height: int, width: int) -> None:
    left, right, top, bottom = padding(height, width)
    assert 0 <= right - left <= 1
    assert 0 <= bottom - top <= 1
    x = torch.rand(2, height, width)
    wide = pad(x)
    assert wide.shape[-2] % 16 == 0
    assert wide.shape[-1] % 16 == 0
    assert torch.equal(unpad(wide, height, width), x)
    assert wide.sum() == pytest.approx(float(x.sum()), rel=1e-5)


@pytest.mark.parametrize("objects", [1, 3])
def test_any_number_of_objects(small: XMem, objects: int) -> None:
    height, width = 33, 63
    image, masks = torch.rand(2, 3, height, width), torch.rand(2, objects, height, width)
    with torch.no_grad():
        features = small.encode_image(image)
        sensory = small.initial_sensory(features, objects)
        value, state = small.encode_value(image, features, sensory, masks)
        state, logits, prob = small.segment(features, value, state, size=(height, width))
    assert features.key.shape[1] == 8
    assert value.shape[:3] == (2, objects, 32)
    assert state.shape == sensory.shape
    assert logits.shape == prob.shape == (2, objects + 1, height, width)
    assert torch.allclose(prob.sum(1), torch.ones(2, height, width), atol=1e-5)


def test_grey_images_are_repeated(small: XMem) -> None:
    grey = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(small.encode_image(grey).key, small.encode_image(grey.expand(-1, 3, -1, -1)).key)


def test_without_sensory_memory() -> None:
    torch.manual_seed(0)
    network = XMem(8, 32, 0).eval()
    assert not any("hidden" in key for key in network.state_dict())
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        features = network.encode_image(image)
        value, state = network.encode_value(
            image, features, network.initial_sensory(features, 2), torch.rand(1, 2, 32, 32)
        )
        state, _, prob = network.segment(features, value, state)
    assert state.shape == (1, 2, 0, 2, 2)
    assert prob.shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    "call",
    [
        lambda net, f: net.encode_image(torch.rand(3, 32, 32)),
        lambda net, f: net.encode_image(torch.rand(1, 2, 32, 32)),
        lambda net, f: net.encode_value(
            torch.rand(1, 3, 33, 33), f, torch.zeros(1, 1, 16, 3, 3), torch.rand(1, 1, 20, 33)
        ),
        lambda net, f: XMem(key_dim=0),
    ],
)
def test_wrong_shapes_are_refused(small: XMem, call: Callable[[XMem, ImageFeatures], object]) -> None:
    with torch.no_grad():
        features = small.encode_image(torch.rand(1, 3, 33, 33))
        with pytest.raises(InputError, match=r"expected|takes|at least"):
            call(small, features)
