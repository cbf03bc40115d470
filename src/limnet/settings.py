"""Settings of a segmenter: how rounds propagate and how their results are chosen."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from limnet.errors import InputError

Scope = Literal["volume", "interval"]
SCOPES: tuple[str, ...] = ("volume", "interval")

_KINDS: dict[Any, tuple[Any, str]] = {"int": ((int,), "an integer"), "float": ((int, float), "a number")}
_LEAST = {"quality_batch": 1, "memory_min_frames": 1, "memory_max_frames": 2}  # of the others 0
_MOST = {"tau": 1}
_REMOVED = {"look_across", "least_sure", "most_growth", "stride_mm"}  # without a gain; older models store them


@dataclass(frozen=True)
class Settings:
    """Settings; every one has a default and is stored with the model and in session files.

    Attributes:
        scope: "volume": a round propagates from the new prompt to both ends (the paper). "interval": only up to the
            neighbouring prompted slices.
        tau: Threshold of eq. (4): the previous mask of a slice is kept where P(previous is better) > tau. In [0, 1]; 1
            turns fusion off.
        stop_after_empty: A direction ends after this many empty slices in a row. 0 turns it off: it goes to the end.
        look_back: A slice with a single click is answered anew when a slice at most so many slices away is prompted
            (`limnet.case.rounds.look_back`). 0 turns it off.
        one_sided: On slices without a prompt a positive click only adds to the object, a negative prompt only takes
            away, on the side of the error (`limnet.case.fusion.one_sided`); in rounds of scope "interval".
        click_fallback: Radius in pixels of the disk that is set around a click the network did not obey.
        follow_window: Let the propagation window follow the object; False shows it the whole slice.
        short_side: Networks that see whole slices (XMem) see them with a shorter side of so many pixels, as XMem's own
            evaluation does. 0 shows slices in their own size.
        quality_batch: Slices that the quality network looks at together, eq. (3) (>= 1).
        memory_min_frames: T_min of XMem: working memory frames that stay when old ones are compressed (>= 1).
        memory_max_frames: T_max of XMem: working memory frames at which they are compressed (> T_min). Prompted slices
            but the first come on top: they are never compressed.
        cache_bytes: Upper limit of the memory for cached image features of one case.
    """

    scope: Scope = "volume"
    tau: float = 0.5
    stop_after_empty: int = 3
    look_back: int = 0
    one_sided: bool = False
    click_fallback: int = 2
    follow_window: bool = True
    short_side: int = 480
    quality_batch: int = 16
    memory_min_frames: int = 5
    memory_max_frames: int = 10
    cache_bytes: int = 1 << 27

    def __post_init__(self) -> None:
        check_scope(self.scope)
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if field.type == "bool" and not isinstance(value, bool):
                raise InputError(f"{name} is {value!r}; it is True or False")
            if field.type not in _KINDS:
                continue
            (types, kind), least, most = _KINDS[field.type], _LEAST.get(name, 0), _MOST.get(name, math.inf)
            number = value if isinstance(value, types) and not isinstance(value, bool) else math.nan
            if not least <= number <= most or math.isinf(number):
                limit = f" and at most {most}" if name in _MOST else ""
                raise InputError(f"{name} is {value!r}; it is {kind} of at least {least}{limit}")
        if self.memory_max_frames <= self.memory_min_frames:
            raise InputError(
                f"memory_max_frames is {self.memory_max_frames} and memory_min_frames {self.memory_min_frames}; the "
                "first must be larger"
            )

    @classmethod
    def paper(cls) -> Settings:
        """The method of the paper: every round sweeps to both ends of the volume, eq. (4) with tau .5, no more.

        Everything that limnet adds is off. `follow_window` and `short_side` stay: networks see what they know.
        """
        return cls(
            scope="volume",
            tau=0.5,  # the paper gives no number; eq. (3) gives a probability, and .5 takes the likelier mask
            stop_after_empty=0,
            look_back=0,
            one_sided=False,
            click_fallback=0,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary, the inverse of `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Settings:
        """Read what `to_json` wrote; missing entries take their default.

        Raises:
            InputError: for unknown names or values out of range.
        """
        if not isinstance(data, dict) or set(data) - cls.names():
            names = ", ".join(field.name for field in dataclasses.fields(cls))
            raise InputError(f"settings are an object with the entries {names}; got {str(data)[:120]}")
        return cls(**data)

    @classmethod
    def from_stored(cls, data: Any) -> Settings:
        """Settings of a model or session, also of an older one: what is no setting any more is left out."""
        kept = {name: value for name, value in data.items() if name not in _REMOVED} if isinstance(data, dict) else data
        return cls.from_json(kept)

    @classmethod
    def unknown(cls, data: Any) -> set[str]:
        """Names in stored settings that neither this limnet nor an older one knows."""
        return set(data) - cls.names() - _REMOVED if isinstance(data, dict) else set()

    @classmethod
    def names(cls) -> set[str]:
        """Names of all settings."""
        return {field.name for field in dataclasses.fields(cls)}


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Settings from "NAME=VALUE": ["tau=0.5", "scope=interval"] to {"tau": 0.5, "scope": "interval"}.

    Raises:
        InputError: another form, no such setting, or a value that it cannot have.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--setting is {text!r}; give NAME=VALUE, such as tau=0.5 or scope=interval")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    Settings.from_json(found)
    return found


def check_scope(scope: Any) -> Scope:
    """Return `scope` if it is "volume" or "interval"; InputError otherwise."""
    if scope not in SCOPES:
        raise InputError(f"scope is {scope!r}; allowed are {' and '.join(map(repr, SCOPES))}")
    return scope
