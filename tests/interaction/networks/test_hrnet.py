from __future__ import annotations

import json
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.baselines.zoom import PixelClick, click_disks
from limnet.errors import InputError
from limnet.interaction.networks.hrnet import PRESETS, HRNetOCR, drop_dead_tensors
from tests.helpers.golden import golden_arrays, golden_shapes, golden_weights, max_difference
from tests.helpers.tiny_networks import Part

MODELS = {"ritm_hrnet18s_ocr": ("ritm_h18s", "w18-small"), "ritm_hrnet32_ocr": ("ritm_h32", "w32")}
LOGIT_TOLERANCE = 2e-4


@lru_cache(maxsize=2)
def golden_network(stem: str) -> HRNetOCR:
    model, preset = MODELS[stem]
    _, meta = golden_arrays(stem)
    network = HRNetOCR.preset(preset)
    network.load_state_dict(drop_dead_tensors(golden_weights(model, meta["overrides"])), strict=True)
    return network.eval()


def golden_inputs(stem: str, case: str) -> tuple[Tensor, Tensor, dict[str, np.ndarray]]:
    arrays, _ = golden_arrays(stem)
    prompts = np.concatenate([arrays[f"{case}_prev_mask"], arrays[f"{case}_disks"].astype(np.float32)], axis=1)
    return torch.from_numpy(arrays[f"{case}_image"]), torch.from_numpy(prompts), arrays


@pytest.mark.parametrize("stem", MODELS)
@pytest.mark.parametrize("case", ["a", "b"])
def test_logits_equal_the_reference(stem: str, case: str) -> None:
    image, prompts, arrays = golden_inputs(stem, case)
    with torch.inference_mode():
        outputs = golden_network(stem)(image, prompts)
    for name in ("instances", "instances_aux"):
        assert max_difference(outputs[name], arrays[f"{case}_{name}"]) < LOGIT_TOLERANCE


@pytest.mark.parametrize(("stem", "count"), [("ritm_hrnet18s_ocr", 929), ("ritm_hrnet32_ocr", 1895)])
def test_keys_and_shapes_are_those_of_the_reference_without_the_dead_ones(stem: str, count: int) -> None:
    model, preset = MODELS[stem]
    shapes = golden_shapes(model)
    assert len(shapes) == count
    own = {key: tuple(value.shape) for key, value in HRNetOCR.preset(preset).state_dict().items()}
    dead = {key for key in shapes if "f_pixel" in key or "f_object" in key}
    assert len(dead) == 24
    assert own == {key: shape for key, shape in shapes.items() if key not in dead}


@pytest.mark.parametrize(
    ("preset", "keys", "trainable"),
    [("w32", 1895, 30_951_363), ("w18", 1895, 10_032_019), ("w18-small", 929, 4_220_047)],
)
def test_sizes_are_the_published_ones(preset: str, keys: int, trainable: int) -> None:
    network = HRNetOCR.preset(preset)
    k = PRESETS[preset]["ocr_width"]
    dead = 2 * (2 * k * k + k * k + 4 * k)  # two queries of two 1x1 convolutions with batch norm
    assert len(network.state_dict()) + 24 == keys
    assert sum(p.numel() for p in network.parameters()) + dead == trainable


def test_the_two_halves_are_the_whole_and_features_serve_several_prompts() -> None:
    torch.manual_seed(0)
    network = HRNetOCR.preset("w18-small").eval()
    image, prompts = torch.rand(1, 3, 47, 33), torch.rand(2, 3, 47, 33)
    with torch.inference_mode():
        features = network.encode_image(image)
        whole = network(image.expand(2, -1, -1, -1), prompts)
        split = network.decode(features, prompts)
    for name in ("instances", "instances_aux"):
        assert whole[name].shape == (2, 1, 47, 33)
        torch.testing.assert_close(split[name], whole[name], rtol=1e-4, atol=1e-4)


def test_bfloat16_stays_close_and_returns_float32() -> None:
    image, prompts, arrays = golden_inputs("ritm_hrnet18s_ocr", "a")
    network = golden_network("ritm_hrnet18s_ocr")
    half = HRNetOCR(**network.config)
    half.load_state_dict(network.state_dict())
    half = half.eval().to(torch.bfloat16)
    with torch.inference_mode():
        logits = half(image, prompts)["instances"]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = network(image, prompts)["instances"]
    for result in (logits, mixed):
        assert result.dtype == torch.float32
        assert max_difference(result, arrays["a_instances"]) < 0.3  # logits spread over several units


