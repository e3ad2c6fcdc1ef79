"""How cost grows with photos, resolution, batch, steps and processes."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from tqdm.auto import tqdm

from feat2img.data import ImageTransform, PhotoDataset, load_photos
from feat2img.evaluation.decoding import decode, load_pipeline
from feat2img.features import TimmFeatureEncoder, build_feature_cache

from .measure import Section, main, seconds_of, table
from .photos import write_photos
from .sampling import PIPELINE

HEADER = ["cost of", "at", "ms / image", "images / s"]


def run(options: argparse.Namespace) -> Section:
    repeats = 1 if options.quick else 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(options, folder / "photos", 128)
        cases = [*extraction(folder, options.quick), *sampling(), *training(folder, options.quick)]
        rows = []
        for what, at, images, measure in tqdm(cases, desc="scale", disable=None):
            count = 1 if what == "training step" else repeats  # each of these is a mean over six steps
            seconds = statistics.median(measure() for _ in range(count)) / images
            rows.append([what, at, 1000 * seconds, 1 / seconds])
    text = (
        "Median of three; of training steps the mean of six. As many threads as cores, shared among the processes "
        "where there are two.\n\n"
    )
    figures = {f"{what}, {at}": seconds for what, at, seconds, _ in rows}
    return Section("How cost grows", text + table(HEADER, rows), figures)


def extraction(folder: Path, quick: bool) -> list[tuple]:
    """By the number of photos and by resolution: ResNet-101 layer3 in bfloat16, from JPEG to disk."""
    photos, turns = load_photos(str(folder / "photos"), "train"), iter(range(1000))

    def measure(count: int, size: int):
        torch.manual_seed(0)
        encoder = TimmFeatureEncoder.from_timm("resnet101", ("layer3",), size, pretrained=False)
        dataset = PhotoDataset(photos.select(range(count)), ImageTransform(size, size * 8 // 7))

        def build() -> float:
            target = folder / f"cache{next(turns)}"
            return seconds_of(
                lambda: build_feature_cache(encoder, dataset, target, batch_size=16, autocast_dtype=torch.bfloat16)
            )

        return build

    counts, sizes = ((16,), (112,)) if quick else ((32, 64, 128), (112, 160, 224, 256))
    return [
        *(("extraction", f"{count} photos, 224 px", count, measure(count, 224)) for count in counts),
        *(("extraction", f"32 photos, {size} px", 32, measure(32, size)) for size in sizes),
    ]


def sampling() -> list[tuple]:
    """By batch and by steps: the quickstart diffusion pipeline in bfloat16."""
    pipeline = load_pipeline(str(PIPELINE), torch.device("cpu"), "bfloat16")
    torch.manual_seed(0)
    features = pipeline.encode((torch.rand(16, 3, 224, 224) * 2 - 1).bfloat16())

    def measure(batch: int, steps: int):
        def call():
            return decode(pipeline, features[:batch], list(range(batch)), 0, steps)

        call()
        return lambda: seconds_of(call)

    return [
        *(("sampling", f"batch {batch}, 4 steps", batch, measure(batch, 4)) for batch in (1, 2, 4, 8, 16)),
        *(("sampling", f"batch 8, {steps} steps", 8, measure(8, steps)) for steps in (1, 2, 4, 8)),
    ]


def training(folder: Path, quick: bool) -> list[tuple]:
    """By batch and by processes: a step of the quickstart diffusion preset, in fresh processes."""

    def measure(batch: int, processes: int):
        return lambda: 1 / images_per_second(folder, batch, processes)

    batches = (4,) if quick else (1, 4, 8, 16)
    return [
        *(("training step", f"batch {batch}", 1, measure(batch, 1)) for batch in batches),
        ("training step", "batch 8 on each of 2 processes", 1, measure(8, 2)),
    ]


def images_per_second(folder: Path, batch: int, processes: int) -> float:
    """Of `benchmarks.worker` in so many processes, which share the cores."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": str(threads)}
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"]
    command = [sys.executable, *(launcher if processes > 1 else ["-m"]), "benchmarks.worker"]
    command += ["--photos", str(folder / "photos"), "--output_dir", str(folder / "run"), "--batch", str(batch)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])["images_per_second"]


if __name__ == "__main__":
    main(run, __doc__)
