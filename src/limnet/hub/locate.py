"""From a name to a folder: the bundled zoo, a local folder, or a repository of the Hugging Face Hub; and up to it."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any

from limnet.errors import InputError, InputTypeError, ModelNotFoundError, SaveError
from limnet.hub.model import CARD, INDEX, load_model

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
