"""The classes a model folder may name: an explicit table, so a file never decides what gets imported.

A `config.json` holds a bare class name. It is looked up here under the role it is asked for; a name that is not in the
table is refused, whatever else it may look like. A new network becomes loadable by one line in `TABLE`.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

from limnet.errors import InputError, ModelFormatError

ROLES: tuple[str, ...] = ("interaction", "propagation", "quality")
"""The three parts of a model, in the order they run."""

TABLE: dict[str, dict[str, str]] = {
    "interaction": {
        "HRNetOCR": "limnet.interaction.networks.hrnet:HRNetOCR",
        "TinyInteraction": "limnet.interaction.networks.tiny:TinyInteraction",
    },
    "propagation": {
        "XMem": "limnet.propagation.networks.xmem:XMem",
        "TinyPropagation": "limnet.propagation.networks.tiny:TinyPropagation",
    },
    "quality": {
        "ResNetQuality": "limnet.quality.networks.resnet:ResNetQuality",
        "TinyQuality": "limnet.quality.networks.tiny:TinyQuality",
    },
}
"""role -> class name -> "module:Class"."""


def check_role(role: str) -> str:
    """`role`, if it is one of `ROLES`; InputError for any other word."""
    if role not in TABLE:
        raise InputError(f"unknown role {role!r}; a model has the roles {', '.join(ROLES)}")
    return role


def resolve(role: str, name: Any) -> type:
    """The class that a name in a config.json stands for in `role`; ModelFormatError if it is not in the table."""
    known = TABLE[check_role(role)]
    if isinstance(name, str) and name in known:
        module, _, attribute = known[name].partition(":")
        return getattr(import_module(module), attribute)
    advice = "The model may need a newer limnet: pip install --upgrade limnet"
    if isinstance(name, str):
        swapped = next((other for other, names in TABLE.items() if name in names), None)
        near = difflib.get_close_matches(name, known, n=1)
        if swapped is not None:
            advice = f"{name} is a network for the role {swapped!r}: the folders seem to be swapped"
        elif near:
            advice = f"Did you mean {near[0]}?"
    raise ModelFormatError(
        f"class {str(name)[:80]!r} is not a known {role} network; allowed: {', '.join(known)}. {advice}"
    )


def name_of(cls: type) -> tuple[str, str]:
    """(role, class name) of a network class; InputError if it is not in the table: it could never be loaded again."""
    home = f"{cls.__module__}:{cls.__qualname__}"
    for role, known in TABLE.items():
        for name, place in known.items():
            if place == home:
                return role, name
    allowed = ", ".join(name for known in TABLE.values() for name in known)
    raise InputError(
        f"a {cls.__module__}.{cls.__qualname__} cannot be saved as part of a model; known classes: {allowed}. "
        "Add yours to limnet.hub.registry.TABLE"
    )
