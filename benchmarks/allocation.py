"""Memory freed and allocated again: a process that keeps it (`keep_freed_memory`) against one that does not."""

import argparse
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm.auto import tqdm

from feat2img import Feat2ImgPipeline
from feat2img.features import TimmFeatureEncoder
from feat2img.memory import keep_freed_memory

from .measure import Section, main, seconds_of, table
from .memory import memory_now

QUICKSTART = Path(__file__).parent.parent / "examples/quickstart"
BATCH = 16


def encode(name: str, layer: str) -> Callable[[], object]:
    encoder = TimmFeatureEncoder.from_timm(name, (layer,), 224, pretrained=False)
    pixels = torch.rand(BATCH, 3, 224, 224) * 2 - 1
    return torch.no_grad()(lambda: encoder(pixels))


def reconstruct(name: str) -> Callable[[], object]:
    pipeline = Feat2ImgPipeline.from_pretrained(QUICKSTART / name)
    pipeline.set_progress_bar_config(disable=True)
    features = torch.rand(BATCH, *pipeline.encoder.feature_shape)
    return lambda: pipeline(features=features, output_type="pt")


def train() -> Callable[[], object]:
    generator = Feat2ImgPipeline.from_pretrained(QUICKSTART / "gan").generator.float().train()
    projected = torch.rand(BATCH, generator.config.in_channels, *generator.config.map_size)
    return lambda: generator(projected).square().mean().backward()


PATHS = {
    "features of the quickstart encoder": lambda: encode("tf_efficientnet_lite0", "blocks.4"),
    "features, ResNet-101 layer3": lambda: encode("resnet101", "layer3"),
    "reconstruction, quickstart GAN": lambda: reconstruct("gan"),
    "reconstruction, quickstart diffusion": lambda: reconstruct("diffusion"),
    "forward and backward of the quickstart generator": train,
}


def measure(path: str, keep: bool, repeats: int) -> dict[str, float]:
    """Milliseconds and page faults an image, in this process."""
    if keep:
        keep_freed_memory()
    call = PATHS[path]()
    for _ in range(2):
        call()
    before = resource.getrusage(resource.RUSAGE_SELF)
    seconds = statistics.median(seconds_of(call) for _ in range(repeats))
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "ms": 1000 * seconds / BATCH,
        "faults": (after.ru_minflt - before.ru_minflt) / repeats / BATCH,
        "MiB": memory_now("VmHWM"),  # getrusage's begins with the parent's
    }


def measured_apart(path: str, keep: bool, repeats: int) -> dict[str, float]:
    """`measure` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.allocation", "--worker", path, "--repeats", str(repeats)]
    finished = subprocess.run(command + ["--keep"] * keep, capture_output=True, text=True, check=True)
    return json.loads(finished.stdout)


def run(options: argparse.Namespace) -> Section:
    rounds, repeats = (1, 1) if options.quick else (3, 3)
    rows, figures = [], {}
    for path in tqdm(PATHS, desc="allocation", disable=None, leave=False):
        pairs = [[measured_apart(path, keep, repeats) for keep in (False, True)] for _ in range(rounds)]
        ratios = [plain["ms"] / kept["ms"] for plain, kept in pairs]
        plain, kept = ({key: statistics.median(pair[i][key] for pair in pairs) for key in pairs[0][i]} for i in (0, 1))
        rows.append([
            path, plain["ms"], kept["ms"], statistics.median(ratios), min(ratios), max(ratios),
            round(plain["faults"]), round(kept["faults"]), round(plain["MiB"]), round(kept["MiB"]),
        ])  # fmt: skip
        figures[path] = statistics.median(ratios)
    text = (
        f"float32, 224 px, batches of {BATCH}, random weights of networks that the repository lacks, {rounds} rounds "
        "of two fresh processes in turns: one as it is, one after `keep_freed_memory()`, which `train` and the "
        "command line call first. Pages that the system handed out, and the largest resident memory, of each.\n\n"
        + table(
            ["path", "ms / image, plain", "kept", "times as fast (median)", "smallest", "largest",
             "pages / image, plain", "kept", "peak MiB, plain", "kept"],
            rows,
        )
    )  # fmt: skip
    return Section("Memory that is kept", text, figures)


def work() -> None:
    """One measurement, as `measured_apart` asks for it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker", required=True, choices=PATHS)
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    sys.stdout.write(json.dumps(measure(args.worker, args.keep, args.repeats)))


if __name__ == "__main__":
    work() if "--worker" in sys.argv else main(run, __doc__)
