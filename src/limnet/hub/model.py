"""A whole model as a folder: `model_index.json`, one folder per network, card. Written aside, then moved into place.

The index says which folder holds which network, and the settings they were tuned with. A name stands for the folder of
a bundled model, a local one, or a repository of the Hugging Face Hub, to which models go up as well.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from limnet.errors import InputError, InputTypeError, ModelFormatError, ModelNotFoundError, SaveError
from limnet.hub.folder import (
    CONFIG,
    ROLES,
    fit_value,
    load_component,
    name_of,
    plain_json,
    read_object,
    save_component,
    write_object,
)
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


# from a name to a folder, and up to the Hub


FILES = [INDEX, "README.md", "results.json", "golden.npz", "*/config.json", "*/model.safetensors"]
"""Patterns of the files that make a model; nothing else of a repository is downloaded or uploaded."""

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_FORMS = 'Give the name of a bundled model, the path of a folder, or a Hub repository "org/name"'


def zoo_folder() -> Path | None:
    """The folder of bundled models: inside the installed package, else `zoo/` of the source tree, else None."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "zoo", package.parents[1] / "zoo"):
        if folder.is_dir():
            return folder
    return None


def list_zoo() -> list[str]:
    """Names of the bundled models, sorted."""
    zoo = zoo_folder()
    return sorted(path.parent.name for path in zoo.glob(f"*/{INDEX}")) if zoo else []


