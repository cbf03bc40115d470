"""What would fail in every case, said before the first one: a package, weights or a folder that is not there."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.core.protocol import NamedPredictor
from benchmarks.core.registry import PEERS
from limnet.errors import InputError
from limnet.volume import Volume

if TYPE_CHECKING:
    from benchmarks.core.protocol import Predictor
    from benchmarks.core.suite import Suite

_FOLDERS = ("weights", "folder")


def check_ready(predictor: Predictor) -> None:
    """Raise what a method lacks. Nothing is loaded, so a damaged model is found only by the first case.

    Looked at are fields by their names: `model` (a model of limnet; fetched if it is on the Hub), `weights` and
    `folder` (folders of a peer), and the package that a peer of the registry needs.

    Raises:
        InputError: a package that is not installed.
        MissingFileError: weights or a folder that are not there.
        ModelNotFoundError: no such model.
    """
    model = getattr(predictor, "model", None)
    if isinstance(model, str):
        from limnet.hub.locate import locate

        locate(model)
    place = (type(predictor).__module__, type(predictor).__name__)
    needs = next((entry.needs for entry in PEERS.values() if (entry.module, entry.cls) == place), "")
    if _installed(needs) and all(_is_folder(predictor, field) for field in _FOLDERS):
        return
    nothing = Volume.from_array(np.zeros((1, 8, 8), np.uint8))
    if isinstance(predictor, NamedPredictor):  # the peer itself knows best what to say
        predictor.start_named(nothing, 0, "", "")
    else:
        predictor.start(nothing, 0)


def check_measures(suite: Suite) -> None:
    """Raise what the figures of a suite lack.

    Raises:
        InputError: surface Dice is asked for and MONAI is not installed.
    """
    if getattr(suite.rounds, "nsd_mm", None) is not None and not _installed("monai"):
        raise InputError(
            f"benchmark {suite.name} measures surface Dice (NSD), which needs MONAI; run: pip install 'limnet[train]'"
        )


def _installed(module: str) -> bool:
    if not module or module in sys.modules:
        return not module or sys.modules[module] is not None
    try:
        return find_spec(module) is not None
    except ImportError:  # a package it lies in is not there
        return False


def _is_folder(predictor: Any, field: str) -> bool:
    value = getattr(predictor, field, None)
    return value is None or (bool(value) and Path(value).expanduser().is_dir())
