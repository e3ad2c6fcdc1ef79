"""What ends a run early, as one line that says what happened, what is safe, and what to try."""

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from .checkpoints import list_checkpoints

GO_ON = "--resume_from_checkpoint latest"
LESS_MEMORY = (
    "take a smaller --train_batch_size (with --gradient_accumulation_steps to make up for it), "
    "--gradient_checkpointing or --mixed_precision bf16"
)


class Diverged(ValueError):
    """A loss or a weight is no longer a finite number."""


@contextmanager
def one_line_failures(output_dir: Path) -> Iterator[None]:
    """Turn what the disk, the memory, data workers and diverging losses raise into a one-line ValueError."""
    try:
        yield
    except (Diverged, OSError, EOFError, RuntimeError, MemoryError, SafetensorError) as error:
        reason = explain(error, output_dir)
        if reason is None:
            raise
        raise ValueError(f"{reason}; {what_is_safe(output_dir)}") from error


def explain(error: BaseException, output_dir: Path) -> str | None:
    """One line for an error that is nobody's mistake in the code; None for any other."""
    lines = str(error).strip().splitlines()
    said = lines[0] if lines else type(error).__name__
    if isinstance(error, Diverged):
        return (
            f"{said}; go on with a smaller --learning_rate or --max_grad_norm, or with --mixed_precision no, "
            "or start again"
        )
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return f"out of memory ({said}); {LESS_MEMORY}"
    if isinstance(error, RuntimeError) and "DataLoader worker" in said or _lost_a_worker(error):
        return (
            f"a process that reads photos was killed, mostly for lack of memory ({said}); use fewer "
            "--dataloader_num_workers"
        )
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT) or "No space left" in said or "os error 28" in said:
        return f"the disk of {output_dir} is full; make room there"
    if code in (errno.EROFS, errno.EACCES, errno.EPERM):
        place = getattr(error, "filename", None) or output_dir
        return f"{place} cannot be written ({error.strerror}); give another folder"
    if isinstance(error, OSError | SafetensorError):
        return f"{type(error).__name__}: {said}"
    return None


def _lost_a_worker(error: BaseException) -> bool:
    """Whether the connection to a data worker broke while it handed over a batch, for which PyTorch has no message."""
    frames = traceback.extract_tb(error.__traceback__)
    lost = isinstance(error, ConnectionError | EOFError | FileNotFoundError)
    return lost and any("multiprocessing" in Path(frame.filename).parts for frame in frames)


def what_is_safe(output_dir: Path) -> str:
    """Which checkpoint a run can go on from."""
    checkpoints = list_checkpoints(output_dir)
    if not checkpoints:
        return "there was no checkpoint yet"
    return f"{checkpoints[-1]} is complete, go on from it with {GO_ON}"
