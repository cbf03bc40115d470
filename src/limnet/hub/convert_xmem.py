"""Public XMem checkpoint files become model folders of limnet.

The files are plain dicts of tensors written by `torch.save` (XMem.pth, XMem-s012.pth and others of that release). They
are read with `weights_only`, so nothing in them is executed. Sizes are taken from the tensors, and every tensor is
accounted for.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from limnet.errors import ModelFormatError
from limnet.hub.checkpoint import misfits, read_tensors, some
from limnet.hub.folder import save_component
from limnet.propagation.xmem import XMem

_FIRST = "value_encoder.conv1.weight"
_KEY = "key_proj.key_proj.weight"
_VALUE = "value_encoder.fuser.block2.conv2.weight"
_HIDDEN = "decoder.hidden_update.transform.weight"
_COUNTER = "num_batches_tracked"


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
