"""To the Hub and back: fetching a pipeline, uploading a folder, and what a Hub that fails is called in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token, hf_hub_download, snapshot_download
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
NOT_TO_BE_HAD = "is no folder here and cannot be had from the Hub"


def is_hub_name(name: str) -> bool:
    """Whether a text can be the name of a Hub repository, user/name."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith("/")


def fetch_index(name: str, **options) -> Path:
    """Fetch the small `model_index.json` of a repository, so that another one's gigabytes need not be."""
    with _one_line_errors(f"{name} {NOT_TO_BE_HAD}", options):
        return Path(hf_hub_download(name, INDEX_NAME, **options))


def fetch_pipeline(name: str, **options) -> Path:
    """Fetch what a pipeline is loaded from, and return the folder in the cache.

    Args:
        options: of `HUB_OPTIONS`, as huggingface_hub takes them.

    Raises:
        ValueError: no such repository or revision, no permission, no answer, or offline and not in the cache.
    """
    with _one_line_errors(f"{name} {NOT_TO_BE_HAD}", options):
        return Path(snapshot_download(name, allow_patterns=ALLOWED_PATTERNS, **options))


def make_repository(name: str, private: bool | None, token: str | None) -> str:
    """Make a model repository where there is none yet, and return its full name. Raises ValueError."""
    with _one_line_errors(f"{name} cannot be made on the Hub", {"token": token}):
        return HfApi(token=token).create_repo(name, private=private, exist_ok=True).repo_id


def upload(folder: Path, name: str, message: str, revision: str | None, create_pr: bool, token: str | None) -> str:
    """Upload a folder in one commit and return the commit's address. A card that others wrote there stays.

    Raises:
        ValueError: the Hub refused it, failed, or did not answer.
    """
    api = HfApi(token=token)
    with _one_line_errors(f"{name} cannot be written on the Hub", {"token": token, "revision": revision}):
        if revision is not None and not create_pr:
            api.create_branch(name, branch=revision, exist_ok=True)
        ignored = [CARD_NAME] if _has_foreign_card(name, revision, token) else None
        commit = api.upload_folder(
            repo_id=name, folder_path=folder, commit_message=message, revision=revision, create_pr=create_pr,
            ignore_patterns=ignored,
        )  # fmt: skip
        return str(getattr(commit, "pr_url", None) or commit.commit_url)


def _has_foreign_card(name: str, revision: str | None, token: str | None) -> bool:
    try:
        path = hf_hub_download(name, CARD_NAME, revision=revision, token=token)
    except LocalEntryNotFoundError:
        raise  # no answer, which says nothing about the card
    except EntryNotFoundError:
        return False
    return not is_own_card(Path(path).read_text(encoding="utf-8", errors="replace"))


@contextmanager
def _one_line_errors(failure: str, options: dict) -> Iterator[None]:
    """Failures of the Hub and of the way there as ValueError; other errors pass."""
    try:
        yield
    except Exception as error:
        reason = _reason(error, options)
        if reason is None:
            raise
        raise ValueError(f"{failure}: {reason}") from error


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
        return f"it is not in the cache and {constants.ENDPOINT} fails ({first_line(error.__cause__ or error)})"
    if isinstance(error, EntryNotFoundError):
        return f"it holds no {INDEX_NAME} and so no pipeline"
    if isinstance(error, HfHubHTTPError) and status in (401, 403):
        return f"it refuses ({status}): {given}; it must allow this"
    if isinstance(error, HfHubHTTPError):
        return f"{constants.ENDPOINT} answered {status}, tries included; try again later ({first_line(error)})"
    if isinstance(error, OSError | ValueError) or type(error).__module__.startswith(("httpx", "httpcore", "requests")):
        return f"{first_line(error)}; check the name and the network"
    return None


def _has_token(options: dict) -> bool:
    return options.get("token") is not False and bool(options.get("token") or get_token())


def first_line(error: BaseException) -> str:
    """An error's type and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
