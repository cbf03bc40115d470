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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from limnet.errors import InputError, MissingFileError, ModelFormatError
from limnet.hub.folder import misfits, save_component, some
from limnet.interaction.networks.hrnet import IMAGENET_MEAN, IMAGENET_STD, HRNetOCR, drop_dead_tensors
from limnet.propagation.networks.xmem import XMem
from limnet.quality.networks.resnet import ResNetQuality

Network = TypeVar("Network", bound=nn.Module)
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
    """Convert a public RITM file, such as coco_lvis_h18s_itermask.pth, to the folder of an interaction network.

    The parts of the original head that cannot influence the result (see `drop_dead_tensors`) are dropped; all other
    tensors keep their names and values; `half` stores them in half precision. ModelFormatError if the file is damaged,
    contains code, or holds anything but one supported network.
    """
    state, config = read_checkpoint(Path(source))
    return save_component(network_from_state(state, config, str(source)), Path(out), half)


def convert_xmem(source: str | Path, out: str | Path, half: bool = False) -> Path:
    """Convert a public XMem file to the folder of a propagation network: see `convert_ritm`.

    Files without sensory memory give a network with hidden_dim 0; files of the first training stage, whose value
    encoder knows no other objects (4 input channels), get a zero channel for them.
    """
    return save_component(xmem_from_state(read_tensors(source, "XMem.pth"), str(source)), Path(out), half)


def convert_imagenet_resnet(source: str | Path, out: str | Path, half: bool = False) -> Path:
    """Convert torchvision's ResNet-18, 34 or 50 to the start of a quality network: see `convert_ritm`."""
    return save_component(
        quality_from_state(read_tensors(source, "resnet18-f37072fd.pth"), str(source)), Path(out), half
    )


def read_checkpoint(source: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict and configuration of a public file; nothing in it is executed."""
    found = read_pth(source, "coco_lvis_h18s_itermask.pth")
    if not isinstance(found, dict) or set(found) != {"state_dict", "config"}:
        what = f"a {type(found).__name__}"
        if isinstance(found, (list, tuple)):
            what = f"{len(found)} networks to run in stages"
        elif isinstance(found, dict):
            what = f"entries {some(found)}"
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
    """Build the network a public configuration (`class` and `params`) describes and fill it strictly.

    `state` has the tensors under their public names; `source` is what messages call the file.
    """
    name = config.get("class")
    if not isinstance(name, str) or name not in CLASSES:
        raise ModelFormatError(f"{source}: network class {name!r} is not supported; supported: {', '.join(CLASSES)}")
    arguments = constructor_arguments(config.get("params"), source)
    what = f"{source}: the tensors do not fit the configuration (width {arguments['width']}): "
    try:
        return _filled(lambda: CLASSES[name](**arguments), drop_dead_tensors(state), what)
    except InputError as error:
        raise ModelFormatError(f"{source}: the configuration makes no network: {error}") from error


def constructor_arguments(params: Any, source: str) -> dict[str, Any]:
    """Arguments of `HRNetOCR` from the stored ones of the original class: name -> {"type", "value", "specified"}."""
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


def xmem_from_state(state: dict[str, Tensor], source: str = "the checkpoint") -> XMem:
    """Build the network that a public state dict describes and load it; float32, eval mode, gradients off."""
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
    what = f"{source} is no XMem checkpoint of a known layout, or damaged: "
    try:
        return _filled(lambda: XMem(**config), state, what).requires_grad_(False)
    except InputError as error:
        raise ModelFormatError(f"{source} has sizes no XMem has: {error}") from error


def quality_from_state(state: dict[str, Tensor], source: str = "the file") -> ResNetQuality:
    """The quality network that starts from a state dict under torchvision's names, with or without the classifier."""
    depth = 50 if "layer1.0.conv3.weight" in state else 34 if "layer1.2.conv1.weight" in state else 18
    with torch.random.fork_rng(devices=[]):
        network = ResNetQuality(depth)
    state = {key: value for key, value in state.items() if key not in _CLASSIFIER}
    _check_fit(
        network.trunk.state_dict(),
        state,
        f"{source} is no ResNet-18, 34 or 50 under torchvision's names (taken for depth {depth}): ",
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


def _filled(build: Callable[[], Network], state: dict[str, Tensor], what: str) -> Network:
    """A network in evaluation mode with the tensors in it; `what` begins the message if they do not fit."""
    with torch.device("meta"):
        wanted = build().state_dict()
    _check_fit(wanted, state, what)
    with torch.random.fork_rng(devices=[]):
        network = build()
    network.load_state_dict(state)
    return network.eval()


def _check_fit(wanted: Mapping[str, Tensor], state: dict[str, Tensor], what: str) -> None:
    """Give batch counters to files without them, which say nothing, and refuse all else that is missing or differs."""
    for key, tensor in wanted.items():
        if key.endswith(_COUNTER):
            state.setdefault(key, torch.zeros(tensor.shape, dtype=tensor.dtype))
    if problems := misfits(wanted, state):
        raise ModelFormatError(f"{what}{some(problems)}. Variants with other layers are not supported")


def read_pth(source: str | Path, example: str) -> Any:
    """What `torch.save` wrote, as long as it is tensors and plain values; on the CPU. `example` names a public file."""
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
    """A file that is a flat dict of named tensors; see `read_pth`."""
    loaded = read_pth(source, example)
    what = None if isinstance(loaded, dict) and loaded else f"holds a {type(loaded).__name__}"
    for key, value in loaded.items() if what is None else ():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            what = f"has the entry {key!r}, a {type(value).__name__}"
    if what is not None:
        raise ModelFormatError(
            f"{source} {what}; a checkpoint such as {example} is a flat dict of tensors. A training checkpoint with "
            "optimizer state must be reduced to its weights first"
        )
    return loaded