def locate(
    name_or_path: str | os.PathLike[str],
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """Find the folder of a model, downloading it when it lives on the Hub; what is in it is checked on loading.

    Tried in this order: a bundled model of that name (text only, never for a Path), a local folder, a Hub repository.

    Args:
        name_or_path: Such as "limnet-tiny", "./my-model", or "org/name".
        revision: Branch, tag or commit of a Hub repository.
        token: Hub token; True for the stored one, False for none.
        cache_dir: Where downloads go; the Hub's own cache by default.
        local_files_only: Use the cache, never the network.

    Raises:
        ModelNotFoundError: If nothing of that name can be found or reached.
        InputError: If it is no text or path, empty, or a revision is asked of a local model.
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise InputTypeError(f"a model was given as {type(name_or_path).__name__}; {_FORMS}")
    name = os.fspath(name_or_path)
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise InputError(f"{name!r} is no model name. {_FORMS}")
    is_text = isinstance(name_or_path, str)
    zoo = zoo_folder()
    if is_text and zoo and name in list_zoo():
        return _local(zoo / name, revision)
    path = Path(name).expanduser()
    if path.is_dir():
        return _local(path, revision)
    if path.is_file():
        raise ModelNotFoundError(
            f"{name} is a file; a model is a folder with {INDEX}. Public RITM and XMem checkpoints become one by "
            "`limnet convert`"
        )
    if is_text and _REPOSITORY.fullmatch(name):
        return _download(name, revision, token, cache_dir, local_files_only)
    raise ModelNotFoundError(_not_found(name))


def _local(folder: Path, revision: str | None) -> Path:
    if revision is not None:
        raise InputError(
            f"{folder} is a local model; revision={revision!r} applies to Hub repositories only. Leave it out"
        )
    return folder


def _not_found(name: str) -> str:
    known = list_zoo()
    text = f"there is no model {name!r}. Bundled models: {', '.join(known) or 'none in this installation'}. "
    near = difflib.get_close_matches(name.lower(), known, n=2, cutoff=0.5)
    if near:
        text += f"Did you mean {' or '.join(near)}? "
    if "/" in name or "\\" in name or name.startswith((".", "~")):
        text += f"It looks like a path, but {Path(name).expanduser().absolute()} does not exist. "
    return text + _FORMS


def _download(
    name: str,
    revision: str | None,
    token: str | bool | None,
    cache_dir: str | Path | None,
    local_files_only: bool,
) -> Path:
    from huggingface_hub import snapshot_download

    options: dict[str, Any] = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
    try:
        found = snapshot_download(name, token=token, allow_patterns=FILES, library_name="limnet", **options)
    except Exception as error:  # the HTTP client's own errors pass through snapshot_download; all mean: not to be had
        raise ModelNotFoundError(_reason(name, revision, local_files_only, error)) from error
    folder = Path(str(found))
    if not (folder / INDEX).is_file():
        raise ModelNotFoundError(f"the Hub repository {name} has no {INDEX}: it is no limnet model. {_FORMS}")
    return folder


def _reason(name: str, revision: str | None, local_files_only: bool, error: Exception) -> str:
    from huggingface_hub import errors

    offline = local_files_only or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    where = "not (fully) in the cache and the network is switched off. Run once with the network on"
    if not offline:
        where = "not in the cache, and the Hub cannot be reached. Check the connection, or give a downloaded folder"
    refused = isinstance(error, errors.HfHubHTTPError) and getattr(error.response, "status_code", 0) in (401, 403)
    reasons = {  # the narrower ones first
        errors.GatedRepoError: "access is gated. Ask for access on its page, then log in with `hf auth login` or pass "
        "token=",
        errors.RepositoryNotFoundError: "no such repository, or it is private. Check the spelling; for a private one "
        f"log in with `hf auth login` or pass token=. Bundled models: {', '.join(list_zoo()) or 'none'}",
        errors.RevisionNotFoundError: f"it has no revision {revision!r}. Give an existing branch, tag or commit hash",
        errors.LocalEntryNotFoundError: f"it is {where}",
        errors.HFValidationError: f"not a valid repository name. {_FORMS}",
    }
    reason = next((text for kind, text in reasons.items() if isinstance(error, kind)), None)
    if reason is None and refused:
        reason = "access denied. Log in with `hf auth login` or pass a valid token="
    reason = reason or f"{type(error).__name__}: {error}. Try again, or give a local folder"
    return f"model {name!r} is no local folder and could not be fetched from the Hub: {reason}"


def push_model(
    folder: str | Path,
    repo_id: str,
    token: str | bool | None = None,
    private: bool = False,
    revision: str | None = None,
    commit_message: str = "Upload limnet model",
) -> str:
    """Upload a model folder to a Hub repository, which is created if needed; returns the address of the commit.

    The model is loaded first, strictly: what cannot be loaded is not uploaded. Only files of the model go up; a card is
    made when the folder has none.

    Args:
        repo_id: "org/name".
        token: Hub token; True or None for the stored one.
        private: Whether a new repository is private; an existing one stays as it is.
        revision: Branch to commit to, created if needed; the main branch by default.

    Raises:
        ModelNotFoundError: If `repo_id` is no valid repository name.
        SaveError: If the Hub cannot be reached or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import filter_repo_objects

    from limnet.hub.card import make_card

    folder = Path(folder)
    card = load_model(folder).card
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    operations = [
        CommitOperationAdd(name, str(folder / name)) for name in filter_repo_objects(names, allow_patterns=FILES)
    ]
    if card is None:
        text = make_card(folder, name=repo_id.split("/")[-1], source=repo_id)
        operations.append(CommitOperationAdd(CARD, text.encode()))
    api = HfApi(token=token, library_name="limnet")
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.create_commit(repo_id, operations, commit_message=commit_message, revision=revision)
    except HFValidationError as error:
        raise ModelNotFoundError(f'{repo_id!r} is no valid repository name ({error}). Give "org/name"') from error
    except Exception as error:  # the HTTP client's own errors pass through; all mean: not uploaded
        code = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
        advice = "Check the connection and try again; a commit is made whole or not at all"
        if code in (401, 403):
            advice = "Log in with `hf auth login`, or pass a token= that may write to this repository"
        raise SaveError(f"could not upload to {repo_id}: {type(error).__name__}: {error}. {advice}") from error
    return str(commit.commit_url)
