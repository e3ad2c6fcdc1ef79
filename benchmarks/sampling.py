"""Sampling of the quickstart diffusion pipeline: its default against a plain diffusers loop of 50 DDIM steps."""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

from feat2img import Feat2ImgPipeline
from feat2img.data import ImageTransform, PhotoDataset, load_photos, pixels_to_uint8
from feat2img.evaluation.decoding import decode, load_pipeline, photo_generators
from feat2img.evaluation.intervals import paired_difference
from feat2img.evaluation.scorer import ImageScorer

from .measure import Section, main, race, ratio, table
from .photos import write_photos

PIPELINE = Path(__file__).parent.parent / "examples" / "quickstart" / "diffusion"
PLAIN_STEPS, BATCH = 50, 8


@torch.no_grad()
def plain_sampling(pipeline: Feat2ImgPipeline, features: torch.Tensor, indices: list[int]) -> torch.Tensor:
    """diffusers' denoising loop as its documentation has it, float32, 50 DDIM steps: uint8 (B, 3, S, S)."""
    scheduler, config = pipeline.scheduler, pipeline.config
    condition, guess = pipeline.projector(features), pipeline.prepare_guess(features, 1)
    scheduler.set_timesteps(PLAIN_STEPS)
    noise = [torch.randn(guess.shape[1:], generator=g) for g in photo_generators(indices, 0)]
    latents = torch.stack(noise) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        inputs = scheduler.scale_model_input(latents, timestep)
        prediction = pipeline.unet(torch.cat([inputs, condition.map, guess], dim=1), timestep, None).sample
        latents = scheduler.step(prediction, timestep, latents).prev_sample
    pixels = F.pixel_shuffle(guess + config.residual_scale * latents, config.patch_size)
    return pixels_to_uint8(pixels.clamp(-1, 1))


def run(options: argparse.Namespace) -> Section:
    rounds, count = (1, BATCH) if options.quick else (5, 64)
    full = load_pipeline(str(PIPELINE), torch.device("cpu"), "float32")
    half = load_pipeline(str(PIPELINE), torch.device("cpu"), "bfloat16")
    with tempfile.TemporaryDirectory() as name:
        folder = write_photos(options, Path(name), count, split="validation")
        photos = PhotoDataset(
            load_photos(str(folder), "validation"), ImageTransform(full.image_size, full.resize_size)
        )
        pixels = torch.stack([photos[index]["pixel_values"] for index in range(count)])
    features = torch.cat([full.encode(pixels[i : i + BATCH]) for i in range(0, count, BATCH)])
    ways = {
        f"plain loop, {PLAIN_STEPS} steps, float32": lambda f, i: plain_sampling(full, f, i),
        "ours, default, float32": lambda f, i: decode(full, f, i, 0),
        "ours, default, bfloat16": lambda f, i: decode(half, f.bfloat16(), i, 0),
    }
    lpips = {name: scores(way, features, pixels) for name, way in ways.items()}
    first = list(range(BATCH))
    times = race({name: lambda way=way: way(features[:BATCH], first) for name, way in ways.items()}, rounds)
    plain = next(iter(ways))
    rows = []
    for name, seconds in times.items():
        median, low, high = ratio(times, plain, name)
        difference = paired_difference(lpips[name], lpips[plain])
        interval = f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
        rate = BATCH / statistics.median(seconds)
        rows.append([name, rate, median, low, high, f"{statistics.fmean(lpips[name]):.4f}", interval])
    header = ["way", "images / s", "times plain", "smallest", "largest", "LPIPS", "LPIPS difference [95 %]"]
    text = (
        f"The quickstart diffusion pipeline, {full.image_size} px, batches of {BATCH}, {rounds} rounds in turns; its "
        f"own default is {full.config.num_inference_steps} steps. LPIPS on {count} photos, paired.\n\n"
        + table(header, rows)
    )
    return Section("Sampling", text, {name: ratio(times, plain, name)[0] for name in ways})


def scores(way, features: torch.Tensor, pixels: torch.Tensor) -> list[float]:
    """LPIPS of every photo's reconstruction."""
    scorer, values = ImageScorer(), []
    for start in range(0, len(features), BATCH):
        indices = list(range(start, min(start + BATCH, len(features))))
        images = way(features[indices], indices)
        values += scorer.lpips(images, pixels_to_uint8(pixels[indices])).tolist()
    return values


if __name__ == "__main__":
    main(run, __doc__)