@pytest.mark.slow
def test_both_halves_export() -> None:
    torch.manual_seed(0)
    network = HRNetOCR(width=4, ocr_width=4, small=True).eval()
    image, prompts = torch.rand(1, 3, 64, 96), torch.rand(1, 3, 64, 96)
    rows, columns = 2 * torch.export.Dim("rows", min=20, max=400), 2 * torch.export.Dim("columns", min=20, max=400)
    auto = torch.export.Dim.AUTO
    with torch.no_grad():
        (stem,) = network.encode_image(image)
        encode = Part(network, lambda n, image: n.encode_image(image))
        decode = Part(network, lambda n, stem, prompts: n.decode((stem,), prompts))
        image_half = torch.export.export(encode, (image,), dynamic_shapes=(({2: rows, 3: columns},),))
        click_shapes = (({2: auto, 3: auto}, {2: auto, 3: auto}),)
        click_half = torch.export.export(decode, (stem, prompts), dynamic_shapes=click_shapes)
        image, prompts = torch.rand(1, 3, 80, 64), torch.rand(1, 3, 80, 64)
        result = click_half.module()(*image_half.module()(image), prompts)["instances"]
        assert max_difference(result, network(image, prompts)["instances"]) < 1e-5


def test_messages_for_wrong_input() -> None:
    network = HRNetOCR(width=4, ocr_width=4, small=True).eval()
    with pytest.raises(InputError, match="expected \\(B, 3, H, W\\)"):
        network.encode_image(torch.rand(1, 1, 64, 64))
    with pytest.raises(InputError, match="at least 32"):
        network.encode_image(torch.rand(1, 3, 64, 31))
    features = network.encode_image(torch.rand(1, 3, 64, 64))
    with pytest.raises(InputError, match="previous, positive, negative"):
        network.decode(features, torch.rand(1, 4, 64, 64))
    with pytest.raises(InputError, match="do not fit"):
        network.decode(features, torch.rand(1, 3, 64, 80))
    with pytest.raises(InputError, match="w18-small"):
        HRNetOCR.preset("w64")
    with pytest.raises(InputError, match="per image channel"):
        HRNetOCR(mean=[0.5], std=[0.5, 0.5])


def computed_weights(network: nn.Module) -> dict[str, Tensor]:
    """Weights computed from the names of the tensors, scaled so that activations stay moderate."""
    weights = {}
    for key, tensor in network.state_dict().items():
        shape = tuple(tensor.shape)
        noise = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape)
        if key.endswith("num_batches_tracked"):
            value = np.zeros(shape)
        elif key.endswith("running_var"):
            value = 1 + 0.1 * np.abs(noise)
        elif key.endswith((".bias", "running_mean", ".scale")):
            value = 0.1 * noise
        elif len(shape) == 1:  # batch norm weights, small where sums would add up
            value = (0.3 if key.endswith(("bn2.weight", "bn3.weight")) or "fuse" in key else 1.0) + 0.05 * noise
        else:
            value = noise * np.sqrt(2.0 / np.prod(shape[1:]))
        weights[key] = torch.from_numpy(np.asarray(value)).to(tensor.dtype)
    return weights


def sample_outputs(count: int = 24) -> dict[str, Tensor]:
    """Some logits of the small network for computed weights and a computed image with computed prompts."""
    network = HRNetOCR.preset("w18-small").eval()
    network.load_state_dict(computed_weights(network))
    rows, columns = 61, 74
    ramp = torch.arange(rows)[:, None] / rows + torch.arange(columns)[None, :] / columns
    image = torch.stack([(ramp * factor).sin().abs() for factor in (13.0, 25.0, 37.0)])[None]
    clicks = [PixelClick(20.0, 30.5), PixelClick(50.25, 11.0, False), PixelClick(3.0, 70.0, False)]
    disks = click_disks(clicks, (rows, columns), network.click_radius)
    with torch.inference_mode():
        outputs = network(image, torch.cat([(ramp * 9).cos().abs()[None, None], disks], dim=1))
    return {name: y.flatten()[torch.linspace(0, y.numel() - 1, count).long()] for name, y in outputs.items()}


def test_stored_samples() -> None:
    """Parity on a few numbers stored when the network matched the reference; needs no reference data."""
    stored = json.loads((Path(__file__).parents[2] / "data" / "hrnet_w18_small_samples.json").read_text())
    for name, values in sample_outputs().items():
        assert max_difference(values, np.array(stored[name])) < LOGIT_TOLERANCE, name
