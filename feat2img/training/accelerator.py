"""accelerate's Accelerator as a run's settings and launcher ask for it, or a clear refusal."""

import dataclasses
import difflib
import sys
from importlib.util import find_spec
from pathlib import Path

import datasets
import diffusers
import huggingface_hub.utils
from accelerate import Accelerator, PartialState
from accelerate.utils import ProjectConfiguration, parse_flag_from_env
from PIL import Image

from ..features.precision import EMULATED, computes_bfloat16, emulates_bfloat16
from .config import TrainingConfig

TRACKERS = {"tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb"}  # name => package
PROJECT = "feat2img"
SHARDING = ("FSDP", "DEEPSPEED", "MEGATRON_LM")  # as `accelerate launch` names them in the environment


def make_accelerator(config: TrainingConfig, output_dir: Path) -> Accelerator:
    """The accelerator of a run. Raises ValueError for a launcher or a tracker that a run cannot use."""
    for name in SHARDING:
        if parse_flag_from_env(f"ACCELERATE_USE_{name}"):
            raise ValueError(
                f"accelerate is configured for {name}, which splits the model's weights; training needs them whole on "
                "every process. Use a configuration without it, such as examples/accelerate_configs/multi_gpu.yaml"
            )
    if config.report_to not in ("none", "all"):
        check_tracker(config.report_to)
    hide_bars_in_pipes()
    return Accelerator(
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        mixed_precision=config.mixed_precision,
        log_with=None if config.report_to == "none" else config.report_to,
        project_config=ProjectConfiguration(project_dir=str(output_dir), logging_dir=str(output_dir / "logs")),
    )


def settle_precision(config: TrainingConfig) -> TrainingConfig:
    """The configuration with what "auto" means on this device in its place, so that the run's records tell it."""
    if config.mixed_precision != "auto":
        return config
    return dataclasses.replace(config, mixed_precision="bf16" if computes_bfloat16(PartialState().device) else "no")


def precision_notice(accelerator: Accelerator) -> str | None:
    """What to tell where the run will crawl, since its CPU only emulates bfloat16."""
    if accelerator.mixed_precision == "bf16" and emulates_bfloat16(accelerator.device):
        return f"{EMULATED}; --mixed_precision no trains faster"
    return None


def check_tracker(name: str) -> None:
    """Raises ValueError for a tracker that is unknown or not installed; accelerate would log nowhere, silently."""
    if name not in TRACKERS:
        near = difflib.get_close_matches(name, TRACKERS, n=1)
        question = f", did you mean {near[0]}?" if near else ""
        raise ValueError(f"report_to is {name}; choose one of none, all, {', '.join(TRACKERS)}{question}")
    if find_spec(TRACKERS[name]) is None:
        raise ValueError(f"--report_to {name} needs the package {TRACKERS[name]}: pip install {TRACKERS[name]}")


def start_trackers(accelerator: Accelerator, settings: dict) -> None:
    """Begin a tracked run; what a tracker keeps on this machine goes beside the run's other logs."""
    logs = Path(accelerator.logging_dir)
    if accelerator.is_main_process:
        logs.mkdir(parents=True, exist_ok=True)
    accelerator.init_trackers(PROJECT, config=settings, init_kwargs={"wandb": {"dir": str(logs)}})


def track_image(accelerator: Accelerator, name: str, image: Image.Image, step: int) -> None:
    """Hand an image to every tracker of the run."""
    for tracker in accelerator.trackers:
        if tracker.name == "trackio":
            import trackio

            tracker.tracker.log({name: trackio.Image(image)}, step=step)
        elif tracker.name == "tensorboard":
            import numpy as np

            tracker.writer.add_image(name, np.asarray(image), step, dataformats="HWC")
        elif hasattr(tracker, "log_images"):
            tracker.log_images({name: [image]}, step=step)


def hide_bars_in_pipes() -> None:
    """Without the libraries' own progress bars where the output is no terminal."""
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        huggingface_hub.utils.disable_progress_bars()
        diffusers.utils.logging.disable_progress_bar()
