"""Trained pipelines as the comparison uses them: loaded, named, and run with one fixed seed per photo."""

import inspect
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers.utils import logging as diffusers_logging
from torch import Tensor

from ..data.pixels import pixels_to_uint8
from ..features.precision import EMULATED, emulates_bfloat16
from ..pipelines import Feat2ImgPipeline

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpmsolver++": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
}
SAMPLE_STRIDE = 0x9E3779B1  # between seeds of samples; torch uses 32 bits, which its multiples divide evenly


def resolve_device(device: str | None) -> torch.device:
    """The named device; None: CUDA where there is one, else the CPU. Raises ValueError for one that is not here."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here ({reason}): use --device cpu") from error
    return resolved


def load_pipeline(path: str, device: torch.device, dtype: str, scheduler: str | None = None) -> Feat2ImgPipeline:
    """Load a pipeline with its encoder, quiet and ready to decode.

    Args:
        path: folder or Hub name of a pipeline.
        dtype: a key of `DTYPES`.
        scheduler: a key of `SCHEDULERS` that replaces a diffusion pipeline's own.

    Raises:
        ValueError: for an unknown dtype or scheduler, a pipeline without an encoder, or a folder that holds none.
    """
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    if dtype == "bfloat16" and emulates_bfloat16(device):
        warnings.warn(f"{EMULATED}; --dtype float32 is faster", stacklevel=2)
    pipeline = Feat2ImgPipeline.from_pretrained(str(path))
    if getattr(pipeline, "encoder", None) is None:
        raise ValueError(f"pipeline {path} was saved without an encoder: save it with one to reconstruct photos")
    pipeline.set_progress_bar_config(disable=True)
    if scheduler is not None and takes_steps(pipeline):
        swap_scheduler(pipeline, scheduler)
    if DTYPES[dtype] != torch.float32:
        _cast(pipeline, DTYPES[dtype])
    return pipeline.to(device)


def _cast(pipeline: Feat2ImgPipeline, dtype: torch.dtype) -> None:
    """Change the type of all weights, without diffusers' warning about modules to keep in float32: there are none."""
    verbosity = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    try:
        pipeline.to(dtype=dtype)
    finally:
        diffusers_logging.set_verbosity(verbosity)


def swap_scheduler(pipeline: Feat2ImgPipeline, name: str) -> None:
    """Replace a diffusion pipeline's scheduler by the named one with the same settings."""
    import diffusers

    if name not in SCHEDULERS:
        raise ValueError(f"unknown scheduler {name!r}: choose one of {', '.join(SCHEDULERS)}")
    pipeline.scheduler = getattr(diffusers, SCHEDULERS[name]).from_config(pipeline.scheduler.config)


def takes_steps(pipeline: Feat2ImgPipeline) -> bool:
    """Whether the pipeline samples in a number of steps that the caller chooses."""
    return "num_inference_steps" in inspect.signature(type(pipeline).__call__).parameters


def own_steps(pipeline: Feat2ImgPipeline) -> int | None:
    """The steps of a call that names none; None for a pipeline that decodes in one pass."""
    return pipeline.config.num_inference_steps if takes_steps(pipeline) else None


def format_steps(num_inference_steps: int | None) -> str:
    """How a decoder gets to its image: "1 pass", "1 step", "25 steps"."""
    if num_inference_steps is None:
        return "1 pass"
    return f"{num_inference_steps} step{'s' if num_inference_steps > 1 else ''}"


def unique_names(paths: list[str]) -> list[str]:
    """Short names for pipelines: the folder's name, with its parents' where that is not unique, then a number."""
    parts = [Path(path).expanduser().resolve().parts if Path(path).exists() else Path(path).parts for path in paths]
    names = [p[-1] for p in parts]
    for depth in range(2, max(map(len, parts)) + 1):
        counts = Counter(dict(zip(parts, names, strict=True)).values())  # the same path twice gets a number below
        names = ["/".join(p[-depth:]) if counts[name] > 1 else name for name, p in zip(names, parts, strict=True)]
    seen: Counter = Counter()
    for i, name in enumerate(names):
        seen[name] += 1
        names[i] = name if seen[name] == 1 else f"{name} ({seen[name]})"
    return names


def photo_generators(indices: Tensor | list[int], seed: int, sample: int = 0) -> list[torch.Generator]:
    """One CPU generator per photo, seeded by its index: its noise does not depend on its batch or on the device.

    `sample` 1, 2, ... gives further noise for the same photos.
    """
    first = seed * 1_000_003 + sample * SAMPLE_STRIDE
    return [torch.Generator().manual_seed((first + int(index)) % 2**32) for index in indices]


def decode(
    pipeline: Feat2ImgPipeline,
    features: Tensor,
    indices: Tensor | list[int],
    seed: int,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    sample: int = 0,
    callback_on_step_end: Callable | None = None,
) -> Tensor:
    """Decode features (B, C, h, w) of the photos with these indices to uint8 images (B, 3, S, S) on the same device.

    `num_inference_steps`, `guidance_scale` and `callback_on_step_end` go to pipelines that sample in steps; None is
    the pipeline's default.
    `sample` is the number of the sample, see `photo_generators`.

    Raises:
        ValueError: when the images are not finite, as half precision can overflow.
    """
    options = {}
    if takes_steps(pipeline):
        chosen = {
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "callback_on_step_end": callback_on_step_end,
        }
        options = {name: value for name, value in chosen.items() if value is not None}
    generators = photo_generators(indices, seed, sample)
    images = pipeline(features=features, generator=generators, output_type="pt", **options).images
    return pixels_to_uint8(images.float() * 2 - 1)
