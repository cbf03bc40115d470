"""Adapters: what was learned from finished cases, one small file each; the released weights stay as they are."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy import ndimage
from torch import Tensor, nn

from limnet.environment import user_folder
from limnet.errors import InputError, InputTypeError, MissingFileError, ModelFormatError
from limnet.image.io.atomic import atomic_write, made_folder
from limnet.image.slice_view import SliceView
from limnet.interaction.predictor import SlicePredictor
from limnet.interaction.window import (
    Features,
    Window,
    WindowEncoder,
    fingerprint,
    mask_box,
    window_of_side,
    window_size,
)

FORMAT = 1
_NAME = re.compile(r"[^\W_][\w .-]{0,63}")
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Adapter:
    """A learned task.

    Attributes:
        name: Name of the task, such as "hippocampus".
        network: Fingerprint of the click network it was learned on; it fits no other.
        cases: Number of cases it was learned from.
        modality: Modality of their volumes ("CT", "MR"), None where they did not say or differed.
        window: Intensity window (lo, hi) in raw units for volumes in fixed units (CT), None: the volume's own.
        side: Typical side in mm of the windows that show the object at its scale.
        single: Whether the object was one connected piece in the cases.
        fit: Dice, 0 to 1, on windows of cases that were held out: how good proposals will be. Of a single case its own.
        weights: Prompt half of the click network, by name.
    """

    name: str
    network: str
    cases: int
    modality: str | None
    window: tuple[float, float] | None
    side: float
    single: bool
    fit: float
    weights: dict[str, Tensor] = field(repr=False)

    def save(self, folder: str | os.PathLike[str] | None = None) -> Path:
        """Write `NAME.safetensors`, in place of an earlier one of that name; half precision.

        Args:
            folder: Where; the user's own adapters by default (`user_folder`).

        Raises:
            SaveError: if the file cannot be written; an earlier one stays.
        """
        target = path_of(self.name, folder)
        made_folder(target.parent)
        facts = {k: v for k, v in asdict(self).items() if k != "weights"}
        half = {name: value.detach().cpu().half().contiguous() for name, value in self.weights.items()}
        about = {"limnet_adapter": json.dumps({"format": FORMAT, **facts})}
        return atomic_write(target, lambda path: save_file(half, path, metadata=about))

    def check(self, network: nn.Module) -> None:
        """Refuse another click network than the one it was learned on.

        Raises:
            InputError: if it is another one.
        """
        if (found := fingerprint(network)) != self.network:
            raise InputError(
                f"{self.name!r} was learned on another click network ({self.network}, this one is {found}): "
                "open the case with that model, or learn the task anew from its sessions"
            )

    def prompt_half(self, network: nn.Module) -> nn.Module:
        """A copy of the network's prompt half (its `decoder`) with the learned weights.

        ModelFormatError if names or shapes do not fit the network.
        """
        half = copy.deepcopy(network.decoder)
        assert isinstance(half, nn.Module)
        expected = {name: value.shape for name, value in half.state_dict().items()}
        if {name: value.shape for name, value in self.weights.items()} != expected:
            raise ModelFormatError(f"the weights of {self.name!r} do not fit the click network: learn the task anew")
        half.load_state_dict({name: value.float() for name, value in self.weights.items()})
        return half.eval()


def unprompted(network: nn.Module, features: Features, size: int, half: nn.Module | None = None) -> Tensor:
    """Logits (B, 1, size, size) of a click network without any prompt, by a learned prompt half or its own."""
    channels = len(network.prompt_channels)  # type: ignore[arg-type]
    prompts = torch.zeros(len(features[0]), channels, size, size, device=features[0].device)
    logits: Tensor = network.decode(features, prompts, half)["instances"]  # type: ignore[operator]
    return logits


def checked_name(name: str) -> str:
    """The name of a task; it is a file name, too.

    InputError if it is no string, holds other characters than letters, digits, space, `_`, `-` and `.`, or is too long.
    """
    if not isinstance(name, str):
        raise InputTypeError(f"the name of a task is a string, got {type(name).__name__}")
    if not _NAME.fullmatch(name) or name.endswith((" ", ".")):
        raise InputError(
            f"the name of a task is up to 64 letters, digits, spaces, '_', '-' and '.', begins with a letter or digit "
            f"and ends with neither space nor '.'; got {name!r}"
        )
    return name


def path_of(name: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """File of the adapter of that name."""
    return (user_folder("adapters") if folder is None else Path(folder)) / f"{checked_name(name)}{_SUFFIX}"


def list_adapters(folder: str | os.PathLike[str] | None = None) -> list[str]:
    """Names of the adapters in a folder, in alphabetical order; the user's own by default."""
    place = user_folder("adapters") if folder is None else Path(folder)
    return sorted(p.name[: -len(_SUFFIX)] for p in place.glob(f"*{_SUFFIX}") if _NAME.fullmatch(p.stem))


def remove_adapter(name: str, folder: str | os.PathLike[str] | None = None) -> None:
    """Delete an adapter's file.

    Raises:
        MissingFileError: if there is none of that name.
    """
    _existing(name, folder).unlink()


