"""Going on from OUT/last.ckpt: only with the network and the optimizer that it holds."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule

from limnet.errors import FileFormatError, InputError

OPTIONS = {"network": "--network", "optimizer": "--optimizer", "freeze_encoder": "--freeze-encoder"}
"""Argument of a module that decides which parameters an optimizer has -> option of the recipes."""
_OF_ROLE = {"propagation": {"freeze_encoder": "--train-encoder"}}
_ADVICE = "--resume goes on with the same options"


_LAST = "last.ckpt"
_TRAINED = (
    _LAST,
    "network.safetensors",
    *(f"{part}/config.json" for part in ("interaction", "propagation", "quality")),
)
"""What a training leaves in OUT."""


def check_out(folder: Path, resume: bool, overwrite: bool) -> None:
    """Refuse to train over the outcome of an earlier training.

    Args:
        folder: OUT of the recipe.
        resume: whether --resume was given; it needs a checkpoint to go on from.
        overwrite: whether --overwrite was given.

    Raises:
        InputError: there is one.
    """
    there = [name for name in _TRAINED if (folder / name).exists()]
    if not there or overwrite or (resume and _LAST in there):
        return
    way = "go on with --resume, " if _LAST in there else ""
    raise InputError(
        f"{folder} holds a trained network already ({', '.join(there)}), which would be lost: {way}"
        "give another --out, or --overwrite"
    )


def checkpoint_to_resume(folder: Path, module: LightningModule, role: str, resume: bool = True) -> Path | None:
    """The checkpoint to go on from; None without `resume`, or where there is none yet.

    Args:
        folder: OUT of the recipe.
        module: that goes on.
        role: "interaction", "propagation" or "quality".
        resume: whether --resume was given.

    Raises:
        InputError: a checkpoint of another network, or of other parameters that learn.
        FileFormatError: a damaged checkpoint.
    """
    path = folder / _LAST
    if not resume or not path.exists():
        return None
    saved = _read(path)
    before, now = saved["hyper_parameters"], module.hparams
    for name, option in {**OPTIONS, **_OF_ROLE.get(role, {})}.items():
        if name in before and name in now and before[name] != now[name]:
            raise InputError(
                f"{path} was trained with {name} {before[name]}, now it is {now[name]}; {_ADVICE}: "
                f"set {option} as before, or leave --resume out"
            )
    shapes = [
        {key: value.shape for key, value in state.items()} for state in (saved["state_dict"], module.state_dict())
    ]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"{path} holds a network of another size than the one to train; {_ADVICE}: "
            "set --init, --preset and --network as before, or leave --resume out"
        )
    return path


def _read(path: Path) -> dict[str, Any]:
    """Content of a checkpoint; tensors stay in the file."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if isinstance(saved, dict) and {"hyper_parameters", "state_dict"} <= set(saved):
            return saved
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise FileFormatError(f"{path} cannot be read ({error}); leave --resume out to begin anew") from error
    raise FileFormatError(f"{path} is no checkpoint of a recipe; leave --resume out to begin anew")
