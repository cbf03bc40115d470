"""`model_index.json`: which folder holds which network of a model, and the settings they were tuned with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limnet._version import __version__
from limnet.errors import InputError, ModelFormatError
from limnet.hub.jsonfile import FORMAT_VERSION, check_version, read_object, write_object
from limnet.hub.registry import ROLES

INDEX = "model_index.json"
KIND = "InteractiveSegmenter"
OPTIONAL = ("quality",)
"""Roles a model may do without (written as null)."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_KEYS = ("format_version", "_class_name", "limnet_version", *ROLES, "settings")


@dataclass(frozen=True)
class ModelIndex:
    """A checked model_index.json.

    Attributes:
        components: role -> folder of that network, or None where the model has none (quality only).
        settings: Plain JSON settings of the model, such as thresholds and window sizes.
        limnet_version: Version of the library that wrote it.
    """

    components: dict[str, Path | None]
    settings: dict[str, Any]
    limnet_version: str


def read_index(folder: str | Path) -> ModelIndex:
    """Read and check the index of a model folder.

    Component folders must be plain names inside `folder`; absolute paths, "..", slashes, backslashes and links are
    refused. Whether the component folders exist is not checked here.

    Raises:
        MissingFileError: If there is no index.
        ModelFormatError: If it is damaged, newer, of another kind, or names anything outside the folder.
    """
    folder = Path(folder)
    path = folder / INDEX
    found = read_object(path, _hint(folder))
    check_version(found, path)
    kind = found.get("_class_name")
    if kind != KIND:
        raise ModelFormatError(f"{path} describes a {str(kind)[:80]!r}; limnet loads {KIND!r} only")
    unknown = sorted(set(found) - set(_KEYS))
    if unknown:
        raise ModelFormatError(
            f"{path} has unknown entries {', '.join(key[:80] for key in unknown)}; allowed: {', '.join(_KEYS)}. "
            "The model may need a newer limnet: pip install --upgrade limnet"
        )
    settings = found.get("settings", {})
    if not isinstance(settings, dict):
        raise ModelFormatError(f'{path}: "settings" is a {type(settings).__name__}; an object is expected')
    components = {role: _component(folder, role, found.get(role), path) for role in ROLES}
    return ModelIndex(components, settings, str(found.get("limnet_version", "unknown")))


def write_index(folder: str | Path, components: Mapping[str, str | None], settings: Mapping[str, Any]) -> None:
    """Write the index of a model folder atomically.

    Args:
        folder: The model folder; has to exist.
        components: role -> name of the component folder inside it; None or absent where there is none.
        settings: Plain JSON values.

    Raises:
        InputError: If a role is unknown or missing, a name is no plain folder name, or the settings are not plain JSON.
        SaveError: If the file cannot be written.
    """
    unknown = sorted(set(components) - set(ROLES))
    if unknown:
        raise InputError(f"unknown role {', '.join(unknown)}; a model has the roles {', '.join(ROLES)}")
    for role in ROLES:
        name = components.get(role)
        if name is None and role not in OPTIONAL:
            raise InputError(
                f"a model needs a network for the role {role!r}; only {', '.join(OPTIONAL)} may be left out"
            )
        if name is not None and not _NAME.fullmatch(name):
            raise InputError(f"{name!r} is no plain folder name (letters, digits, '_', '-', '.')")
    content = {
        "format_version": FORMAT_VERSION,
        "_class_name": KIND,
        "limnet_version": __version__,
        **{role: components.get(role) for role in ROLES},
        "settings": plain_settings(settings),
    }
    write_object(Path(folder) / INDEX, content)


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return `settings` as they will come back from JSON (tuples become lists).

    Raises:
        InputError: If they hold something JSON cannot.
    """
    try:
        return json.loads(json.dumps(dict(settings), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the settings are not plain JSON ({error}); use finite numbers, strings, lists, dicts, None"
        ) from error


def _component(folder: Path, role: str, name: Any, path: Path) -> Path | None:
    if name is None:
        if role in OPTIONAL:
            return None
        raise ModelFormatError(f"{path} names no folder for {role!r}; only {', '.join(OPTIONAL)} may be null")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ModelFormatError(
            f"{path}: {role!r} is {str(name)[:80]!r}; the plain name of a folder next to the index is expected. "
            "It was not followed: a model must not reach outside its own folder"
        )
    component = folder / name
    root = folder.resolve()
    if component.is_symlink() or component.resolve().parent != root:
        raise ModelFormatError(
            f"{component} is a link to {component.resolve()}; component folders must be real folders inside {root}"
        )
    return component


def _hint(folder: Path) -> str:
    if not folder.exists():
        return "there is no such folder"
    if (folder / "config.json").is_file():
        return "the folder holds a single network; give the folder above it"
    return f"{folder} is no limnet model, or incomplete. A model has {INDEX}, interaction/ and propagation/"
