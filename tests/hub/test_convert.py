"""Public checkpoint files to folders: the reference's numbers, and every foreign, damaged or unsafe file refused."""

from __future__ import annotations

import functools
import json
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limnet.blocks.resnet import ResNetTrunk
from limnet.errors import MissingFileError, ModelFormatError
from limnet.hub.convert import (
    convert_imagenet_resnet,
    convert_ritm,
    convert_xmem,
    network_from_state,
    quality_from_state,
    xmem_from_state,
)
from limnet.hub.folder import load_component, misfits, some
from limnet.interaction.networks.hrnet import IMAGENET_MEAN, IMAGENET_STD, HRNetOCR
from limnet.propagation.networks.xmem import XMem
from tests.helpers.golden import golden_arrays, golden_keys, golden_weights, max_difference
from tests.helpers.recipes import recipe

CONVERTERS: dict[str, Callable[..., Path]] = {
    "ritm": convert_ritm,
    "xmem": convert_xmem,
    "resnet": convert_imagenet_resnet,
}
CLASS = "isegm.model.is_hrnet_model.HRNetModel"
HEAD = "feature_extractor.ocr_distri_head.object_context_block"
SIZES = {"ritm_h18s": "ritm_hrnet18s_ocr", "ritm_h32": "ritm_hrnet32_ocr"}


def public_config(**changes: Any) -> dict[str, Any]:
    """The configuration beside the weights in a public RITM file; `changes` set arguments."""
    plain: dict[str, Any] = {"backbone_lr_mult": 0.1, "binary_prev_mask": False, "clicks_groups": None}
    plain |= {"conv_extend": False, "cpu_dist_maps": False}
    plain["norm_mean_std"] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]
    chosen: dict[str, Any] = {"norm_radius": 5, "ocr_width": 48, "small": True, "use_disks": True}
    chosen |= {"use_leaky_relu": True, "use_rgb_conv": False, "width": 18, "with_aux_output": True}
    chosen |= {"with_prev_mask": True, **changes}
    params = {name: {"type": "builtin", "value": value, "specified": False} for name, value in plain.items()}
    batch_norm = "torch.nn.modules.batchnorm.BatchNorm2d"
    params["norm_layer"] = {"type": "class", "value": batch_norm, "specified": False}
    params |= {name: {"type": "builtin", "value": value, "specified": True} for name, value in chosen.items()}
    return {"class": CLASS, "params": params}


def trained(depth: int) -> ResNetTrunk:
    """A trunk for colour pictures with statistics that are not those of a fresh one."""
    torch.manual_seed(depth)
    trunk = ResNetTrunk(depth)
    for name, buffer in trunk.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return trunk.eval().requires_grad_(False)


@functools.cache
def tensors(kind: str) -> dict[str, Tensor]:
    """The tensors of a small public file."""
    torch.manual_seed(0)
    if kind == "xmem":
        return dict(XMem(8, 32, 16).state_dict())
    if kind == "resnet":
        return {**trained(18).state_dict(), "fc.weight": torch.randn(1000, 512), "fc.bias": torch.randn(1000)}
    state = dict(HRNetOCR(width=4, ocr_width=6, small=True).state_dict())
    return state | {f"{HEAD}.{query}.0.weight": torch.zeros(6, 12, 1, 1) for query in ("f_pixel", "f_object")}


def public(kind: str, **changes: Any) -> dict[str, Any]:
    """What a small public file holds; `changes` set arguments of RITM's configuration."""
    if kind != "ritm":
        return dict(tensors(kind))
    return {"state_dict": dict(tensors(kind)), "config": public_config(**{"width": 4, "ocr_width": 6, **changes})}


