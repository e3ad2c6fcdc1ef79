"""Files that appear only when they are complete, and folders that one process at a time may write to."""

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = ".lock"


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the file, wait for the disk, and rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def only_user_of(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keep other processes out of a folder, which is made if need be.

    The lock ends with its process, however that ends, and forked workers do not inherit it.

    Args:
        wait: for another process to be done, instead of refusing.

    Raises:
        ValueError: another process is using the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK_NAME, "a+") as file:
        if not _lock(file, wait):
            file.seek(0)
            raise ValueError(
                f"{folder} is in use by another process ({file.read().strip() or 'just starting'}); "
                "wait until it is done, stop it, or give another folder"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def _lock(file, wait: bool) -> bool:
    """Whether the file is this process's now; also where the file system knows no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def refuse_links_out_of(folder: Path, also: tuple[Path, ...] = ()) -> None:
    """Raises ValueError when something in a folder is a link to what lies elsewhere, but for the folders in `also`."""
    inside = [folder.resolve(), *(path.resolve() for path in also)]
    for path in folder.rglob("*"):
        if path.is_symlink() and not any(path.resolve().is_relative_to(place) for place in inside):
            raise ValueError(f"{path} is a link to a file elsewhere; put the file itself there")
