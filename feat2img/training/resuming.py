"""Whether a run may go on from a checkpoint, and taking it up."""

from pathlib import Path
from typing import Any

import torch

from .checkpoints import list_checkpoints, load_checkpoint, read_info
from .config import TrainingConfig, changed_fields
from .failures import GO_ON


def refuse_to_start_over(config: TrainingConfig, output_dir: Path) -> None:
    """Raises ValueError where a new run's checkpoints would push out those of an earlier one."""
    earlier = list_checkpoints(output_dir)
    if earlier and not config.resume_from_checkpoint:
        raise ValueError(
            f"{output_dir} holds {earlier[-1].name} of an earlier run; go on with {GO_ON}, or give another folder"
        )


def check_resumable(path: Path, config: TrainingConfig, num_processes: int, num_examples: int | None) -> list[str]:
    """Refuse to go on where that would not give what an uninterrupted run gives.

    Returns:
        "name: saved => now" for each setting that was changed on purpose, as after a loss that diverged.

    Raises:
        ValueError: other settings, another number of processes, of photos or of workers that read a stream.
    """
    info = read_info(path)
    saved = info.get("config")
    if not isinstance(saved, dict) or not {"images_seen", "minutes", "num_processes"} <= set(info):
        raise ValueError(f"{path} is no complete checkpoint (it lacks its settings); resume from an earlier one")
    refused, helpful = changed_fields(config, saved)
    if refused:
        raise ValueError(f"{path} was written with other settings ({'; '.join(refused)}); resume with the same")
    if info["num_processes"] != num_processes:
        raise ValueError(f"{path} was trained with {info['num_processes']} processes; resume with as many")
    if info.get("num_examples", num_examples) != num_examples:
        raise ValueError(
            f"{path} was trained on {info['num_examples']} photos, now there are {num_examples}; "
            "resume on the same data set"
        )
    workers = saved.get("dataloader_num_workers")
    if config.streaming and workers != config.dataloader_num_workers:
        raise ValueError(
            f"{path} read its stream with --dataloader_num_workers {workers}, which decides the order; "
            "resume with the same"
        )
    return helpful


def take_up(path: Path, targets: dict[str, Any]) -> tuple[int, dict]:
    """Load a checkpoint into modules, optimisers and EMA; its step and info.

    Raises:
        ValueError: the checkpoint is damaged or does not fit.
    """
    step, states, info = load_checkpoint(path, targets)
    try:
        for name, state in states.items():
            if isinstance(targets[name], torch.optim.Optimizer):
                state["param_groups"] = targets[name].state_dict()["param_groups"]  # settings are this run's
            targets[name].load_state_dict(state)
    except (RuntimeError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} does not fit this run ({str(error).splitlines()[0]})") from error
    return step, info