def saved(path: Path, content: Any, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


READERS: dict[str, Callable[[Any], Any]] = {
    "ritm": lambda content: network_from_state(content["state_dict"], content["config"], "x.pth"),
    "xmem": xmem_from_state,
    "resnet": quality_from_state,
}


def refused(kind: str, content: Any, message: str) -> None:
    """What is in a file is refused with the message."""
    with pytest.raises(ModelFormatError, match=message):
        READERS[kind](content)


def refused_file(kind: str, content: Any, message: str, folder: Path) -> None:
    """Conversion fails with the message and writes nothing; `content` is the path of a file or what to save in one."""
    source = content if isinstance(content, Path) else saved(folder / "x.pth", content)
    with pytest.raises(ModelFormatError, match=message):
        CONVERTERS[kind](source, folder / "out")
    assert not (folder / "out").exists()


# what a sound file gives


def ritm_content(model: str = "ritm_h18s") -> dict[str, Any]:
    """The exact public form with all tensors of the reference, filled with computed weights."""
    _, meta = golden_arrays(SIZES[model])
    return {"state_dict": golden_weights(model, meta["overrides"]), "config": golden_keys(model)["config"]}


def logits_error(network: nn.Module, stem: str, case: str) -> float:
    arrays, _ = golden_arrays(stem)
    prompts = np.concatenate([arrays[f"{case}_prev_mask"], arrays[f"{case}_disks"].astype(np.float32)], axis=1)
    with torch.inference_mode():
        outputs = network(torch.from_numpy(arrays[f"{case}_image"]), torch.from_numpy(prompts))
    return max(max_difference(outputs[n], arrays[f"{case}_{n}"]) for n in ("instances", "instances_aux"))


def test_the_configuration_used_here_is_the_public_one() -> None:
    assert public_config() == golden_keys("ritm_h18s")["config"]


def test_ritm_gives_the_reference_logits(tmp_path: Path) -> None:
    folder = convert_ritm(saved(tmp_path / "h18s.pth", ritm_content()), tmp_path / "model")
    assert folder == tmp_path / "model"
    assert {entry.name for entry in folder.iterdir()} == {"config.json", "model.safetensors"}
    found = json.loads((folder / "config.json").read_text())
    assert found["class"] == "HRNetOCR"
    known = {"width": 18, "small": True, "click_radius": 5, "window_size": 400}
    assert {name: found["config"][name] for name in known} == known
    network = load_component(folder, "interaction")
    for case in "ab":
        assert logits_error(network, "ritm_hrnet18s_ocr", case) < 2e-4


def test_the_large_ritm_network_gives_the_reference_logits() -> None:
    network = READERS["ritm"](ritm_content("ritm_h32"))
    assert logits_error(network, "ritm_hrnet32_ocr", "b") < 2e-4


def test_half_precision_is_smaller_and_close_and_dead_tensors_may_be_absent(tmp_path: Path) -> None:
    content = ritm_content()
    content["state_dict"] = {k: v for k, v in content["state_dict"].items() if "f_pixel" not in k}
    source = saved(tmp_path / "h18s.pth", content)
    for half, case, most in ((False, "b", 2e-4), (True, "a", 0.05)):
        folder = convert_ritm(source, tmp_path / str(half), half=half)
        assert logits_error(load_component(folder, "interaction"), "ritm_hrnet18s_ocr", case) < most
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("True", "False")]
    assert sizes[0] < 0.6 * sizes[1]


def test_xmem_gives_the_golden_outputs() -> None:
    arrays, meta = golden_arrays("xmem_modules")
    network = xmem_from_state(golden_weights("xmem", meta["overrides"]))
    assert network.config == {"key_dim": 64, "value_dim": 512, "hidden_dim": 64}
    image = (torch.from_numpy(arrays["image"]).float() / 255).permute(2, 0, 1)[None]
    hidden, masks, readout = (torch.from_numpy(arrays[name]) for name in ("hidden_in", "masks", "readout"))
    with torch.no_grad():
        features = network.encode_image(image)
        value, _ = network.encode_value(image, features, hidden, masks)
        _, _, prob = network.segment(features, readout, hidden)
    assert max_difference(features.key, arrays["key"]) < 2e-4
    assert max_difference(value, arrays["value_2obj"]) < 2e-4
    assert max_difference(prob, arrays["segment_prob_2obj"]) < 2e-4


