"""`golden.npz` of a model: fixed inputs and what each network made of them; shows whether a copy computes the same."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from limnet.errors import MissingFileError, ModelFormatError
from limnet.hub.model import GOLDEN, LoadedModel, load_model
from limnet.hub.registry import ROLES
from limnet.image.io.atomic import atomic_write

TOLERANCE = 2e-3
"""Largest difference allowed, relative to 1 + the largest expected magnitude of that output: processors differ."""

_SIZE = 64  # pixels; the smallest networks still have a 4 x 4 map there
_LIMIT = 16384  # numbers kept of one output, evenly spread


def write_golden(folder: str | Path, seed: int = 0) -> Path:
    """Write golden.npz of a model folder: call it after the last change of the weights.

    Args:
        folder: A complete model folder.
        seed: Of the inputs.

    Returns:
        Path of the file.

    Raises:
        MissingFileError: If the model is incomplete.
        ModelFormatError: If it is damaged.
        SaveError: If the file cannot be written.
    """
    model = load_model(folder)
    inputs = make_inputs(seed)
    arrays = {f"input/{name}": value for name, value in inputs.items()}
    for role in ROLES:
        arrays.update({f"{role}/{name}": value for name, value in run_network(model, role, inputs).items()})

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **cast(Mapping[str, Any], arrays))

    return atomic_write(Path(folder) / GOLDEN, write)


def read_golden(folder: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """Read golden.npz.

    Returns:
        "input" and each role -> name -> array.

    Raises:
        MissingFileError: If there is none.
        ModelFormatError: If it is damaged.
    """
    path = Path(folder) / GOLDEN
    found: dict[str, dict[str, np.ndarray]] = {"input": {}, **{role: {} for role in ROLES}}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                part, _, name = key.partition("/")
                found[part][name] = file[key]
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing; write it with limnet.hub.golden.write_golden") from error
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ModelFormatError(f"{path} is damaged or not a golden file ({error})") from error
    return found


def compare_golden(model: LoadedModel, golden: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, str]:
    """Compute the golden outputs again.

    Args:
        model: The networks.
        golden: From `read_golden`.

    Returns:
        role -> what differs; empty when everything is reproduced.
    """
    problems = {}
    for role in ROLES:
        expected = golden[role]
        try:
            found = run_network(model, role, dict(golden["input"]))
        except (KeyError, ValueError, RuntimeError) as error:
            problems[role] = f"cannot run on the golden inputs ({type(error).__name__}: {error})"
            continue
        if set(found) != set(expected):
            problems[role] = f"gives {', '.join(sorted(found)) or 'nothing'}, expected {', '.join(sorted(expected))}"
            continue
        for name, wanted in expected.items():
            if found[name].shape != wanted.shape:
                problems[role] = f"{name} has shape {found[name].shape}, expected {wanted.shape}"
                break
            largest = float(np.abs(found[name] - wanted).max(initial=0.0))
            if not largest <= TOLERANCE * (1 + float(np.abs(wanted).max(initial=0.0))):
                problems[role] = f"{name} differs from the golden output by up to {largest:.3g}"
                break
    return problems


def make_inputs(seed: int) -> dict[str, np.ndarray]:
    """Two slices (2, 1, 64, 64) of a soft disk in noise, masks of the same shape, and click disks; all in [0, 1]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:_SIZE, :_SIZE].astype(np.float32)
    distance = np.hypot(rows - 30, columns - 34)
    other = np.hypot(rows - 33, columns - 30)
    images = 0.6 / (1 + np.exp((np.stack([distance, other]) - 14) / 2)) + 0.3 * rng.random((2, _SIZE, _SIZE))
    return {
        "images": images.astype(np.float32)[:, None],
        "masks": np.stack([distance < 14, other < 14]).astype(np.float32)[:, None],
        "positive": (distance < 4).astype(np.float32)[None, None],
        "negative": (np.hypot(rows - 8, columns - 50) < 4).astype(np.float32)[None, None],
    }


@torch.no_grad()
def run_network(model: LoadedModel, role: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run one network of a model on golden inputs; nothing for a model without it."""
    network = getattr(model, role)
    if network is None:
        return {}
    given = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in inputs.items()}
    runs = {"interaction": _interaction, "propagation": _propagation, "quality": _quality}
    outputs = runs[role](network, given)
    return {name: _thin(value) for name, value in outputs.items()}


def _interaction(network: Any, given: dict[str, Tensor]) -> dict[str, Tensor]:
    image = given["images"][:1].expand(-1, network.image_channels, -1, -1)
    maps = {
        "previous": given["masks"][1:],
        "positive": given["positive"],
        "negative": given["negative"],
        "bounds": torch.zeros_like(given["positive"]),
    }
    prompts = torch.cat([maps[name] for name in network.prompt_channels], 1)
    return {"instances": network(image, prompts)["instances"]}


def _propagation(network: Any, given: dict[str, Tensor]) -> dict[str, Tensor]:
    first, second = (_channels(network, image[None]) for image in given["images"])
    outputs: dict[str, Tensor] = network.examine(first, second, given["masks"][:1])
    return outputs


def _quality(network: Any, given: dict[str, Tensor]) -> dict[str, Tensor]:
    image, masks = _channels(network, given["images"]), given["masks"]
    if not getattr(network, "references", False):
        return {"logits": network(image, masks, masks.flip(0))}
    near = torch.full_like(masks, 0.5)
    references = torch.cat([image.flip(0), masks * near, masks, image, masks.flip(0), near, near], 1)
    return {"logits": network(image, masks, masks.flip(0), references)}


def _channels(network: nn.Module, image: Tensor) -> Tensor:
    return image.expand(-1, int(getattr(network, "image_channels", 1)), -1, -1)


def _thin(value: Tensor) -> np.ndarray:
    flat = value.detach().float().cpu().numpy()
    if flat.size <= _LIMIT:
        return flat
    return flat.reshape(-1)[:: -(-flat.size // _LIMIT)]
