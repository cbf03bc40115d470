from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limnet.errors import MissingFileError, ModelFormatError
from limnet.hub.convert import convert_ritm
from limnet.hub.folder import load_component
from limnet.interaction.networks.hrnet import HRNetOCR
from tests.helpers.golden import golden_arrays, golden_keys, golden_weights, max_difference

CLASS = "isegm.model.is_hrnet_model.HRNetModel"
HEAD = "feature_extractor.ocr_distri_head.object_context_block"
SIZES = {"ritm_h18s": "ritm_hrnet18s_ocr", "ritm_h32": "ritm_hrnet32_ocr"}


def public_config(**changes: Any) -> dict[str, Any]:
    """The configuration beside the weights in a public file; `changes` set arguments."""
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


def public_file(path: Path, zipped: bool = True, **changes: Any) -> Path:
    """A very narrow network in the exact public form; `changes` set arguments of the configuration."""
    state = HRNetOCR(width=4, ocr_width=6, small=True).state_dict()
    for query in ("f_pixel", "f_object"):
        state[f"{HEAD}.{query}.0.weight"] = torch.zeros(6, 12, 1, 1)
    content = {"state_dict": dict(state), "config": public_config(**{"width": 4, "ocr_width": 6, **changes})}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def reference_file(path: Path, model: str, zipped: bool = True) -> Path:
    """A file in the exact public form with all tensors of the reference, filled with computed weights."""
    _, meta = golden_arrays(SIZES[model])
    content = {"state_dict": golden_weights(model, meta["overrides"]), "config": golden_keys(model)["config"]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def test_the_configuration_used_here_is_the_public_one() -> None:
    assert public_config() == golden_keys("ritm_h18s")["config"]


def edited(path: Path, edit: Any) -> Path:
    content = torch.load(path, weights_only=True)
    torch.save(edit(content) or content, path)
    return path


def logits_error(folder: Path, stem: str, case: str) -> float:
    network = load_component(folder, "interaction")
    arrays, _ = golden_arrays(stem)
    prompts = np.concatenate([arrays[f"{case}_prev_mask"], arrays[f"{case}_disks"].astype(np.float32)], axis=1)
    with torch.inference_mode():
        outputs = network(torch.from_numpy(arrays[f"{case}_image"]), torch.from_numpy(prompts))
    return max(max_difference(outputs[n], arrays[f"{case}_{n}"]) for n in ("instances", "instances_aux"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_converted_file_gives_the_reference_logits(tmp_path: Path, zipped: bool) -> None:
    folder = convert_ritm(reference_file(tmp_path / "h18s.pth", "ritm_h18s", zipped), tmp_path / "model")
    assert folder == tmp_path / "model"
    assert {entry.name for entry in folder.iterdir()} == {"config.json", "model.safetensors"}
    config = json.loads((folder / "config.json").read_text())
    assert config["class"] == "HRNetOCR"
    assert config["config"]["width"] == 18
    assert config["config"]["small"] is True
    assert config["config"]["click_radius"] == 5
    assert config["config"]["window_size"] == 400
    for case in "ab":
        assert logits_error(folder, "ritm_hrnet18s_ocr", case) < 2e-4


@pytest.mark.slow
def test_the_large_network_converts(tmp_path: Path) -> None:
    folder = convert_ritm(reference_file(tmp_path / "h32.pth", "ritm_h32"), tmp_path / "model")
    assert logits_error(folder, "ritm_hrnet32_ocr", "b") < 2e-4


def test_half_precision_is_smaller_and_close(tmp_path: Path) -> None:
    source = reference_file(tmp_path / "h18s.pth", "ritm_h18s")
    full, half = convert_ritm(source, tmp_path / "full"), convert_ritm(source, tmp_path / "half", half=True)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (full, half)]
    assert sizes[1] < 0.6 * sizes[0]
    assert logits_error(half, "ritm_hrnet18s_ocr", "a") < 0.05


def test_dead_tensors_may_be_absent(tmp_path: Path) -> None:
    def drop(content: dict[str, Any]) -> None:
        content["state_dict"] = {k: v for k, v in content["state_dict"].items() if "f_pixel" not in k}

    folder = convert_ritm(edited(reference_file(tmp_path / "x.pth", "ritm_h18s"), drop), tmp_path / "model")
    assert logits_error(folder, "ritm_hrnet18s_ocr", "b") < 2e-4


def test_the_random_state_is_left_alone(tmp_path: Path) -> None:
    source = public_file(tmp_path / "x.pth")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    convert_ritm(source, tmp_path / "model")
    assert torch.equal(torch.rand(1), expected)


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
def test_unsupported_arguments_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        convert_ritm(public_file(tmp_path / "x.pth", **changes), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_an_unknown_argument_nobody_set_is_ignored_and_an_absent_one_has_the_original_default(tmp_path: Path) -> None:
    def extend(content: dict[str, Any]) -> None:
        content["config"]["params"]["novelty"] = {"type": "builtin", "value": 1, "specified": False}

    convert_ritm(edited(public_file(tmp_path / "x.pth"), extend), tmp_path / "model")

    def shorten(content: dict[str, Any]) -> None:
        del content["config"]["params"]["use_rgb_conv"]

    with pytest.raises(ModelFormatError, match="use_rgb_conv=True"):
        convert_ritm(edited(public_file(tmp_path / "y.pth"), shorten), tmp_path / "other")


def _set_class(content: dict[str, Any]) -> None:
    content["config"]["class"] = "os.system"


def _drop_key(content: dict[str, Any]) -> None:
    del content["state_dict"]["feature_extractor.cls_head.bias"]


def _add_key(content: dict[str, Any]) -> None:
    content["state_dict"]["refiner.weight"] = torch.zeros(1)


def _bend_key(content: dict[str, Any]) -> None:
    content["state_dict"]["feature_extractor.conv2.weight"] = torch.zeros(64, 64, 1, 1)


def _spoil_key(content: dict[str, Any]) -> None:
    content["state_dict"]["feature_extractor.conv2.weight"][0] = float("nan")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_set_class, "'os.system' is not supported"),
        (_drop_key, "cls_head.bias is missing"),
        (_add_key, "refiner.weight is unknown"),
        (_bend_key, "has shape"),
        (_spoil_key, "NaN"),
        (lambda content: content["state_dict"], "no configuration"),
        (lambda content: [content, content], "2 networks"),
        (lambda content: {**content, "optimizer": {}}, "exactly"),
        (lambda content: {**content, "config": "h18"}, "`config` is a str"),
        (lambda content: {**content, "config": {"class": CLASS}}, "params"),
        (lambda content: {**content, "state_dict": {"a": 3}}, "flat dict"),
        (lambda content: torch.ones(1), "a Tensor"),
    ],
)
def test_foreign_content_is_refused(tmp_path: Path, edit: Any, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        convert_ritm(edited(public_file(tmp_path / "x.pth"), edit), tmp_path / "model")


class Harmful:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_never_run(tmp_path: Path, zipped: bool) -> None:
    marker = tmp_path / "harm"
    content = {"state_dict": {}, "config": Harmful(str(marker))}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelFormatError, match="was not opened"):
        convert_ritm(tmp_path / "x.pth", tmp_path / "model")
    assert not marker.exists()


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    source = public_file(tmp_path / "x.pth")
    whole = source.read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"<html>not found</html>"}.items():
        path = tmp_path / f"{name}.pth"
        path.write_bytes(content)
        with pytest.raises(ModelFormatError, match=name):
            convert_ritm(path, tmp_path / "model")
    for path in (tmp_path / "nothing.pth", tmp_path):
        with pytest.raises(MissingFileError, match="not a file"):
            convert_ritm(path, tmp_path / "model")
