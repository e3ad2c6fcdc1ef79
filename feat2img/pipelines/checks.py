"""Whether a folder is a pipeline that may be loaded, told from its JSON files and the headers of its weights alone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import diffusers
import torch
from diffusers import ModelMixin
from safetensors import SafetensorError, safe_open

from ..data.files import refuse_links_out_of
from ..features.encoder import TimmFeatureEncoder, network_shapes

MAX_JSON_BYTES = 1 << 20  # ours hold a few thousand
MAX_SCHEDULER_STEPS = 100_000
MAX_RESIZE = 64  # times the image size
# numbers of repeated parts: each part has weights of its own
REPEATS = ("num_blocks", "layers_per_block", "transformer_layers_per_block", "reverse_transformer_layers_per_block")


def read_json(path: Path) -> dict:
    """The object in a JSON file. Raises ValueError for a missing, huge or damaged file, and for anything else."""
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{path} is larger than {MAX_JSON_BYTES >> 10} KiB, which no file of ours is")
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); copy or download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected an object")
    return content


def check_links(folder: Path) -> None:
    """Refuse links out of a pipeline's folder; the Hub's cache links from snapshots/COMMIT to blobs beside it."""
    refuse_links_out_of(folder, also=(folder.parent.parent / "blobs",) if folder.parent.name == "snapshots" else ())


def check_sizes(index: dict, folder: Path) -> None:
    """Refuse an index whose sizes are none, or are not those of its components."""
    path = folder / "model_index.json"
    image_size, resize_size = index.get("image_size", 224), index.get("resize_size", 256)
    for value in (image_size, resize_size, index.get("patch_size", 1), index.get("num_inference_steps", 1)):
        if type(value) is not int or value < 1:
            raise ValueError(f"{path} holds the size {value!r}; expected a whole number from 1")
    if not image_size <= resize_size <= MAX_RESIZE * image_size:
        raise ValueError(
            f"{path} holds image_size {image_size} and resize_size {resize_size}; expected the second to be 1 to "
            f"{MAX_RESIZE} times the first"
        )
    for name in ("encoder", "generator", "guess_generator"):
        config = folder / name / "config.json"
        size = read_json(config).get("image_size", image_size) if config.is_file() and name in index else image_size
        if size != image_size:
            raise ValueError(f"{config} has image_size {size!r}, the pipeline {image_size}; copy or download it again")


def check_scheduler(class_name: str, path: Path) -> None:
    """Refuse a scheduler's configuration whose noise schedule would fill the memory, or that makes no scheduler."""
    config = read_json(path)
    steps = config.get("num_train_timesteps", 1)
    if type(steps) is not int or not 1 <= steps <= MAX_SCHEDULER_STEPS:
        raise ValueError(f"{path} has num_train_timesteps {steps!r}; expected 1 to {MAX_SCHEDULER_STEPS}")
    with _refused_as(f"{path} describes no {class_name}"):
        getattr(diffusers, class_name).from_config(config)


@contextmanager
def _refused_as(problem: str) -> Iterator[None]:
    """What a strange configuration makes a constructor raise can be anything."""
    try:
        yield
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{problem}: {lines[0]}") from error


def check_weights(cls: type[ModelMixin], component: Path) -> None:
    """Refuse weights whose names and shapes are not those of the model that the configuration describes."""
    files = sorted(component.glob("*.safetensors"))
    if list(component.glob("*.index.json")):
        raise ValueError(f"{component} holds weights in several files, which feat2img does not write; save it as one")
    found = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as weights:
                found[file] = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is damaged ({str(error).splitlines()[0]}); copy or download it again") from error
    config = read_json(component / "config.json")
    most = max(map(len, found.values()))
    for name in REPEATS:
        given = config.get(name)
        values = given if isinstance(given, list) else [given]
        if any(isinstance(value, int | float) and not 0 <= value <= most for value in values):
            raise ValueError(f"{component / 'config.json'} has {name} {config[name]}, its weights are {most} tensors")
    expected = _expected_shapes(cls, component, config)
    for file, shapes in found.items():
        wrong = [name for name in shapes if shapes[name] != expected.get(name)]
        if cls is not TimmFeatureEncoder:  # which keeps a part of its network, and whose features are checked
            wrong += [name for name in expected if name not in shapes]
        if wrong:
            shape, wanted = shapes.get(wrong[0], "missing"), expected.get(wrong[0], "nothing of this name")
            raise ValueError(
                f"{file} does not fit its config.json: {wrong[0]} is {shape}, expected shape {wanted}; "
                "copy or download it again"
            )


def _expected_shapes(cls: type[ModelMixin], component: Path, config: dict) -> dict[str, tuple[int, ...]]:
    with _refused_as(f"{component / 'config.json'} describes no {cls.__name__}"):
        if cls is TimmFeatureEncoder:
            return network_shapes(config["model_name"], config["image_size"])
        with torch.device("meta"):  # has shapes and takes no memory
            return {name: tuple(value.shape) for name, value in cls.from_config(config).state_dict().items()}
