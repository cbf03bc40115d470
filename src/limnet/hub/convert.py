"""Public checkpoint files (RITM, XMem, torchvision's ResNets) become folders of limnet.

The files are read with `weights_only`, so nothing in them is executed and nothing they name is imported; every argument
is understood or refused, every tensor is accounted for, and every fault is named.

RITM: a dict of `state_dict` and `config`; the configuration names a class, which is looked up in a fixed table, and its
arguments. XMem (XMem.pth, XMem-s012.pth and others of that release): a dict of tensors, which tell the sizes.

ImageNet ResNets (resnet18-....pth, also 34 and 50, torchvision's names) become the start of a quality network. The
paper says "pretrained" and not how three colours became a slice and two masks. Here the first convolution is adapted so
that nothing of what it learnt is lost: the slice gets the sum of the colours' weights, scaled for the range of a slice
in this network in place of ImageNet's mean and deviation, so the start sees a grey slice as the ImageNet network sees
it in three equal colours; both masks get zeros and are learnt from there. The classifier is dropped and the head starts
at zero: P = .5 for everything.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limnet.errors import InputError, MissingFileError, ModelFormatError
from limnet.hub.folder import misfits, save_component, some
from limnet.interaction.networks.hrnet import IMAGENET_MEAN, IMAGENET_STD, HRNetOCR, drop_dead_tensors
from limnet.propagation.networks.xmem import XMem
from limnet.quality.networks.resnet import ResNetQuality

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
_COUNTER = "num_batches_tracked"
_FIRST = "value_encoder.conv1.weight"
_KEY = "key_proj.key_proj.weight"
_VALUE = "value_encoder.fuser.block2.conv2.weight"
_HIDDEN = "decoder.hidden_update.transform.weight"
_RESNET_FIRST, _RESNET_MEAN = "conv1.weight", "bn1.running_mean"
_CLASSIFIER = ("fc.weight", "fc.bias")


def convert_ritm(source: str | Path, out: str | Path, half: bool = False) -> Path:
    """Convert one checkpoint file.

    The parts of the original head that cannot influence the result (see `limnet.interaction.networks.ocr`) are dropped;
    all other tensors keep their names and values.

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


def convert_xmem(source: str | Path, out: str | Path, half: bool = False) -> Path:
    """Convert one checkpoint file.

    Files without sensory memory give a network with hidden_dim 0; files of the first training stage, whose value
    encoder knows no other objects (4 input channels), get a zero channel for them.

    Args:
        source: The .pth file, in either serialisation of PyTorch.
        out: Folder to write (config.json and model.safetensors of the propagation network).
        half: Store weights as float16.

    Returns:
        The folder.

    Raises:
        MissingFileError: No such file.
        ModelFormatError: The file is damaged, unsafe or no XMem checkpoint.
        SaveError: The folder could not be written.
    """
    out = Path(out)
    save_component(xmem_from_state(read_tensors(source, "XMem.pth"), str(source)), out, half=half)
    return out


