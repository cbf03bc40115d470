"""Fold frozen batch normalisation into the convolutions before it, when a trained network is loaded."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from limnet.errors import InputError


def fold_batchnorm(module: nn.Module) -> nn.Module:
    """Merge BatchNorm2d layers in eval mode into the Conv2d that feeds them; outputs are equal up to rounding.

    A pair is recognised where both are children of one module and either follow each other in an `nn.Sequential`, or
    are named alike: the convolution's name with "conv" replaced by "bn" or "norm" (conv1/bn1, conv/norm,
    up_conv/up_bn). The convolution's output must go to that normalisation and nowhere else. The normalisation becomes
    `nn.Identity`, so the state dict changes: fold after loading.

    Args:
        module: A network in eval mode; changed in place.

    Returns:
        The same module.

    Raises:
        InputError: The network is in training mode, where the statistics are not frozen.
    """
    if any(part.training for part in module.modules() if isinstance(part, nn.BatchNorm2d)):
        raise InputError("the network is in training mode; call eval() before folding batch normalisation")
    for parent in list(module.modules()):
        for conv_name, norm_name in list(_pairs(parent)):
            conv, norm = parent.get_submodule(conv_name), parent.get_submodule(norm_name)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _merge(conv, norm)
                setattr(parent, norm_name, nn.Identity())
    return module


def _pairs(parent: nn.Module) -> Iterator[tuple[str, str]]:
    children = dict(parent.named_children())
    names = list(children)
    for i, name in enumerate(names):
        if not isinstance(children[name], nn.Conv2d):
            continue
        if isinstance(parent, nn.Sequential):
            candidates = names[i + 1 : i + 2]
        elif "conv" in name:
            candidates = [name.replace("conv", word) for word in ("bn", "norm")]
        else:
            candidates = []
        for other in candidates:
            norm = children.get(other)
            if isinstance(norm, nn.BatchNorm2d) and norm.num_features == children[name].out_channels:
                if norm.running_mean is not None:
                    yield name, other
                break


@torch.no_grad()
def _merge(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    mean, var = norm.running_mean, norm.running_var
    if mean is None or var is None:
        return
    scale = torch.rsqrt(var.double() + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    bias = (0.0 if conv.bias is None else conv.bias.double()) - mean.double()
    shift = bias * scale + (0.0 if norm.bias is None else norm.bias.double())
    dtype, grad = conv.weight.dtype, conv.weight.requires_grad
    conv.weight = nn.Parameter((conv.weight.double() * scale.view(-1, 1, 1, 1)).to(dtype), grad)
    conv.bias = nn.Parameter(shift.to(dtype), grad)
