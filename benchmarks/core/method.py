"""What a method must offer to be benchmarked: a Predictor opens a volume, its Session answers clicks; limnet as one.

A method is a small frozen dataclass with `name` and `start`; its fields are its configuration, which is recorded and
hashed with every result. Sessions with more abilities say so by having the methods of `BoxSession` or `StartSession`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from limnet.case.case import Case
from limnet.errors import InputError
from limnet.image.volume import Volume
from limnet.segmenter import InteractiveSegmenter
from limnet.settings import Settings

if TYPE_CHECKING:
    from benchmarks.core.rounds import Rounds

Voxel = tuple[int, int, int]
Mask = NDArray[np.bool_]
METHODS = ("ours", "paper")


@runtime_checkable
class Session(Protocol):
    """One object being segmented in one volume; masks are bool (D, H, W), and the caller does not change them."""

    def click(self, zyx: Voxel, positive: bool) -> Mask:
        """Take one click on the object (positive) or off it, in array order, and return the whole mask."""
        ...


@runtime_checkable
class BoxSession(Session, Protocol):
    """A session that also takes a box, for protocols that begin with one."""

    def box(self, lo: Voxel, hi: Voxel) -> Mask:
        """Take a box with corners (z, y, x), both inclusive; lo[axis] == hi[axis] is a box on one slice."""
        ...


@runtime_checkable
class StartSession(Session, Protocol):
    """A session that can begin with a flawed mask which the clicks then correct."""

    def start_from(self, mask: Mask) -> None:
        """Take the result so far before the first click."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """A method to benchmark. Holds configuration only: nothing of one case may influence the next.

    Must be picklable (it travels to other processes): weights are loaded on first use, outside of it. Make it a frozen
    dataclass: then `predictor_config` records its fields. Other classes add `describe()`.
    """

    @property
    def name(self) -> str:
        """Short name for tables, such as "random walker"."""
        ...

    def start(self, volume: Volume, axis: int, case: str = "", object: str = "") -> Session:
        """Begin one object.

        Args:
            volume: the image in raw units; (D, H, W) or (T, H, W, 3).
            axis: the slice axis, 0, 1 or 2.
            case: name as in the result file, for methods that look something up.
            object: likewise.
        """
        ...


@runtime_checkable
class PacedPredictor(Predictor, Protocol):
    """A predictor that is prompted in another way than the benchmark plays, such as on every slice of the object."""

    def own_rounds(self, played: Rounds) -> Rounds:
        """The rounds to play in the place of `played`; the same again when given what it returned.

        Raises InputError where the benchmark's rounds cannot be replaced.
        """
        ...


def predictor_config(predictor: Predictor) -> dict[str, Any]:
    """The configuration of a predictor as JSON types: `describe()` if it has one, else its class and public fields."""
    describe = getattr(predictor, "describe", None)
    if callable(describe):
        found = dict(describe())
    else:
        given: Any = dataclasses.fields(predictor) if dataclasses.is_dataclass(predictor) else ()
        found = {f.name: getattr(predictor, f.name) for f in given if not f.name.startswith("_")}
        found["class"] = type(predictor).__name__
    found["name"] = predictor.name
    return json.loads(json.dumps(found, default=_plain, sort_keys=True))


def config_hash(config: dict[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of a JSON configuration."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=_plain).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return value.as_posix() if isinstance(value, Path) else str(value)


@lru_cache(maxsize=2)
def loaded(model: str, precision: str, device: str = "cpu") -> InteractiveSegmenter:
    """A limnet model, kept for the following cases."""
    return InteractiveSegmenter.from_pretrained(model, device=device, precision=precision)


class LimnetSession:
    """One case of limnet; takes clicks, boxes and a mask to start from."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.click, self.box = case.click, case.box

    def start_from(self, mask: Mask) -> None:
        """Begin with a mask, bool (D, H, W), that clicks may change; an empty one is nothing."""
        if mask.any():
            self.case.set_mask(mask, frozen=False)


@dataclass(frozen=True)
class LimnetPredictor:
    """A model folder or zoo name with the settings of one run.

    Attributes:
        model: zoo name, model folder or Hub id.
        settings: settings to override, by their names in `Settings`.
        device: where to compute.
        precision: "auto", "fp32" or "bf16".
        method: where settings start from: "ours", the model's own, or "paper", `Settings.paper()`.

    Raises:
        InputError: another method, or settings that there are not.
    """

    model: str = "limnet-tiny"
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    precision: str = "auto"
    method: str = "ours"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"method is {self.method!r}; allowed are {' and '.join(METHODS)}")
        unknown = set(self.settings) - set(Settings.__dataclass_fields__)
        if unknown:
            raise InputError(
                f"unknown settings {', '.join(sorted(unknown))}; known are {', '.join(Settings.__dataclass_fields__)}"
            )

    @property
    def name(self) -> str:
        """The model with the method, where it is not its own, and what differs from that."""
        method = [] if self.method == "ours" else [f"({self.method})"]
        return " ".join([str(self.model), *method, *(f"{k}={v}" for k, v in self.settings.items())])

    @property
    def segmenter(self) -> InteractiveSegmenter:
        """The loaded model."""
        return loaded(self.model, self.precision, self.device)

    @property
    def chosen_settings(self) -> Settings:
        """The settings of every case; loads the model where they are its own."""
        return replace(Settings.paper() if self.method == "paper" else self.segmenter.settings, **self.settings)

    def describe(self) -> dict[str, Any]:
        """Configuration with the hash of the weights."""
        return {
            "class": "LimnetPredictor",
            **({} if self.method == "ours" else {"method": self.method}),
            "model": self.segmenter.identity,
            "settings": self.chosen_settings.to_json(),
            "precision": self.precision,
        }

    def start(self, volume: Volume, axis: int, case: str = "", object: str = "") -> Any:
        """Open a case; see `Predictor.start`."""
        return LimnetSession(self.segmenter.open(volume, axis=axis, settings=self.chosen_settings))
