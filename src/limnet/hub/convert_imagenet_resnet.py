"""A public ImageNet ResNet becomes the start of a quality network.

The files are plain dicts of tensors under torchvision's names (resnet18-....pth, also 34 and 50). They are read with
`weights_only`, so nothing in them is executed; the depth is taken from the tensors, and every tensor is accounted for.

The paper says "pretrained" and not how three colours became a slice and two masks. Here the first convolution is
adapted so that nothing of what it learnt is lost: the slice gets the sum of the colours' weights, scaled for the range
of a slice in this network in place of ImageNet's mean and deviation, so the start sees a grey slice as the ImageNet
network sees it in three equal colours; both masks get zeros and are learnt from there. The classifier is dropped and
the head starts at zero: P = .5 for everything.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from limnet.errors import ModelFormatError
from limnet.hub.checkpoint import misfits, read_tensors, some
from limnet.hub.folder import save_component
from limnet.interaction.hrnet import IMAGENET_MEAN, IMAGENET_STD
from limnet.quality.resnet import ResNetQuality

EXAMPLE = "resnet18-f37072fd.pth"
_FIRST = "conv1.weight"
_MEAN = "bn1.running_mean"
_CLASSIFIER = ("fc.weight", "fc.bias")
_COUNTER = "num_batches_tracked"


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
    save_component(quality_from_state(read_tensors(source, EXAMPLE), str(source)), out, half=half)
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
    colours = state[_FIRST].float()
    # A slice x in [-1, 1] stands for the grey (x + 1) / 2, which ImageNet networks see as (grey - mean) / std.
    scale = 1 / (2 * torch.tensor(IMAGENET_STD))
    offset = (0.5 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    grey = (colours * scale.view(1, 3, 1, 1)).sum(1, keepdim=True)
    state[_FIRST] = torch.cat([grey, torch.zeros_like(grey), torch.zeros_like(grey)], 1)
    state[_MEAN] = state[_MEAN].float() - (colours.sum((2, 3)) * offset).sum(1)
    network.trunk.load_state_dict(state)
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    return network.eval().requires_grad_(False)
