"""Training checkpoints that hold nothing but JSON and safetensors, complete or not there."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ..data.files import refuse_links_out_of

STATE_NAME = "state.json"
_TENSOR_KEY = "__tensor__"


def save_checkpoint(output_dir: Path, step: int, states: dict[str, Any], info: dict, limit: int | None) -> Path:
    """Write `output_dir/checkpoint-STEP`, beside its place first and renamed when it is complete and on disk.

    Killed at any moment, this leaves all earlier checkpoints; see `tidy_checkpoints`.

    Args:
        states: name => nested dicts and lists of tensors and plain values, as `state_dict()` gives them.
        info: plain JSON that `load_checkpoint` gives back.
        limit: keep this one and the newest others, so many in all; None keeps all.
    """
    final = output_dir / f"checkpoint-{step}"
    partial, replaced = _hidden(final, "partial"), _hidden(final, "replaced")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write(partial, step, states, info)
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)  # on a full disk its room is needed
        raise
    if final.exists():
        final.rename(replaced)
    partial.rename(final)
    _wait_for_disk(output_dir)
    shutil.rmtree(replaced, ignore_errors=True)
    if limit is not None:
        others = [path for path in list_checkpoints(output_dir) if path != final]
        for old in others[: max(0, len(others) - limit + 1)]:
            old.rename(_hidden(old, "removed"))  # at once: half of a checkpoint must not look like one
            shutil.rmtree(_hidden(old, "removed"), ignore_errors=True)
    return final


def _write(folder: Path, step: int, states: dict[str, Any], info: dict) -> None:
    structures = {}
    for name, state in states.items():
        tensors: dict[str, torch.Tensor] = {}
        structures[name] = _split(state, name, tensors)
        save_file(tensors, folder / f"{name}.safetensors")
        _wait_for_disk(folder / f"{name}.safetensors")
    (folder / STATE_NAME).write_text(json.dumps({"step": step, "info": info, "structures": structures}))
    _wait_for_disk(folder / STATE_NAME)


def tidy_checkpoints(output_dir: Path) -> None:
    """Undo what a process left that was killed while it saved: bring back what was to be replaced, remove the rest."""
    for left in output_dir.glob(".checkpoint-*.replaced"):
        place = output_dir / left.stem.removeprefix(".")
        if not place.exists():
            left.rename(place)
    for ending in ("partial", "replaced", "removed"):
        for left in output_dir.glob(f".checkpoint-*.{ending}"):
            shutil.rmtree(left, ignore_errors=True)


def _hidden(checkpoint: Path, ending: str) -> Path:
    return checkpoint.with_name(f".{checkpoint.name}.{ending}")


def _wait_for_disk(path: Path) -> None:
    if os.name == "nt":
        return  # files opened for reading and folders cannot be waited for there
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_checkpoint(path: Path, targets: dict[str, Any] | None = None) -> tuple[int, dict[str, Any], dict]:
    """The step, the states and the info that `save_checkpoint` was given.

    Args:
        targets: name => the module, optimiser or EMA that the state is for: what does not fit it is refused before
            it is read.

    Raises:
        ValueError: a file is missing, damaged, reaches out of the folder, or does not fit.
    """
    try:
        content = _read_state(path)
        if targets is not None:
            check_fit(path, content["structures"], targets)
        states = {
            name: _join(structure, load_file(path / f"{name}.safetensors"))
            for name, structure in content["structures"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise _damaged(path, error) from error
    return content["step"], states, content["info"]


def read_info(path: Path) -> dict:
    """The info alone, as `load_checkpoint` gives it."""
    try:
        return _read_state(path)["info"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    return ValueError(f"{path} is no complete checkpoint ({reason}); resume from an earlier one")


def _read_state(path: Path) -> dict:
    refuse_links_out_of(path)
    content = json.loads((path / STATE_NAME).read_text())
    step, info = content["step"], content["info"]
    if type(step) is not int or step < 0 or not isinstance(info, dict):
        raise ValueError(f"{STATE_NAME} names step {step!r}")
    foreign = [name for name in content["structures"] if not re.fullmatch(r"\w+", name)]
    if foreign:
        raise ValueError(f"{STATE_NAME} names a state {foreign[0]!r}")
    return content


def check_fit(path: Path, structures: dict, targets: dict[str, Any]) -> None:
    """Compare the shapes in the files' headers with those of what they are for; no tensor is read.

    Raises:
        ValueError: other states, or a tensor of another shape.
    """
    if set(structures) != set(targets):
        raise ValueError(f"it holds {sorted(structures)}, expected {sorted(targets)}: those of another decoder")
    for name, target in targets.items():
        expected = _expected_shapes(target)
        with safe_open(path / f"{name}.safetensors", framework="pt") as file:
            for key in file.keys():
                shape = tuple(file.get_slice(key).get_shape())
                place = re.sub(r"^state\.(\d+)\..*", r"state.\1", key.removeprefix(f"{name}."))
                if expected is not None and shape not in expected.get(place, ()):
                    allowed = " or ".join(map(str, expected.get(place, ()))) or "none of this name"
                    raise ValueError(f"{key} has shape {shape}, expected {allowed}")


def _expected_shapes(target: Any) -> dict[str, tuple] | None:
    """Place in the state => the shapes that fit there; None where there is nothing to compare with."""
    if isinstance(target, torch.nn.Module):
        return {key: (tuple(value.shape),) for key, value in target.state_dict().items()}
    if isinstance(target, torch.optim.Optimizer):  # moments are as large as their weights, counters are scalars
        weights = [weight for group in target.param_groups for weight in group["params"]]
        return {f"state.{index}": (tuple(weight.shape), ()) for index, weight in enumerate(weights)}
    if isinstance(target, EMAModel):
        return {f"shadow_params.{index}": (tuple(w.shape),) for index, w in enumerate(target.shadow_params)}
    return None


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


def all_finite(state) -> bool:
    """Whether nested dicts and lists hold no tensor with NaN or infinity."""
    if torch.is_tensor(state):
        return not state.is_floating_point() or bool(torch.isfinite(state).all())
    if isinstance(state, dict):
        return all(map(all_finite, state.values()))
    return not isinstance(state, list | tuple) or all(map(all_finite, state))
