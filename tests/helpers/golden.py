"""Golden parity data: arrays, computed weights and key lists, read from the shared folder where it is there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.recipes import module_of


@lru_cache(maxsize=1)
def fill_module() -> ModuleType:
    """The `fill.py` that computes weights from key names."""
    return module_of(shared_path("golden", "fill.py"), "golden_fill")


@lru_cache(maxsize=1)
def _key_file() -> dict[str, Any]:
    return json.loads(shared_path("golden", "state_dict_keys.json").read_text())


def golden_keys(model: str) -> dict[str, Any]:
    """Entry of one model ("ritm_h32", "ritm_h18s", "xmem"): `entries` [key, shape, dtype], `fill`, `config`."""
    return _key_file()[model]


def golden_shapes(model: str) -> dict[str, tuple[int, ...]]:
    """Key -> shape of the reference's state dict, in its order."""
    return {key: tuple(shape) for key, shape, _ in golden_keys(model)["entries"]}


@lru_cache(maxsize=3)
def _filled(model: str) -> dict[str, np.ndarray]:
    fill = fill_module()
    weights = fill.fill(golden_shapes(model), golden_keys(model)["fill"]["seed"], model)
    assert fill.digest(weights) == golden_keys(model)["fill"]["sha256"], (
        f"filled weights of {model} differ from the reference"
    )
    return weights


def golden_weights(model: str, overrides: Mapping[str, float] | None = None) -> dict[str, torch.Tensor]:
    """Fresh reference-named weights; `overrides` (meta["overrides"]) sets whole tensors to one number."""
    weights = {key: torch.from_numpy(np.array(value)) for key, value in _filled(model).items()}
    for key, value in (overrides or {}).items():
        weights[key].fill_(value)
    return weights


def golden_arrays(stem: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All arrays of `<stem>.npz` and its decoded meta data."""
    with np.load(shared_path("golden", f"{stem}.npz")) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return arrays, json.loads(str(arrays.pop("meta")))


def max_difference(actual: torch.Tensor | np.ndarray, expected: torch.Tensor | np.ndarray) -> float:
    """Largest absolute difference, after checking that the shapes are the same."""
    left = np.asarray(actual.detach() if isinstance(actual, torch.Tensor) else actual, np.float64)
    right = np.asarray(expected.detach() if isinstance(expected, torch.Tensor) else expected, np.float64)
    assert left.shape == right.shape, f"shape {left.shape} instead of {right.shape}"
    return float(np.abs(left - right).max()) if left.size else 0.0


def shared_path(*parts: str) -> Path:
    """Path inside the shared folder; skips the calling test with a reason when it is absent."""
    root = Path(os.environ.get("LIMNET_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference data not found: {'/'.join(parts)} (set LIMNET_SHARED to the folder that holds it)")
    return path
