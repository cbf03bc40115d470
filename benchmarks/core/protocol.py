"""What a method must offer to be benchmarked: a Predictor opens a volume, its Session answers clicks.

A peer is a small frozen dataclass with `name` and `start`; its fields are its configuration, which is recorded and
hashed with every result. Sessions with more abilities say so by having the methods of `BoxSession` or `StartSession`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from benchmarks.core.limnet_predictor import LimnetPredictor
from limnet.volume import Volume

if TYPE_CHECKING:
    from benchmarks.core.rounds import Rounds

__all__ = [
    "BoxSession",
    "LimnetPredictor",
    "NamedPredictor",
    "PacedPredictor",
    "Predictor",
    "Session",
    "StartSession",
    "Voxel",
    "config_hash",
    "predictor_config",
]

Voxel = tuple[int, int, int]


@runtime_checkable
class Session(Protocol):
    """One object being segmented in one volume."""

    def click(self, zyx: Voxel, positive: bool) -> NDArray[np.bool_]:
        """Take one click and return the whole mask after this round.

        Args:
            zyx: voxel in array order, inside the volume.
            positive: True on the object, False off it.

        Returns:
            bool (D, H, W); the caller does not change it.
        """
        ...


@runtime_checkable
class BoxSession(Session, Protocol):
    """A session that also takes a box, for protocols that begin with one."""

    def box(self, lo: Voxel, hi: Voxel) -> NDArray[np.bool_]:
        """Take a box with corners (z, y, x), both inclusive; lo[axis] == hi[axis] is a box on one slice.

        Returns:
            bool (D, H, W).
        """
        ...


@runtime_checkable
class StartSession(Session, Protocol):
    """A session that can begin with a flawed mask which the clicks then correct."""

    def start_from(self, mask: NDArray[np.bool_]) -> None:
        """Take the result so far, bool (D, H, W), before the first click."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """A method to benchmark. Holds configuration only: nothing of one case may influence the next.

    Must be picklable (it travels to other processes); load weights on first use and leave them out of the pickle.
    Make it a frozen dataclass: then `predictor_config` records its fields. Other classes add `describe()`.
    """

    @property
    def name(self) -> str:
        """Short name for tables, such as "random walker"."""
        ...

    def start(self, volume: Volume, axis: int) -> Session:
        """Begin one object.

        Args:
            volume: the image in raw units; (D, H, W) or (T, H, W, 3).
            axis: the slice axis, 0, 1 or 2.
        """
        ...


@runtime_checkable
class NamedPredictor(Predictor, Protocol):
    """A predictor that needs to know which object is asked for, such as a folder of finished predictions.

    The runner calls `start_named` in place of `start` where it exists.
    """

    def start_named(self, volume: Volume, axis: int, case: str, object: str) -> Session:
        """Begin the object `object` of the case `case` (names as in the result file)."""
        ...


@runtime_checkable
class PacedPredictor(Predictor, Protocol):
    """A predictor that is prompted in another way than the benchmark plays, such as on every slice of the object."""

    def own_rounds(self, played: Rounds) -> Rounds:
        """The rounds to play in the place of `played`; the same again when given what it returned.

        Raises:
            InputError: the benchmark's rounds cannot be replaced.
        """
        ...


def predictor_config(predictor: Predictor) -> dict[str, Any]:
    """The configuration of a predictor as JSON types: `describe()` if it has one, else its class and public fields."""
    describe = getattr(predictor, "describe", None)
    if callable(describe):
        found = dict(describe())
    else:
        found = {"class": type(predictor).__name__}
        if dataclasses.is_dataclass(predictor):
            for field in dataclasses.fields(predictor):
                if not field.name.startswith("_"):
                    found[field.name] = getattr(predictor, field.name)
    found["name"] = predictor.name
    return json.loads(json.dumps(found, default=_plain, sort_keys=True))


def config_hash(config: dict[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of a JSON configuration."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=_plain).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return value.as_posix() if isinstance(value, Path) else str(value)
