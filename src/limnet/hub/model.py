"""A whole model as a folder: `model_index.json`, one folder per network, card. Written aside, then moved into place.

The index says which folder holds which network, and the settings they were tuned with.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from limnet.errors import InputError, ModelFormatError, SaveError
from limnet.hub.folder import CONFIG, fit_value, load_component, plain_json, read_object, save_component, write_object
from limnet.hub.registry import ROLES, name_of
from limnet.image.io.atomic import save_error

INDEX = "model_index.json"
KIND = "InteractiveSegmenter"
OPTIONAL = ("quality",)
"""Roles a model may do without (written as null)."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_KEYS = ("format_version", "_class_name", "limnet_version", *ROLES, "settings")
CARD = "README.md"
GOLDEN = "golden.npz"
_OURS = {INDEX, GOLDEN, *ROLES}  # replaced on every save; anything else in the folder is the user's and stays


@dataclass(frozen=True)
class LoadedModel:
    """What a model folder holds: networks, the plain JSON settings they were tuned with, and the text of README.md."""

    interaction: nn.Module
    propagation: nn.Module
    quality: nn.Module | None
    settings: dict[str, Any]
    card: str | None


def load_model(folder: str | Path) -> LoadedModel:
    """Load a model folder; every network strictly, in float32, on the CPU, in eval mode; see `load_component`."""
    folder = Path(folder)
    index = read_index(folder)
    networks = {role: load_component(path, role) if path else None for role, path in index.components.items()}
    interaction, propagation = networks["interaction"], networks["propagation"]
    if interaction is None or propagation is None:  # read_index refuses this; said again for the type checker
        raise ModelFormatError(f"{folder} lacks a network")
    return LoadedModel(interaction, propagation, networks["quality"], index.settings, read_card(folder))


def read_card(folder: Path) -> str | None:
    """Text of the model card, or None when there is none."""
    try:
        return (folder / CARD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def save_model(
    folder: str | Path,
    *,
    interaction: nn.Module,
    propagation: nn.Module,
    quality: nn.Module | None,
    settings: Mapping[str, Any],
    card: str | None = None,
    half: bool = False,
) -> Path:
    """Write a model folder: new, empty, or an earlier model.

    Everything is written to a new folder next to the target, which then takes its place; when something fails, what was
    there before stays. An earlier model in the target is replaced, together with its golden file; its README.md stays
    unless `card` is given, and so does any file that is no part of a model.

    Args:
        quality: None for a model without fusion by quality.
        settings: Plain JSON values.
        card: Text of the model card; None keeps the one that is there, or makes one from the networks.
        half: Store weights as float16.

    Raises:
        InputError: If a network is of the wrong role or unknown class, or the settings are not plain JSON.
        SaveError: If the target is a file, a folder with other things in it, or cannot be written.
    """
    networks = {"interaction": interaction, "propagation": propagation, "quality": quality}
    for role, network in networks.items():
        if network is not None and (found := name_of(type(network)))[0] != role:
            raise InputError(f"{found[1]} is a network for {found[0]!r}, but was given as {role!r}")
    plain = plain_json(dict(settings), "settings")
    target = Path(folder).expanduser().resolve()
    check_target(target)
    fresh = target.with_name(f".{target.name}-{secrets.token_hex(4)}-tmp")
    try:
        fresh.mkdir(parents=True)
        for role, network in networks.items():
            if network is not None:
                save_component(network, fresh / role, half=half)
        folders = {role: None if network is None else role for role, network in networks.items()}
        write_object(fresh / INDEX, {"_class_name": KIND, **folders, "settings": plain})
        if card is None and not (target / CARD).exists():
            from limnet.hub.card import make_card

            card = make_card(fresh, name=target.name)
        if card is not None:
            (fresh / CARD).write_text(card, encoding="utf-8")
        _swap(fresh, target)
    except SaveError:
        raise
    except OSError as error:
        raise save_error(target, error) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Path(folder)


def check_target(target: Path) -> None:
    """Refuse with SaveError a file, or a folder that is neither empty nor a model, before any work is done."""
    if not target.exists():
        return
    if not target.is_dir():
        raise SaveError(f"cannot save the model to {target}: it is a file. Give the name of a folder")
    if any(entry.name != CARD for entry in target.iterdir()) and not (target / INDEX).is_file():
        raise SaveError(
            f"cannot save the model to {target}: the folder holds other files and no {INDEX}. "
            f"Give a new folder, such as {target / 'model'}"
        )


def _swap(fresh: Path, target: Path) -> None:
    """Put `fresh` in the place of `target`; carry over what is not part of a model."""
    if not target.exists():
        fresh.rename(target)
        return
    old = target.with_name(f".{target.name}-{secrets.token_hex(4)}-old")
    target.rename(old)
    try:
        for entry in old.iterdir():
            if entry.name not in _OURS and not (fresh / entry.name).exists():
                entry.rename(fresh / entry.name)
        fresh.rename(target)
    except BaseException:
        for entry in fresh.iterdir():
            if not (old / entry.name).exists():
                with contextlib.suppress(OSError):
                    entry.rename(old / entry.name)
        if not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class ModelIndex:
    """A checked model_index.json: role -> folder of that network or None (quality only), settings, version."""

    components: dict[str, Path | None]
    settings: dict[str, Any]
    limnet_version: str


def read_index(folder: str | Path) -> ModelIndex:
    """Read and check the index of a model folder; whether the component folders exist is not checked here.

    They must be plain names inside `folder`; absolute paths, "..", slashes, backslashes and links are refused.
    ModelFormatError if the index is damaged, newer, of another kind, or names anything outside the folder.
    """
    folder = Path(folder)
    path = folder / INDEX
    found = read_object(path, _hint(folder))
    kind = found.get("_class_name")
    if kind != KIND:
        raise ModelFormatError(f"{path} describes a {str(kind)[:80]!r}; limnet loads {KIND!r} only")
    unknown = sorted(set(found) - set(_KEYS))
    if unknown:
        raise ModelFormatError(
            f"{path} has unknown entries {', '.join(key[:80] for key in unknown)}; allowed: {', '.join(_KEYS)}. "
            "The model may need a newer limnet: pip install --upgrade limnet"
        )
    settings = fit_value(found.get("settings", {}), dict[str, Any], f"{path}: settings")
    components = {role: _component(folder, role, found.get(role), path) for role in ROLES}
    return ModelIndex(components, settings, str(found.get("limnet_version", "unknown")))


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
    if (folder / CONFIG).is_file():
        return "the folder holds a single network; give the folder above it"
    return f"{folder} is no limnet model, or incomplete. A model has {INDEX}, interaction/ and propagation/"
