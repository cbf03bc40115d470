"""Whether a model folder is sound: every fault found in one go, and whether the networks compute what they did.

`golden.npz` of a model holds fixed inputs and what each network made of them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limnet.errors import LimnetError, MissingFileError, ModelFormatError
from limnet.hub.card import RESULTS, license_of, read_results
from limnet.hub.folder import CONFIG, ROLES, WEIGHTS
from limnet.hub.model import CARD, GOLDEN, INDEX, LoadedModel, load_model, read_card, read_index, zoo_folder
from limnet.image.io.atomic import atomic_write

MAX_BYTES = 20_000_000
"""Largest file of a bundled model: it lies in git and travels with every installation."""
Array = np.ndarray[Any, Any]
TOLERANCE = 2e-3
"""Largest difference allowed, relative to 1 + the largest expected magnitude of that output: processors differ."""

_SIZE = 64  # pixels; the smallest networks still have a 4 x 4 map there
_LIMIT = 16384  # numbers kept of one output, evenly spread


@dataclass(frozen=True)
class Problem:
    """One thing found wrong with a file or network; not fatal what a bundled model must have but any other may lack."""

    part: str
    message: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.part}: {self.message}"


def verify_model(folder: str | Path, bundled: bool | None = None) -> list[Problem]:
    """Check a model folder: index, configurations, weights (strict and finite), golden outputs, card, results, size.

    With `bundled` (None: inside the zoo) it is held to the rules of the zoo as well: card with licence, golden file, no
    file over 20 MB, nothing else in the folder; else breaking those is not fatal. Gives the problems, fatal ones first.
    """
    folder = Path(folder)
    if bundled is None:
        zoo = zoo_folder()
        bundled = zoo is not None and folder.resolve().parent == zoo.resolve()
    problems = _weights_and_golden(folder, bundled) + _papers(folder, bundled)
    if folder.is_dir():
        problems += _size(folder, bundled)
    return sorted(problems, key=lambda problem: not problem.fatal)


def _weights_and_golden(folder: Path, bundled: bool) -> list[Problem]:
    try:
        read_index(folder)
    except LimnetError as error:
        return [Problem(INDEX, str(error))]
    try:
        model = load_model(folder)
    except LimnetError as error:
        return [Problem("networks", str(error))]
    try:
        golden = read_golden(folder)
    except MissingFileError as error:
        return [Problem(GOLDEN, str(error), bundled)]
    except LimnetError as error:
        return [Problem(GOLDEN, str(error))]
    return [Problem(role, message) for role, message in compare_golden(model, golden).items()]


def _papers(folder: Path, bundled: bool) -> list[Problem]:
    problems = []
    card = read_card(folder)
    if not card:
        problems.append(Problem(CARD, "there is no card; make one with limnet.hub.card.make_card", bundled))
    elif license_of(card) is None:
        problems.append(Problem(CARD, 'the card names no licence; its head needs a line "license: ..."', bundled))
    try:
        read_results(folder)
    except LimnetError as error:
        problems.append(Problem(RESULTS, str(error)))
    return problems


def _size(folder: Path, bundled: bool) -> list[Problem]:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    expected = {INDEX, CARD, GOLDEN, RESULTS, *(f"{role}/{name}" for role in ROLES for name in (CONFIG, WEIGHTS))}
    problems = [
        Problem(name, "is no part of a model and is not published; remove it", bundled)
        for name in sorted(set(files) - expected)
    ]
    for name, path in sorted(files.items()) if bundled else ():  # any other model may be as large as it is
        size = path.stat().st_size
        if size > MAX_BYTES:
            text = f"{name} has {size / 1e6:.1f} MB; a file of a bundled model has at most {MAX_BYTES / 1e6:.0f} MB"
            problems.append(Problem("size", f"{text}; publish larger ones on the Hub"))
    return problems


def write_golden(folder: str | Path) -> Path:
    """Write golden.npz of a model folder, with inputs of seed 0: call it after the last change of the weights."""
    model = load_model(folder)
    inputs = make_inputs(0)
    parts = {"input": inputs, **{role: run_network(model, role, inputs) for role in ROLES}}
    arrays: dict[str, Any] = {f"{part}/{name}": a for part, found in parts.items() for name, a in found.items()}
    return atomic_write(Path(folder) / GOLDEN, lambda path: np.savez_compressed(path, **arrays))


def read_golden(folder: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """golden.npz as "input" and each role -> name -> array; MissingFileError, or ModelFormatError if it is damaged."""
    path = Path(folder) / GOLDEN
    found: dict[str, dict[str, np.ndarray]] = {"input": {}, **{role: {} for role in ROLES}}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                part, _, name = key.partition("/")
                found[part][name] = file[key]
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing; write it with limnet.hub.verify.write_golden") from error
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ModelFormatError(f"{path} is damaged or not a golden file ({error})") from error
    return found


def compare_golden(model: LoadedModel, golden: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, str]:
    """Compute the golden outputs again: role -> what differs; empty when everything is reproduced."""
    found = {role: _difference(model, role, golden["input"], golden[role]) for role in ROLES}
    return {role: problem for role, problem in found.items() if problem}


def _difference(model: LoadedModel, role: str, inputs: Mapping[str, Array], expected: Mapping[str, Array]) -> str:
    """What one network does otherwise, in words; empty if nothing."""
    try:
        found = run_network(model, role, inputs)
    except (KeyError, ValueError, RuntimeError) as error:
        return f"cannot run on the golden inputs ({type(error).__name__}: {error})"
    if set(found) != set(expected):
        return f"gives {', '.join(sorted(found)) or 'nothing'}, expected {', '.join(sorted(expected))}"
    for name, wanted in expected.items():
        if found[name].shape != wanted.shape:
            return f"{name} has shape {found[name].shape}, expected {wanted.shape}"
        largest = float(np.abs(found[name] - wanted).max(initial=0.0))
        if not largest <= TOLERANCE * (1 + float(np.abs(wanted).max(initial=0.0))):
            return f"{name} differs from the golden output by up to {largest:.3g}"
    return ""


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
