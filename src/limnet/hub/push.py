"""A model folder to the Hugging Face Hub, as one commit."""

from __future__ import annotations

from pathlib import Path

from limnet.errors import ModelNotFoundError, SaveError
from limnet.hub.card import make_card
from limnet.hub.locate import FILES
from limnet.hub.model import CARD, load_model


def push_model(
    folder: str | Path,
    repo_id: str,
    token: str | bool | None = None,
    private: bool = False,
    revision: str | None = None,
    commit_message: str = "Upload limnet model",
) -> str:
    """Upload a model folder to a Hub repository, which is created if needed.

    The model is loaded first, strictly: what cannot be loaded is not uploaded. Only files of the model go up; a card is
    made when the folder has none.

    Args:
        folder: The model folder; not changed.
        repo_id: "org/name".
        token: Hub token; True or None for the stored one.
        private: Whether a new repository is private; an existing one stays as it is.
        revision: Branch to commit to, created if needed; the main branch by default.
        commit_message: Title of the commit.

    Returns:
        Address of the commit.

    Raises:
        MissingFileError: If the model is incomplete.
        ModelFormatError: If it is damaged.
        ModelNotFoundError: If `repo_id` is no valid repository name.
        SaveError: If the Hub cannot be reached or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import filter_repo_objects

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
