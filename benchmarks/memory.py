"""Memory: peak resident memory with few and with ten times as many photos, and of the reference recipes."""

import argparse
import contextlib
import dataclasses
import itertools
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import torch
from tqdm.auto import tqdm

from feat2img.cli import main as command_line
from feat2img.data import ImageTransform, PhotoDataset, load_photos
from feat2img.features import TimmFeatureEncoder, build_feature_cache
from feat2img.models import FeatureGenerator, FeatureProjector
from feat2img.pipelines import Feat2ImgGANPipeline
from feat2img.training import GAN_PRESETS, DiffusionConfig, GANConfig, train

from .measure import Section, main, table
from .photos import write_photos

COUNTS, QUICK_COUNTS = (1_000, 10_000), (100, 300)
TARGET_GROWTH, TARGET_GIB = 0.05, 16
SIZE, BATCH = 64, 32  # pixels and photos, of the small models
REFERENCE_BATCH = 16
SHARD = 1_000  # photos in a parquet file
ROWS_PER_GROUP = 100  # of the parquet file, as the Hub makes them
SECONDS_BETWEEN_SAMPLES = 0.02
REFERENCES = {
    "diffusion, batch 16": DiffusionConfig(),
    "diffusion, gradient_checkpointing": DiffusionConfig(gradient_checkpointing=True),
    "diffusion, batch 4, 4 accumulated": DiffusionConfig(train_batch_size=4, gradient_accumulation_steps=4),
    # as in the second half of a run, when the discriminator has its say
    "GAN, batch 16": GANConfig(discriminator_start=0.0, adversarial_start=0.0),
}


def memory_now(name: str) -> float:
    """A line of /proc/self/status in MiB."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found.group(1)) / 1024


class PeakOfOwnMemory(threading.Thread):
    """The largest memory of the process's own, without pages of files, seen until `stop`, in MiB."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak, self.stopped = 0.0, threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(SECONDS_BETWEEN_SAMPLES):
            self.peak = max(self.peak, memory_now("RssAnon"))

    def stop(self) -> float:
        self.stopped.set()
        self.join()
        return self.peak


def measured(case: Callable[..., None], work: Path, *arguments) -> dict[str, float]:
    """Peak memory of a case in this process, in MiB: all of it, and the process's own."""
    datasets.config.HF_DATASETS_CACHE = work / "datasets-cache"
    own = PeakOfOwnMemory()
    own.start()
    with contextlib.redirect_stdout(sys.stderr):
        case(work, *arguments)
    return {"peak": memory_now("VmHWM"), "own": own.stop()}


def in_fresh_process(case: Callable[..., None], work: Path, *arguments) -> dict[str, float]:
    """`measured` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measured, case, work, *arguments).result()


def small(work: Path, case: Callable[[Path, Path], None], photos: Path) -> None:
    """A case in one thread: small models gain nothing from more."""
    torch.set_num_threads(1)
    case(work, photos)


def small_encoder() -> TimmFeatureEncoder:
    """The debug preset's encoder: test_resnet with random weights, always the same."""
    torch.manual_seed(0)
    return TimmFeatureEncoder.from_timm("test_resnet.r160_in1k", ["layer3"], SIZE, pretrained=False)


def extract_features(work: Path, photos: Path) -> None:
    """Features of all photos into a cache."""
    dataset = PhotoDataset(load_photos(photos), ImageTransform(SIZE, SIZE))
    build_feature_cache(small_encoder(), dataset, work / "cache", batch_size=BATCH)


def train_on_cache(work: Path, photos: Path) -> None:
    """Every photo once, its features from a cache."""
    steps = len(load_photos(photos)) // BATCH
    config = dataclasses.replace(
        GAN_PRESETS["debug"],
        output_dir=str(work / "model"),
        dataset_name=str(photos),
        validation_split=None,
        feature_cache_dir=str(work / "cache"),
        random_flip=False,
        max_train_samples=None,
        train_batch_size=BATCH,
        max_train_steps=steps,
        logging_steps=steps,
        validation_steps=steps,
        checkpointing_steps=steps,
        report_to="none",
    )
    train(config)


def compare(work: Path, photos: Path) -> None:
    """`feat2img compare` of a tiny GAN pipeline with random weights."""
    small_gan().save_pretrained(work / "gan")
    options = ["--dataset", photos, "--split", "train", "--num_images", len(load_photos(photos)), "--verifier", "none"]
    options += ["--batch_size", 32, "--output_dir", work / "comparison", "--device", "cpu"]
    if command_line([str(option) for option in ["compare", work / "gan", *options]]):
        raise RuntimeError("feat2img compare failed")


def prepare(work: Path, photos: Path) -> None:
    """The Arrow file that `datasets` makes of a data set when it is loaded for the first time."""
    load_photos(photos)