def test_sizes_of_xmem_come_from_the_file(tmp_path: Path) -> None:
    state = public("xmem")
    source = saved(tmp_path / "x.pth", OrderedDict(state))
    again = load_component(convert_xmem(source, tmp_path / "out", half=True), "propagation")
    assert again.config == {"key_dim": 8, "value_dim": 32, "hidden_dim": 16}
    for key, value in again.state_dict().items():
        assert torch.equal(value, state[key].half().float() if value.ndim > 1 else state[key]), key
    assert xmem_from_state(XMem(8, 32, 0).state_dict()).config["hidden_dim"] == 0


def test_older_xmem_files() -> None:
    """The first stage knows no other objects; files in half precision; files without counters of batches."""
    state = public("xmem")
    first = state["value_encoder.conv1.weight"]
    old = {k: v.half() if v.is_floating_point() else v for k, v in state.items() if not k.endswith("_tracked")}
    network = xmem_from_state({**old, "value_encoder.conv1.weight": first[:, :4]})
    weight = network.value_encoder.conv1.weight
    assert torch.equal(weight[:, :4], first[:, :4])
    assert (weight[:, 4] == 0).all()
    assert all(value.dtype == torch.float32 for value in network.parameters())


def test_an_imagenet_resnet_converts(tmp_path: Path) -> None:
    folder = convert_imagenet_resnet(saved(tmp_path / "resnet.pth", public("resnet")), tmp_path / "out")
    expected = quality_from_state(public("resnet")).state_dict()
    for name, value in load_component(folder, "quality").state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_a_grey_slice_looks_as_it_did_in_colour(depth: int) -> None:
    trunk = trained(depth)
    network = quality_from_state({**trunk.state_dict(), "fc.weight": torch.randn(1000, trunk.channels[-1])})
    assert network.config == {"depth": depth, "image_channels": 1}
    slices, masks = torch.rand(2, 1, 64, 64), (torch.rand(2, 2, 64, 64) > 0.5).float()
    colour = (slices - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    seen = torch.cat([slices, masks], 1) * 2 - 1
    with torch.no_grad():
        expected, found = (part.bn1(part.conv1(x)) for part, x in ((trunk, colour), (network.trunk, seen)))
        assert torch.equal(network(slices, masks[:, :1], masks[:, 1:]), torch.zeros(2))
    inner = (..., slice(2, -2), slice(2, -2))  # the padding of the border is another grey
    assert torch.allclose(found[inner], expected[inner], atol=1e-4)
    for name, value in trunk.state_dict().items():
        if not name.startswith(("conv1.", "bn1.running_mean")):
            assert torch.equal(network.trunk.state_dict()[name], value), name


def test_masks_are_learnt_from_the_start() -> None:
    network = quality_from_state(public("resnet")).train().requires_grad_(True)
    torch.nn.init.ones_(network.head.weight)
    network(torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32)).sum().square().backward()
    gradient = network.trunk.conv1.weight.grad
    assert gradient is not None
    assert (gradient.abs().amax((0, 2, 3)) > 0).all()


