"""Training checkpoints that hold nothing but JSON and safetensors, complete or not there."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

STATE_NAME = "state.json"
_TENSOR_KEY = "__tensor__"


def save_checkpoint(output_dir: Path, step: int, states: dict[str, Any], info: dict, limit: int | None) -> Path:
    """Write `output_dir/checkpoint-STEP`, beside its place first and renamed when complete.

    Args:
        states: name => nested dicts and lists of tensors and plain values, as `state_dict()` gives them.
        info: plain JSON that `load_checkpoint` gives back.
        limit: keep at most this many checkpoints, the newest; None keeps all.
    """
    final = output_dir / f"checkpoint-{step}"
    partial = output_dir / f".checkpoint-{step}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    structures = {}
    for name, state in states.items():
        tensors: dict[str, torch.Tensor] = {}
        structures[name] = _split(state, name, tensors)
        save_file(tensors, partial / f"{name}.safetensors")
    with (partial / STATE_NAME).open("w") as file:
        json.dump({"step": step, "info": info, "structures": structures}, file)
        file.flush()
        os.fsync(file.fileno())
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    if limit is not None:
        for old in list_checkpoints(output_dir)[:-limit]:
            shutil.rmtree(old)
    return final


def load_checkpoint(path: Path) -> tuple[int, dict[str, Any], dict]:
    """The step, the states and the info that `save_checkpoint` was given."""
    try:
        content = json.loads((path / STATE_NAME).read_text())
        states = {
            name: _join(structure, load_file(path / f"{name}.safetensors"))
            for name, structure in content["structures"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"{path} is no complete checkpoint ({error}); resume from an earlier one") from error
    return content["step"], states, content["info"]


def find_checkpoint(output_dir: Path, resume_from: str) -> Path | None:
    """The folder that `--resume_from_checkpoint` means: a path, a name in `output_dir`, or "latest" (None if none)."""
    if resume_from == "latest":
        checkpoints = list_checkpoints(output_dir)
        return checkpoints[-1] if checkpoints else None
    for path in (Path(resume_from).expanduser(), output_dir / resume_from):
        if (path / STATE_NAME).is_file():
            return path
    found = ", ".join(path.name for path in list_checkpoints(output_dir)) or "none"
    raise ValueError(f"no checkpoint {resume_from} (in {output_dir}: {found}); give one of these, a path or 'latest'")


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    pattern = re.compile(r"checkpoint-(\d+)")
    paths = [path for path in output_dir.glob("checkpoint-*") if (path / STATE_NAME).is_file()]
    return sorted((p for p in paths if pattern.fullmatch(p.name)), key=lambda p: int(p.name.split("-")[1]))


def _split(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Replace the tensors in a nested structure by their names, and collect them; numbers stay numbers as keys."""
    if torch.is_tensor(value):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {_TENSOR_KEY: path}
    if isinstance(value, dict):
        return {"items": [[key, _split(item, f"{path}.{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_split(item, f"{path}.{index}", tensors) for index, item in enumerate(value)]
    return value


def _join(structure: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(structure, dict) and _TENSOR_KEY in structure:
        return tensors[structure[_TENSOR_KEY]]
    if isinstance(structure, dict):
        return {key: _join(item, tensors) for key, item in structure["items"]}
    if isinstance(structure, list):
        return [_join(item, tensors) for item in structure]
    return structure
