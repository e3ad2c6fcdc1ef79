"""Where the time goes in each hot path, and how far that is from the floor, its arithmetic at the matrix rate."""

import argparse
import dataclasses
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from feat2img.evaluation.decoding import decode, load_pipeline
from feat2img.features import TimmFeatureEncoder
from feat2img.training import DIFFUSION_PRESETS, GAN_PRESETS

from .measure import Section, main, matrix_rate, seconds_of, shown, table
from .photos import write_photos
from .sampling import PIPELINE
from .training_step import OurLoop

TOP = 8  # operations shown
# What an operation's name does not say.
EXPLAINED = {
    "aten::mkldnn_convolution": "convolution forward",
    "aten::convolution_backward": "convolution backward",
    "aten::native_batch_norm": "batch normalisation",
    "aten::native_group_norm": "group normalisation",
    "aten::native_group_norm_backward": "group normalisation backward",
    "aten::copy_": "copies and casts",
    "aten::clamp_min_": "ReLU",
}


def run(options: argparse.Namespace) -> Section:
    repeats = 2 if options.quick else 6
    text = (
        "Floor: multiplications and additions of convolutions and matrix products, counted by PyTorch, over the rate "
        "at which this machine multiplies bfloat16 matrices of 2048 x 2048, measured right before each path. A floor "
        "above the measured time says that convolutions run faster than such matrix products.\n\n"
    )
    rows, tables, figures = [], [], {}
    with tempfile.TemporaryDirectory() as name:
        write_photos(options, Path(name) / "photos", 32)
        for path, (call, images) in tqdm(hot_paths(Path(name)).items(), desc="profiles", disable=None):
            call()
            flops = count_flops(call) / images
            rate = matrix_rate(torch.bfloat16)
            seconds = statistics.median(seconds_of(call) for _ in range(repeats)) / images
            floor = flops / rate / 1e9
            rows.append([path, flops / 1e9, rate, 1000 * floor, 1000 * seconds, seconds / floor])
            tables.append(f"**{path}**\n\n{operations(call)}")
            figures[path] = seconds / floor
    header = [
        "path",
        "GFLOP / image",
        "matrix rate, GFLOP/s",
        "floor, ms / image",
        "measured, ms / image",
        "measured / floor",
    ]
    return Section("Profiles", text + table(header, rows) + "\n" + "\n".join(tables), figures)


def hot_paths(folder: Path) -> dict[str, tuple[Callable[[], object], int]]:
    """Name => a call and the images it handles; most arithmetic is in bfloat16."""
    batch = 16
    torch.manual_seed(0)
    encoder = TimmFeatureEncoder.from_timm("resnet101", ("layer3",), 224, pretrained=False).fused()
    pixels = torch.rand(batch, 3, 224, 224) * 2 - 1

    @torch.no_grad()
    def extraction() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            encoder(pixels)

    changes = dict(
        dataset_name=str(folder / "photos"), encoder_random_weights=True, report_to="none", validation_split=None,
        num_validation_images=1, max_train_minutes=None, max_train_steps=1000, feature_cache_dir=str(folder / "cache"),
    )  # fmt: skip
    gan = OurLoop(
        dataclasses.replace(
            GAN_PRESETS["quickstart"],
            **changes,
            output_dir=str(folder / "gan"),
            discriminator_start=0.0,
            adversarial_start=0.0,
        )  # fmt: skip
    )
    diffusion = OurLoop(
        dataclasses.replace(DIFFUSION_PRESETS["quickstart"], **changes, output_dir=str(folder / "diffusion"))
    )
    pipeline = load_pipeline(str(PIPELINE), torch.device("cpu"), "bfloat16")
    features = pipeline.encode(pixels.bfloat16())
    indices = list(range(batch))
    return {
        "extraction (ResNet-101 layer3, bfloat16)": (extraction, batch),
        "GAN step (quickstart, all terms)": (gan.step, gan.run.config.train_batch_size),
        "diffusion step (quickstart)": (diffusion.step, diffusion.run.config.train_batch_size),
        "sampling (quickstart, bfloat16)": (lambda: decode(pipeline, features, indices, 0), batch),
    }


def count_flops(call: Callable[[], object]) -> int:
    """Floating-point operations of a call; a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def operations(call: Callable[[], object]) -> str:
    """The operations that take most of a call's time, as a table."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        call()
    events = sorted(recorded.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    rows = [
        [EXPLAINED.get(event.key, f"`{event.key[:60]}`"), event.count, f"{event.self_cpu_time_total / total:.1%}"]
        for event in events[:TOP]
    ]
    rest = sum(event.self_cpu_time_total for event in events[TOP:]) / total
    return table(["operation", "calls", "time"], [*rows, ["everything else", shown(len(events) - TOP), f"{rest:.1%}"]])


if __name__ == "__main__":
    main(run, __doc__)