def one_step(work: Path, photos: Path, config: DiffusionConfig | GANConfig) -> None:
    """One optimiser step of a reference recipe on the CPU, with the smallest sample grid behind it."""
    changes = dict(
        output_dir=str(work / "reference"),
        dataset_name=str(photos),
        validation_split=None,
        encoder_random_weights=True,
        max_train_samples=REFERENCE_BATCH,
        max_train_steps=1,
        num_validation_images=1,
        report_to="none",
    )
    if isinstance(config, DiffusionConfig):
        changes["num_inference_steps"] = 1
    train(dataclasses.replace(config, **changes))


def small_gan() -> Feat2ImgGANPipeline:
    """Random weights."""
    encoder = small_encoder()
    channels, *grid = encoder.feature_shape
    projector = FeatureProjector(
        channels, tuple(grid), 16, 1, 8, tuple(grid), encoder_fingerprint=encoder.fingerprint()
    )
    generator = FeatureGenerator(8, tuple(grid), SIZE, (8, 4), layers_per_block=1, head_channels=4)
    return Feat2ImgGANPipeline(encoder, projector, generator, SIZE, SIZE)


def write_parquet(photos: Path, folder: Path, count: int) -> None:
    """Parquet files of so many photos, as data sets on the Hub have them; the photos are gone through again."""
    folder.mkdir(parents=True)
    files = itertools.islice(itertools.cycle(sorted((photos / "train").iterdir())), count)
    kind = pyarrow.schema({"image": pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})})
    for number in itertools.count():
        shard = list(itertools.islice(files, SHARD))
        if not shard:
            return
        rows = [{"image": {"bytes": file.read_bytes(), "path": file.name}} for file in shard]
        content = pyarrow.Table.from_pylist(rows, schema=kind)
        pyarrow.parquet.write_table(content, folder / f"train-{number:05}.parquet", row_group_size=ROWS_PER_GROUP)


# name => what runs in a process of its own, one after the other
CASES = {
    "data set prepared by `datasets`": prepare,
    "feature extraction": extract_features,
    "training on cached features": train_on_cache,
    "evaluation": compare,
}


def growth_rows(options: argparse.Namespace, folder: Path) -> list[list]:
    """Name, peak with few photos, with many, growth of it, growth of the process's own memory."""
    counts = QUICK_COUNTS if options.quick else COUNTS
    photos = write_photos(options, folder / "photos", counts[0])
    peaks: dict[str, list[dict]] = {name: [] for name in CASES}
    runs = list(itertools.product(counts, CASES.items()))
    for count, (name, case) in tqdm(runs, desc="cases", disable=None, leave=False):
        work = folder / str(count)
        if not (work / "data").exists():
            write_parquet(photos, work / "data", count)
        peaks[name].append(in_fresh_process(small, work, case, work / "data"))
    return [
        [name, few["peak"], many["peak"], many["peak"] / few["peak"] - 1, many["own"] / few["own"] - 1]
        for name, (few, many) in peaks.items()
    ]


def reference_rows(options: argparse.Namespace, folder: Path) -> list[list]:
    """Name and peak in GiB of one step of each reference recipe; with --quick of the GAN's alone."""
    photos = write_photos(options, folder / "few", 2 * REFERENCE_BATCH)
    chosen = list(REFERENCES.items())[-1 if options.quick else 0 :]
    rows = []
    for number, (name, config) in enumerate(tqdm(chosen, desc="recipes", disable=None, leave=False)):
        peak = in_fresh_process(one_step, folder / f"recipe-{number}", photos, config)["peak"]
        rows.append([name, peak / 1024])
    return rows


def run(options: argparse.Namespace) -> Section:
    """Peaks of fresh processes."""
    with tempfile.TemporaryDirectory() as temporary:
        growth = growth_rows(options, Path(temporary))
        references = reference_rows(options, Path(temporary))
    few, many = QUICK_COUNTS if options.quick else COUNTS
    shown = [[name, f"{a:.0f}", f"{b:.0f}", f"{total:+.1%}", f"{own:+.1%}"] for name, a, b, total, own in growth]
    text = (
        f"Peak resident memory of a fresh process in MiB; target: at most {TARGET_GROWTH:+.0%}. "
        "Own memory is without the pages of mapped files. The photos lie in parquet files of "
        f"{SHARD:,}: while `datasets` prepares them, it holds one such file at a time.\n\n"
        + table(["", f"{few:,} photos", f"{many:,} photos", "growth", "growth of own memory"], shown)
        + f"\nOne step of the reference recipes at 224 px on the CPU; target: at most {TARGET_GIB} GiB.\n\n"
        + table(["", "peak, GiB"], references)
    )
    figures = {f"growth: {name}": total for name, _, _, total, _ in growth}
    figures |= {f"GiB: {name}": peak for name, peak in references}
    return Section("Memory", text, figures)


if __name__ == "__main__":
    main(run, __doc__)
