"""To the Hub and back: fetching a pipeline, uploading a folder, and what a Hub that fails is called in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, ModelCard, constants, get_token, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .card import CARD_NAME, is_own_card

INDEX_NAME = "model_index.json"
# Only JSON and safetensors are ever loaded; pickles, code and the like stay on the Hub.
ALLOWED_PATTERNS = ["*.json", "*.safetensors", "README.md", "LICENSE*", "NOTICE*", "samples.jpg"]
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision")
Result = TypeVar("Result")


def is_hub_name(name: str) -> bool:
    """Whether a text can be the name of a Hub repository, user/name."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith("/")


def fetch_index(name: str, **options) -> Path:
    """Fetch the small `model_index.json` of a repository, so that another one's gigabytes need not be."""
    return Path(_ask(lambda: hf_hub_download(name, INDEX_NAME, **options), name, options, "be had from"))


def fetch_pipeline(name: str, **options) -> Path:
    """Fetch what a pipeline is loaded from, and return the folder in the cache.

    Args:
        options: of `HUB_OPTIONS`, as huggingface_hub takes them.

    Raises:
        ValueError: no such repository or revision, no permission, no answer, or offline and not in the cache.
    """
    fetch = lambda: snapshot_download(name, allow_patterns=ALLOWED_PATTERNS, **options)  # noqa: E731
    return Path(_ask(fetch, name, options, "be had from"))


def make_repository(name: str, private: bool | None, token: str | None) -> str:
    """Make a model repository where there is none yet, and return its full name. Raises ValueError."""
    api = HfApi(token=token)
    options = {"token": token}
    return _ask(lambda: api.create_repo(name, private=private, exist_ok=True).repo_id, name, options, "be made on")


def upload(folder: Path, name: str, message: str, revision: str | None, create_pr: bool, token: str | None) -> str:
    """Upload a folder in one commit and return the commit's address. A card that others wrote there stays.

    Raises:
        ValueError: the Hub refused it, failed, or did not answer.
    """
    api = HfApi(token=token)
    options = {"token": token, "revision": revision}

    def send() -> str:
        if revision is not None and not create_pr:
            api.create_branch(name, branch=revision, exist_ok=True)
        ignored = [CARD_NAME] if _has_foreign_card(name, revision, token) else None
        commit = api.upload_folder(
            repo_id=name, folder_path=folder, commit_message=message, revision=revision, create_pr=create_pr,
            ignore_patterns=ignored,
        )  # fmt: skip
        return str(getattr(commit, "pr_url", None) or commit.commit_url)

    return _ask(send, name, options, "be written on")


def _has_foreign_card(name: str, revision: str | None, token: str | None) -> bool:
    try:
        path = hf_hub_download(name, CARD_NAME, revision=revision, token=token)
    except EntryNotFoundError:
        return False
    return not is_own_card(ModelCard.load(path).content)


def _ask(request: Callable[[], Result], name: str, options: dict, action: str) -> Result:
    """The answer to a request of the Hub; its failures as ValueError of one line."""
    try:
        return request()
    except Exception as error:
        reason = _reason(error, options)
        if reason is None:
            raise
        raise ValueError(f"{name} cannot {action} the Hub: {reason}") from error


def _reason(error: Exception, options: dict) -> str | None:
    """What failed and what to do; None for an error that is not the Hub's."""
    given = "see the token that was given" if _has_token(options) else "no token is set, see `hf auth login`"
    status = getattr(getattr(error, "response", None), "status_code", None)
    offline = options.get("local_files_only") or constants.HF_HUB_OFFLINE
    if isinstance(error, GatedRepoError):
        return f"it is gated; accept its terms on its page and pass a token ({given})"
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no such repository, or it is private and not open to you: {given}; check the name"
    if isinstance(error, RevisionNotFoundError):
        return f"it has no revision {options.get('revision')}; name a branch, a tag or a commit"
    if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled) and offline:
        return "it is not in the cache, and the Hub is not asked (offline mode); fetch it once with a network"
    if isinstance(error, LocalEntryNotFoundError):
        return f"it is not in the cache and {constants.ENDPOINT} fails ({_first_line(error.__cause__ or error)})"
    if isinstance(error, EntryNotFoundError):
        return f"it holds no {INDEX_NAME} and so no pipeline"
    if isinstance(error, HfHubHTTPError) and status in (401, 403):
        return f"it refuses ({status}): {given}; it must allow this"
    if isinstance(error, HfHubHTTPError):
        return f"{constants.ENDPOINT} answered {status}, tries included; try again later ({_first_line(error)})"
    if isinstance(error, OSError | ValueError) or type(error).__module__.startswith(("httpx", "httpcore", "requests")):
        return f"{_first_line(error)}; check the name and the network"
    return None


def _has_token(options: dict) -> bool:
    return options.get("token") is not False and bool(options.get("token") or get_token())


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
