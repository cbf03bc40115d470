"""Old places of public names, for one release: `__getattr__ = moved({"name": "module that has it now"})`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def moved(old: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` for names that have moved.

    Args:
        old: name of the module that had them.
        places: name -> module that has it now.
    """

    def look_up(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        warnings.warn(f"{old}.{name} is {places[name]}.{name} now", DeprecationWarning, stacklevel=2)
        return getattr(import_module(places[name]), name)

    return look_up
