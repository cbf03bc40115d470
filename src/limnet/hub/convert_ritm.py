"""Public RITM checkpoint files (HRNet + OCR) become model folders of limnet.

A public file is a dict of `state_dict` and `config`; the configuration names a class and its arguments. The file is
read with `weights_only`, so nothing in it is executed and nothing it names is imported: the class name is looked up in
a fixed table, every argument is understood or refused, and every tensor is accounted for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limnet.errors import InputError, ModelFormatError
from limnet.hub.checkpoint import misfits, read_pth, some
from limnet.hub.folder import save_component
from limnet.interaction.hrnet import IMAGENET_MEAN, IMAGENET_STD, HRNetOCR, drop_dead_tensors

CLASSES = {"isegm.model.is_hrnet_model.HRNetModel": HRNetOCR}
"""Class name in a file -> network of limnet."""

_REQUIRED: dict[str, tuple[Any, Any, str]] = {
    "use_rgb_conv": (True, False, "the older network that mixes clicks into the image is not supported"),
    "use_disks": (False, True, "only click maps of disks are supported"),
    "with_prev_mask": (False, True, "only networks that take the previous mask are supported (the itermask files)"),
    "binary_prev_mask": (False, False, "a thresholded previous mask is not supported"),
    "clicks_groups": (None, None, "click groups are not supported"),
    "conv_extend": (False, False, "the extended stem is not supported"),
}
"""Argument -> (value when the file does not say, value needed, why)."""

_NO_EFFECT = {"backbone_lr_mult", "with_aux_output", "cpu_dist_maps", "norm_layer"}
"""Arguments that concern training, the choice of outputs or the speed of drawing, not the result of the network."""

_READ = {"width", "ocr_width", "small", "norm_radius", "use_leaky_relu", "norm_mean_std"}
_LARGEST_WIDTH = 1024
_ZOOM = 400  # longer side of the crops in RITM's evaluation, pixels


def convert_ritm(source: str | Path, out: str | Path, half: bool = False) -> Path:
    """Convert one checkpoint file.

    The parts of the original head that cannot influence the result (see `limnet.interaction.ocr`) are dropped; all
    other tensors keep their names and values.

    Args:
        source: a public file such as coco_lvis_h18s_itermask.pth, in either serialisation of PyTorch.
        out: folder to write: config.json and model.safetensors of the interaction network.
        half: store the weights in half precision.

    Returns:
        The folder.

    Raises:
        MissingFileError: no such file.
        ModelFormatError: the file is damaged, contains code, or holds anything but one supported network.
        SaveError: the folder could not be written.
    """
    source, out = Path(source), Path(out)
    state, config = read_checkpoint(source)
    save_component(network_from_state(state, config, str(source)), out, half=half)
    return out


def read_checkpoint(source: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict and configuration of a public file; nothing in it is executed.

    Raises:
        MissingFileError: no such file.
        ModelFormatError: the file cannot be read, or it is not of this form.
    """
    found = read_pth(source, "coco_lvis_h18s_itermask.pth")
    if isinstance(found, (list, tuple)):
        raise ModelFormatError(f"{source} holds {len(found)} networks to run in stages; only one network is supported")
    if not isinstance(found, dict) or set(found) != {"state_dict", "config"}:
        what = f"entries {some(found)}" if isinstance(found, dict) else f"a {type(found).__name__}"
        raise ModelFormatError(
            f"{source} holds {what}; expected exactly `state_dict` and `config`. A file of backbone weights alone has "
            "no configuration and cannot be converted"
        )
    state, config = found["state_dict"], found["config"]
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise ModelFormatError(f"{source}: `state_dict` must be a flat dict of named tensors; download the file again")
    if not isinstance(config, dict):
        raise ModelFormatError(f"{source}: `config` is a {type(config).__name__}; expected a dict of class and params")
    return dict(state), config


def network_from_state(state: Mapping[str, Tensor], config: Mapping[str, Any], source: str) -> HRNetOCR:
    """Builds the network a public configuration describes and fills it strictly.

    Args:
        state: tensors under their public names.
        config: `class` and `params` as stored beside them.
        source: what messages call the file.

    Returns:
        The network in float32, in evaluation mode.

    Raises:
        ModelFormatError: unknown class or arguments; missing, unknown, misshapen or non-finite tensors.
    """
    name = config.get("class")
    if not isinstance(name, str) or name not in CLASSES:
        raise ModelFormatError(f"{source}: network class {name!r} is not supported; supported: {', '.join(CLASSES)}")
    arguments = constructor_arguments(config.get("params"), source)
    try:
        with torch.device("meta"):
            expected = CLASSES[name](**arguments).state_dict()
    except InputError as error:
        raise ModelFormatError(f"{source}: the configuration makes no network: {error}") from error
    kept = drop_dead_tensors(state)
    problems = misfits(expected, kept)
    if problems:
        raise ModelFormatError(
            f"{source}: the tensors do not fit the configuration (width {arguments['width']}): {some(problems)}. "
            "Variants of this network with other layers are not supported"
        )
    with torch.random.fork_rng(devices=[]):
        network = CLASSES[name](**arguments)
    network.load_state_dict(kept, strict=True)
    return network.eval()


def constructor_arguments(params: Any, source: str) -> dict[str, Any]:
    """Arguments of `HRNetOCR` from the stored arguments of the original class.

    Args:
        params: name -> {"type": ..., "value": ..., "specified": whether the author set it}.
        source: what messages call the file.

    Raises:
        ModelFormatError: an argument is malformed, unknown, or asks for something that is not supported.
    """
    if not isinstance(params, dict) or not all(
        isinstance(p, dict) and not isinstance(p.get("value", torch.empty(0)), Tensor) for p in params.values()
    ):
        raise ModelFormatError(f"{source}: `config` has no readable `params`; download the file again")
    values = {str(name): param["value"] for name, param in params.items()}
    known = _REQUIRED.keys() | _NO_EFFECT | _READ
    unknown = [name for name, param in params.items() if name not in known and param.get("specified", True)]
    if unknown:
        raise ModelFormatError(
            f"{source}: unknown network arguments {some(unknown)}; understood: {', '.join(sorted(known))}. "
            "The file seems to be of a variant that is not supported"
        )
    for name, (default, needed, why) in _REQUIRED.items():
        value = values.get(name, default)
        if value != needed:
            raise ModelFormatError(f"{source}: {name}={value!r}, needed {needed!r}: {why}")
    sizes = {name: values.get(name) for name in ("width", "ocr_width")}
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST_WIDTH:
            raise ModelFormatError(f"{source}: {name}={value!r}; a whole number from 1 to {_LARGEST_WIDTH} is needed")
    try:
        mean, std = values.get("norm_mean_std", (IMAGENET_MEAN, IMAGENET_STD))
        return {
            **sizes,
            "small": bool(values.get("small", False)),
            "click_radius": float(values.get("norm_radius", 260)),
            "leaky_slope": 0.2 if values.get("use_leaky_relu", False) else 0.0,
            "mean": [float(x) for x in mean],
            "std": [float(x) for x in std],
            "window_size": _ZOOM,
        }
    except (TypeError, ValueError) as error:
        raise ModelFormatError(f"{source}: norm_radius or norm_mean_std cannot be read ({error})") from error