def test_training_starts_from_it_or_at_another_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How it goes on from there, tests/training/test_recipes.py shows."""
    made: list[Any] = []
    monkeypatch.setattr("limnet.training.train.fit", lambda args, role, module, data: made.append(module))
    start = convert_imagenet_resnet(saved(tmp_path / "resnet18.pth", public("resnet")), tmp_path / "start")
    words = ["train", "--smoke", "--preset", "paper", "--accelerator", "cpu", "--out", str(tmp_path / "out")]
    recipe("quality").main([*words, "--init", str(start)])
    before = load_component(start, "quality").state_dict()
    for network in (made[0].network, made[0].average):
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    for more, message in (
        (["--depth", "34", "--init", str(start)], "--init holds a ResNet-18, --depth is 34"),
        (["--depth", "34", "--network", "TinyQuality"], "TinyQuality has no depth"),
    ):
        with pytest.raises(SystemExit, match=message):
            recipe("quality").main([*words, *more])
    recipe("quality").main([*words, "--depth", "34"])
    assert [module.network.config["depth"] for module in made] == [18, 34]


@pytest.mark.parametrize("kind", CONVERTERS)
def test_the_random_state_is_left_alone(kind: str) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    content = public(kind)
    torch.manual_seed(3)
    READERS[kind](content)
    assert torch.equal(torch.rand(1), expected)


# what is refused


@pytest.mark.parametrize("kind", CONVERTERS)
@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x02garbage", b"PK\x03\x04broken", None])
def test_damaged_and_missing_files(kind: str, content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    if content is None:
        content = saved(path, public(kind)).read_bytes()
        content = content[: len(content) // 2]
    path.write_bytes(content)
    refused_file(kind, path, r"x\.pth", tmp_path)
    for absent in (tmp_path / "nothing.pth", tmp_path):
        with pytest.raises(MissingFileError, match=r"not a file; .* such as \w+"):
            CONVERTERS[kind](absent, tmp_path / "out")


class Harmful:
    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("kind", CONVERTERS)
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_never_run(kind: str, zipped: bool, tmp_path: Path) -> None:
    content = {"state_dict": {}, "config": Harmful(tmp_path / "harm")}
    refused_file(kind, saved(tmp_path / "evil.pth", content, zipped), "more than tensors.*was not opened", tmp_path)
    assert not (tmp_path / "harm").exists()


NAN = torch.tensor([float("nan")])


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("xmem", {"decoder.pred.bias": None}, "decoder.pred.bias is missing"),
        ("xmem", {"extra.weight": torch.zeros(1)}, "extra.weight is unknown"),
        ("xmem", {"decoder.pred.weight": torch.zeros(2, 256, 3, 3)}, "instead of"),
        ("xmem", {"decoder.pred.bias": torch.zeros(1, dtype=torch.int64)}, "dtype"),
        ("xmem", {"value_encoder.conv1.weight": torch.zeros(64, 3, 7, 7)}, "instead of"),
        ("xmem", {"key_proj.key_proj.weight": None}, "no usable key_proj"),
        ("xmem", {"decoder.hidden_update.transform.weight": None}, "g16_conv.weight is unknown"),
        ("xmem", {"decoder.pred.bias": NAN}, "NaN"),
        ("resnet", {"layer2.0.bn1.weight": None}, "layer2.0.bn1.weight is missing"),
        ("resnet", {"conv1.weight": None}, "conv1.weight is missing"),
        ("resnet", {"conv1.weight": torch.zeros(64, 1, 7, 7)}, r"shape \(64, 1, 7, 7\)"),
        ("resnet", {"layer3.6.conv1.weight": torch.zeros(1)}, "layer3.6.conv1.weight is unknown"),
        ("resnet", {"bn1.bias": NAN.repeat(64)}, "NaN"),
        ("ritm", {"feature_extractor.cls_head.bias": None}, "cls_head.bias is missing"),
        ("ritm", {"refiner.weight": torch.zeros(1)}, "refiner.weight is unknown"),
        ("ritm", {"feature_extractor.conv2.weight": torch.zeros(64, 64, 1, 1)}, "has shape"),
        ("ritm", {"feature_extractor.conv2.weight": NAN.view(1, 1, 1, 1).repeat(64, 64, 3, 3)}, "NaN"),
    ],
)
def test_foreign_tensors_are_refused(kind: str, changes: dict[str, Any], message: str) -> None:
    content = public(kind)
    state: dict[str, Tensor] = content["state_dict"] if kind == "ritm" else content
    state |= changes
    for name in [name for name, value in changes.items() if value is None]:
        del state[name]
    refused(kind, content, message)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("xmem", lambda c: {}, "flat dict of tensors"),
        ("xmem", lambda c: torch.zeros(3), "holds a Tensor"),
        ("xmem", lambda c: {"it": 1, "network": {}}, "training checkpoint"),
        ("xmem", lambda c: {"a": torch.zeros(1), "note": "hello"}, "flat dict"),
        ("resnet", lambda c: {"a": torch.zeros(1), "epoch": 3}, "flat dict"),
        ("ritm", lambda c: c["state_dict"], "no configuration"),
        ("ritm", lambda c: [c, c], "2 networks"),
        ("ritm", lambda c: {**c, "optimizer": {}}, "exactly"),
        ("ritm", lambda c: {**c, "config": "h18"}, "`config` is a str"),
        ("ritm", lambda c: {**c, "config": {"class": CLASS}}, "params"),
        ("ritm", lambda c: {**c, "config": {**c["config"], "class": "os.system"}}, "'os.system' is not supported"),
        ("ritm", lambda c: {**c, "state_dict": {"a": 3}}, "flat dict"),
        ("ritm", lambda c: torch.ones(1), "a Tensor"),
    ],
)
def test_foreign_content_is_refused(kind: str, change: Any, message: str, tmp_path: Path) -> None:
    refused_file(kind, change(public(kind)), message, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_rgb_conv": True}, "use_rgb_conv"),
        ({"use_disks": False}, "disks"),
        ({"with_prev_mask": False}, "previous mask"),
        ({"binary_prev_mask": True}, "binary_prev_mask"),
        ({"clicks_groups": [[1, 2]]}, "click groups"),
        ({"width": 32}, "do not fit"),
        ({"width": "18"}, "whole number"),
        ({"width": 10**9}, "whole number"),
        ({"small": False}, "missing"),
        ({"norm_mean_std": 3}, "norm_mean_std"),
        ({"norm_mean_std": [[0.5], [0.0]]}, "makes no network"),
        ({"norm_radius": -5}, "makes no network"),
        ({"norm_radius": float("nan")}, "makes no network"),
        ({"use_disks": torch.ones(2)}, "params"),
        ({"refine_mode": "trimap"}, "refine_mode"),
    ],
)
def test_unsupported_arguments_of_ritm_are_refused(changes: dict[str, Any], message: str) -> None:
    refused("ritm", public("ritm", **changes), message)


def test_an_unknown_argument_nobody_set_is_ignored_and_an_absent_one_has_the_original_default(tmp_path: Path) -> None:
    content = public("ritm")
    del content["config"]["params"]["use_rgb_conv"]
    refused("ritm", content, "use_rgb_conv=True")
    content = public("ritm")
    content["config"]["params"]["novelty"] = {"type": "builtin", "value": 1, "specified": False}
    convert_ritm(saved(tmp_path / "y.pth", content, zipped=False), tmp_path / "model")  # as PyTorch wrote before 1.6


def test_every_misfit_is_named() -> None:
    expected = {name: torch.empty(2, device="meta") for name in ("gone", "shape", "kind", "nan", "fine")}
    expected["count"] = torch.empty((), dtype=torch.int64, device="meta")
    found = {
        "shape": torch.zeros(3),
        "kind": torch.zeros(2, dtype=torch.int64),
        "nan": torch.tensor([0.0, float("inf")]),
        "fine": torch.zeros(2, dtype=torch.float16),
        "count": torch.tensor(5),
        "more": torch.zeros(1),
    }
    problems = misfits(expected, found)
    assert [p.split()[0] for p in problems] == ["gone", "more", "shape", "kind", "nan"]
    assert "(3,) instead of (2,)" in problems[2]
    assert "int64 instead of torch.float32" in problems[3]
    assert misfits(expected, {k: torch.zeros(v.shape, dtype=v.dtype) for k, v in expected.items()}) == []
    assert some("abc") == "a, b, c"
    assert some(range(7)) == "0, 1, 2, 3, 4 and 2 more"