def read_adapter(name: str, folder: str | os.PathLike[str] | None = None) -> Adapter:
    """Read an adapter by name, or from a file that somebody shared (a path ending in .safetensors).

    Raises:
        MissingFileError: if there is none.
        ModelFormatError: if the file is damaged, no adapter, or of a newer limnet.
    """
    path = Path(name) if str(name).endswith(_SUFFIX) else _existing(name, folder)
    if not path.is_file():
        raise MissingFileError(f"there is no file {path}")
    try:
        with safe_open(str(path), framework="pt") as file:
            about = json.loads((file.metadata() or {})["limnet_adapter"])
            if about.pop("format") > FORMAT:
                raise ModelFormatError(f"{path} is of a newer limnet: update limnet, or learn the task anew")
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
        return _checked(about, weights)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, ModelFormatError):
            raise
        raise ModelFormatError(
            f"{path} is damaged or no adapter of limnet ({error}): copy it again, or learn the task anew"
        ) from error


def _checked(about: dict[str, Any], weights: dict[str, Tensor]) -> Adapter:
    window = about["window"]
    adapter = Adapter(**{**about, "window": None if window is None else tuple(map(float, window)), "weights": weights})
    checked_name(adapter.name)
    if not (math.isfinite(adapter.side) and adapter.side > 0 and isinstance(adapter.cases, int)):
        raise ValueError("its facts are out of range")
    if not all(value.is_floating_point() and bool(torch.isfinite(value).all()) for value in weights.values()):
        raise ValueError("its weights are not finite numbers")
    return adapter


def _existing(name: str, folder: str | os.PathLike[str] | None) -> Path:
    path = path_of(name, folder)
    if not path.is_file():
        known = ", ".join(map(repr, list_adapters(folder))) or "none"
        raise MissingFileError(f"nothing was learned under the name {name!r} in {path.parent}; there: {known}")
    return path


STRIDE_MM = 2.5  # slices at least this far apart are looked at, those between are interpolated
_CRUMB = 0.2  # components smaller than this share of the largest are no part of an object of one piece
_NEAR = 0.8  # a second, nearer look pays where the object's window is smaller than this share of the slice


def propose(adapter: Adapter, predictor: SlicePredictor, view: SliceView) -> NDArray[np.float32]:
    """Probabilities (slices, H, W) of the learned object in a volume.

    Raises:
        InputError: if the task was learned with another network or modality, or the predictor's cannot learn.
    """
    encoder, modality = getattr(predictor, "encoder", None), view.volume.modality
    if encoder is None:
        raise InputError("the click network of this case cannot propose: learning works with limnet-tiny")
    adapter.check(encoder.source)
    if None not in (modality, adapter.modality) and modality != adapter.modality:
        raise InputError(f"{adapter.name!r} was learned on {adapter.modality}, this volume is {modality}")
    half = adapter.prompt_half(encoder.network).to(encoder.device)
    shape, spacing, depth = view.shape, view.spacing, len(view)
    longest = max(shape[0] * spacing[0], shape[1] * spacing[1])
    wide = window_of_side(longest, (shape[0] / 2, shape[1] / 2), shape, spacing, window_size(encoder.network))
    stride = max(1, int(STRIDE_MM / view.gap))
    looked = sorted({*range(0, depth, stride), depth - 1})
    found = np.zeros((depth, *shape), np.float32)
    for index in looked:
        found[index] = _look(encoder, half, view, index, wide)
    _interpolate(found, looked)
    main = main_parts(found > 0.5, adapter.single)
    if adapter.side < _NEAR * longest and main.any():
        near = np.zeros_like(found)
        for index in looked:
            around = main[max(index - stride, 0) : index + stride + 1]
            box = mask_box(np.asarray(around.any(axis=0)))
            if box is not None:
                centre = ((box[0] + box[1]) / 2, (box[2] + box[3]) / 2)
                window = window_of_side(adapter.side, centre, shape, spacing, window_size(encoder.network))
                near[index] = _look(encoder, half, view, index, window)
        found = near
        _interpolate(found, looked)
        main = main_parts(found > 0.5, adapter.single)
    return np.where(main | (found <= 0.5), found, np.float32(0))


def main_parts(mask: NDArray[np.bool_], single: bool) -> NDArray[np.bool_]:
    """The mask without its small components if the object is known to be one piece."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if not single or count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= _CRUMB * sizes.max())[labels] & mask)


def _look(encoder: WindowEncoder, half: nn.Module, view: SliceView, index: int, window: Window) -> NDArray[np.float32]:
    """Probabilities (H, W) of one slice; 0 outside the window."""
    features = encoder.features(view, index, window)
    with encoder.running():
        logits = unprompted(encoder.network, features, window.size, half)
    return window.paste(logits, np.zeros(view.shape, np.float32))


def _interpolate(found: NDArray[np.float32], looked: list[int]) -> None:
    """Fill the slices between those looked at, linearly."""
    for low, high in itertools.pairwise(looked):
        for index in range(low + 1, high):
            part = np.float32((index - low) / (high - low))
            found[index] = (1 - part) * found[low] + part * found[high]
