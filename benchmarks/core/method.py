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
METHODS = ("ours", "paper")


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


class LimnetSession:
    """One case of limnet; takes clicks, boxes and a mask to start from."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def click(self, zyx: Voxel, positive: bool) -> NDArray[np.bool_]:
        """One round from a click; bool (D, H, W)."""
        return self.case.click(zyx, positive)

    def box(self, lo: Voxel, hi: Voxel) -> NDArray[np.bool_]:
        """One round from a box, corners inclusive; bool (D, H, W)."""
        return self.case.box(lo, hi)

    def start_from(self, mask: NDArray[np.bool_]) -> None:
        """Begin with a mask, bool (D, H, W), that clicks may change; an empty one is nothing."""
        if mask.any():
            self.case.set_mask(mask, frozen=False)


@dataclass(frozen=True)
class LimnetPredictor:
    """A model folder or zoo name with the settings of one run. The model is loaded at the first `start`.

    Attributes:
        model: zoo name, model folder or Hub id.
        scope: propagation scope, "volume" or "interval"; None is the model's own.
        tau: fusion threshold, 1 turns fusion off; None is the model's own.
        settings: settings to override, by their names in `Settings`; they win over `scope` and `tau`, so that a
            suite's variant (such as tau=1) stays what it is beside a tau for all.
        threads: threads of torch in this process; 0 leaves them as they are.
        device: where to compute.
        precision: "auto", "fp32" or "bf16".
        label: name in tables; the model's by default.
        method: where settings start from: "ours", the model's own, or "paper", `Settings.paper()`.
    """

    model: str = "limnet-tiny"
    scope: str | None = None
    tau: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 0
    device: str = "cpu"
    precision: str = "auto"
    label: str = ""
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
        """Label, or the model with the method, where it is not its own, and what differs from that."""
        method = [] if self.method == "ours" else [f"({self.method})"]
        return self.label or " ".join([str(self.model), *method, *(f"{k}={v}" for k, v in self._overrides().items())])

    @property
    def chosen_settings(self) -> Settings:
        """The settings of every case; loads the model where they are its own."""
        start = Settings.paper() if self.method == "paper" else self.segmenter.settings
        return replace(start, **self._overrides())

    def describe(self) -> dict[str, Any]:
        """Configuration with the hash of the weights; threads do not belong to it."""
        return {
            "class": "LimnetPredictor",
            **({} if self.method == "ours" else {"method": self.method}),
            "model": self.segmenter.identity,
            "settings": self.chosen_settings.to_json(),
            "precision": self.precision,
        }

    def start(self, volume: Volume, axis: int) -> LimnetSession:
        """Open a case; see `Predictor.start`."""
        return LimnetSession(self.segmenter.open(volume, axis=axis, settings=self.chosen_settings))

    @property
    def segmenter(self) -> InteractiveSegmenter:
        """The loaded model."""
        found: InteractiveSegmenter | None = self.__dict__.get("_segmenter")
        if found is None:
            if self.threads:
                import torch

                torch.set_num_threads(self.threads)
            found = InteractiveSegmenter.from_pretrained(self.model, device=self.device, precision=self.precision)
            object.__setattr__(self, "_segmenter", found)
        return found

    def _overrides(self) -> dict[str, Any]:
        given = {"scope": self.scope, "tau": self.tau}
        rest = {name: value for name, value in given.items() if value is not None and name not in self.settings}
        return {**self.settings, **rest}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_segmenter"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