def xmem_from_state(state: dict[str, Tensor], source: str = "the checkpoint") -> XMem:
    """Build the network that a public state dict describes and load it.

    Args:
        state: Tensors under the names of the public implementation.
        source: How messages call the file.

    Returns:
        The network in float32 and eval mode, gradients off.

    Raises:
        ModelFormatError: Missing, unknown or misshapen tensors.
    """
    state = dict(state)
    absent = [key for key in (_FIRST, _KEY, _VALUE) if key not in state or state[key].ndim != 4]
    if absent:
        raise ModelFormatError(
            f"{source} is no XMem checkpoint: no usable {', '.join(absent)} among its {len(state)} tensors"
        )
    hidden = state[_HIDDEN].shape[0] if _HIDDEN in state and state[_HIDDEN].ndim == 4 else 0
    config = {"key_dim": state[_KEY].shape[0], "value_dim": state[_VALUE].shape[0], "hidden_dim": hidden // 3}
    first = state[_FIRST]
    if first.shape[1] == 4:
        state[_FIRST] = torch.cat([first, torch.zeros_like(first[:, :1])], 1)
    try:
        with torch.device("meta"):
            wanted = XMem(**config).state_dict()
    except ValueError as error:
        raise ModelFormatError(f"{source} has sizes no XMem has: {error}") from error
    for key, tensor in wanted.items():
        if key.endswith(_COUNTER):
            state.setdefault(key, torch.zeros(tensor.shape, dtype=tensor.dtype))
    problems = misfits(wanted, state)
    if problems:
        raise ModelFormatError(f"{source} is no XMem checkpoint of a known layout, or damaged: {some(problems)}")
    with torch.random.fork_rng(devices=[]):
        network = XMem(**config)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def convert_imagenet_resnet(source: str | Path, out: str | Path, half: bool = False) -> Path:
    """Convert one file.

    Args:
        source: The .pth file, in either serialisation of PyTorch.
        out: Folder to write (config.json and model.safetensors of the quality network).
        half: Store weights as float16.

    Returns:
        The folder.

    Raises:
        MissingFileError: No such file.
        ModelFormatError: The file is damaged, unsafe or no ResNet-18, 34 or 50.
        SaveError: The folder could not be written.
    """
    out = Path(out)
    save_component(quality_from_state(read_tensors(source, "resnet18-f37072fd.pth"), str(source)), out, half=half)
    return out


def quality_from_state(state: dict[str, Tensor], source: str = "the file") -> ResNetQuality:
    """Build the quality network that starts from a public state dict.

    Args:
        state: Tensors under torchvision's names, with or without the classifier.
        source: How messages call the file.

    Returns:
        The network in float32 and eval mode, gradients off.

    Raises:
        ModelFormatError: Missing, unknown or misshapen tensors.
    """
    depth = 50 if "layer1.0.conv3.weight" in state else 34 if "layer1.2.conv1.weight" in state else 18
    with torch.random.fork_rng(devices=[]):
        network = ResNetQuality(depth)
    state = {key: value for key, value in state.items() if key not in _CLASSIFIER}
    wanted = network.trunk.state_dict()
    for key, tensor in wanted.items():
        if key.endswith(_COUNTER):
            state.setdefault(key, torch.zeros(tensor.shape, dtype=tensor.dtype))
    problems = misfits(wanted, state)
    if problems:
        raise ModelFormatError(
            f"{source} is no ResNet-18, 34 or 50 under torchvision's names (taken for depth {depth}): {some(problems)}"
        )
    colours = state[_RESNET_FIRST].float()
    # A slice x in [-1, 1] stands for the grey (x + 1) / 2, which ImageNet networks see as (grey - mean) / std.
    scale = 1 / (2 * torch.tensor(IMAGENET_STD))
    offset = (0.5 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    grey = (colours * scale.view(1, 3, 1, 1)).sum(1, keepdim=True)
    state[_RESNET_FIRST] = torch.cat([grey, torch.zeros_like(grey), torch.zeros_like(grey)], 1)
    state[_RESNET_MEAN] = state[_RESNET_MEAN].float() - (colours.sum((2, 3)) * offset).sum(1)
    network.trunk.load_state_dict(state)
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    return network.eval().requires_grad_(False)


def read_pth(source: str | Path, example: str) -> Any:
    """What `torch.save` wrote, as long as it is tensors and plain values; on the CPU.

    Args:
        source: the file, in either serialisation of PyTorch.
        example: name of a public file, for the message when there is none.

    Raises:
        MissingFileError: no such file.
        ModelFormatError: the file is damaged or contains code.
    """
    path = Path(source)
    if not path.is_file():
        raise MissingFileError(f"{path} is not a file; give the path of a downloaded checkpoint such as {example}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelFormatError(
            f"{path} is damaged or holds more than tensors and plain values, and was not opened; give the published "
            "file as it was downloaded"
        ) from error
    except Exception as error:  # a damaged file can fail in any way inside the reader
        raise ModelFormatError(f"{path} cannot be read as a PyTorch file ({error}); download it again") from error


def read_tensors(source: str | Path, example: str) -> dict[str, Tensor]:
    """A file that is a flat dict of named tensors.

    Args:
        source: the file.
        example: see `read_pth`.

    Raises:
        MissingFileError: no such file.
        ModelFormatError: unreadable, or anything else.
    """
    path, loaded = Path(source), read_pth(source, example)
    if not isinstance(loaded, dict) or not loaded:
        raise ModelFormatError(
            f"{path} holds a {type(loaded).__name__}; a checkpoint such as {example} is a dict of tensors"
        )
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ModelFormatError(
                f"{path}: entry {key!r} is a {type(value).__name__}; a checkpoint such as {example} is a flat dict of "
                "tensors. A training checkpoint with optimizer state must be reduced to its weights first"
            )
    return loaded
