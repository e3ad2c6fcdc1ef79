"""Compare pipelines on the same photos: scores, cost, a grid, results.json and a report."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field

import datasets
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..data.photos import PhotoDataset, SkippedPhoto, SkipTally, photo_loader
from ..data.pixels import ImageTransform, pixels_to_uint8
from ..data.sources import IMAGENETTE
from ..pipelines import Feat2ImgPipeline
from .baselines import NearestTrainingPhoto, mean_image
from .contender import Batch, Contender
from .decoding import decode, load_pipeline, resolve_device, takes_steps, unique_names
from .grid import Column, to_pil
from .metrics import ImageScorer
from .photos import SCIKIT_IMAGE, load_comparison_photos
from .timing import count_decoder_parameters


@dataclass(frozen=True)
class CompareSettings:
    """What to compare on, and how. Raises ValueError for values that cannot be."""

    dataset: str = IMAGENETTE  # Hub name, folder, or "scikit-image"
    split: str = "validation"
    size: str = "320px"  # of ImageNette on the Hub
    image_column: str | None = None
    num_images: int | None = 256  # None: all
    num_inference_steps: tuple[int, ...] = (25,)  # each for every pipeline that samples in steps
    guidance_scale: float | None = None  # None: the pipeline's default
    scheduler: str | None = None  # None: the pipeline's own
    batch_size: int = 16
    num_workers: int = 0
    seed: int = 0
    device: str | None = None  # None: CUDA where there is one
    dtype: str = "float32"
    baselines: bool = False  # also score the mean image and the nearest training photo in feature space
    baseline_split: str = "train"
    baseline_images: int = 1000
    num_grid_images: int = 8

    def __post_init__(self) -> None:
        positive = ("num_images", "batch_size", "baseline_images", "num_grid_images")
        for name in positive:
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.num_inference_steps or min(self.num_inference_steps) < 1:
            raise ValueError(f"num_inference_steps must all be at least 1, got {list(self.num_inference_steps)}")
        if self.num_workers < 0 or self.seed < 0:
            raise ValueError(f"num_workers and seed must not be negative, got {self.num_workers} and {self.seed}")
        if self.baselines and self.dataset == SCIKIT_IMAGE:
            raise ValueError(
                "baselines need training photos, and the data set 'scikit-image' has none: "
                "leave baselines out or name a data set with a training split"
            )
        if self.baselines and self.baseline_split == self.split:
            raise ValueError(
                f"baselines from the split {self.split!r} itself would find every photo: choose another baseline_split"
            )


@dataclass
class Comparison:
    """Everything measured: contenders in the order of the report, originals for the grid, what was left out."""

    contenders: list[Contender]
    originals: Column
    left_out: dict[str, str] = field(default_factory=dict)  # metric => why and how to get it
    skipped: list[SkippedPhoto] = field(default_factory=list)

    def results(self) -> list[dict]:
        """One flat dict per contender, as in results.json."""
        shared = {
            "num_skipped": len(self.skipped),
            "left_out": [f"{metric}: {reason}" for metric, reason in self.left_out.items()],
        }
        return [contender.result() | shared for contender in self.contenders]

    def columns(self) -> list[Column]:
        """The grid's columns, originals first."""
        return [self.originals, *(contender.column() for contender in self.contenders)]


def compare_pipelines(paths: list[str], settings: CompareSettings) -> Comparison:
    """Reconstruct the same photos with every pipeline and score the results.

    Pipelines are loaded one after the other, and every batch is scored and dropped, so memory depends neither on the
    number of pipelines nor on that of the photos. The noise for a photo depends on `seed` and the photo's index alone.

    Args:
        paths: folders or Hub names of pipelines.

    Raises:
        ValueError: for settings, pipelines or data that cannot be used; the message says which.
    """
    if not paths:
        raise ValueError("nothing to compare: name at least one pipeline")
    device = resolve_device(settings.device)
    for path in paths:  # a broken one shows now, not after a download or after the others have run for an hour
        load_pipeline(path, torch.device("cpu"), "float32", settings.scheduler)
    photos = _load(settings, settings.split, settings.num_images)
    scorer = ImageScorer(device)
    contenders, baselines, seen = [], [], set()
    comparison = None
    for path, name in zip(paths, unique_names(paths), strict=True):
        pipeline = load_pipeline(path, device, settings.dtype, settings.scheduler)
        entered = pipeline_contenders(pipeline, name, settings)
        key = _encoder_key(pipeline)
        with tempfile.TemporaryDirectory(prefix="feat2img-") as cache_dir:
            rivals = []
            if settings.baselines and key not in seen:
                rivals = baseline_contenders(pipeline, f" (for {name})" if seen else "", settings, cache_dir)
            seen.add(key)
            originals, skipped = _run(pipeline, name, [*entered, *rivals], photos, scorer, settings)
        contenders += entered
        baselines += rivals
        comparison = comparison or Comparison(contenders, originals, scorer.left_out, skipped)
    comparison.contenders = contenders + baselines
    return comparison


def _load(settings: CompareSettings, split: str, num_images: int | None) -> datasets.Dataset:
    is_package = settings.dataset == SCIKIT_IMAGE
    options = {} if is_package else {"size": settings.size, "image_column": settings.image_column}
    return load_comparison_photos(settings.dataset, split, num_images=num_images, seed=settings.seed, **options)


def pipeline_contenders(pipeline: Feat2ImgPipeline, name: str, settings: CompareSettings) -> list[Contender]:
    """One contender per number of steps, or a single one for a pipeline that decodes in one pass."""
    steps = dict.fromkeys(settings.num_inference_steps) if takes_steps(pipeline) else [None]
    details = _details(pipeline, settings)
    if takes_steps(pipeline):
        details["scheduler"] = type(pipeline.scheduler).__name__
        details["guidance_scale"] = settings.guidance_scale
    parameters = count_decoder_parameters(pipeline.components)

    def decoder(count: int | None) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda features, indices: decode(
            pipeline, features, indices, settings.seed, count, settings.guidance_scale
        )

    return [Contender(name, pipeline.kind, decoder(n), n, parameters, details) for n in steps]


def baseline_contenders(
    pipeline: Feat2ImgPipeline, suffix: str, settings: CompareSettings, cache_dir: str
) -> list[Contender]:
    """Mean image and nearest training photo, at the pipeline's image size and in its encoder's feature space."""
    photos = PhotoDataset(
        _load(settings, settings.baseline_split, settings.baseline_images),
        ImageTransform(pipeline.image_size, pipeline.resize_size),
    )
    mean = mean_image(photos, settings.batch_size, settings.num_workers).to(pipeline.device)
    nearest = NearestTrainingPhoto(pipeline.encoder, photos, cache_dir, settings.batch_size, settings.num_workers)
    details = _details(pipeline, settings) | {"baseline_images": len(nearest.valid)}
    return [
        Contender("mean image" + suffix, "baseline", lambda f, i: mean.expand(len(f), -1, -1, -1), details=details),
        Contender("nearest training photo" + suffix, "baseline", lambda f, i: nearest(f), details=details),
    ]


def _details(pipeline: Feat2ImgPipeline, settings: CompareSettings) -> dict:
    config = pipeline.encoder.config
    return {
        "device": str(pipeline.device),
        "dtype": settings.dtype,
        "image_size": pipeline.image_size,
        "encoder": config["model_name"],
        "layers": ", ".join(config["layers"]),
        "dataset": settings.dataset,
        "split": None if settings.dataset == SCIKIT_IMAGE else settings.split,
        "seed": settings.seed,
    }


def _encoder_key(pipeline: Feat2ImgPipeline) -> tuple:
    return (
        pipeline.encoder.weights_hash(),
        tuple(pipeline.encoder.config["layers"]),
        pipeline.image_size,
        pipeline.resize_size,
    )


@torch.no_grad()
def _run(
    pipeline: Feat2ImgPipeline,
    name: str,
    contenders: list[Contender],
    photos: datasets.Dataset,
    scorer: ImageScorer,
    settings: CompareSettings,
) -> tuple[Column, list[SkippedPhoto]]:
    """Let all contenders of one encoder answer all photos; returns the grid's originals and the skipped photos."""

    def encode(pixels: Tensor) -> Tensor:
        return pipeline.encode(pixels.to(device=pipeline.device, dtype=pipeline.dtype))

    dataset = PhotoDataset(photos, ImageTransform(pipeline.image_size, pipeline.resize_size))
    tally = SkipTally()
    originals = []
    with tqdm(total=len(dataset) * len(contenders), desc=name, unit="image", disable=None) as progress:
        for examples in photo_loader(dataset, settings.batch_size, settings.num_workers):
            tally.add(examples)
            progress.update(len(examples["skipped"]) * len(contenders))
            if examples["pixel_values"] is None:
                continue
            pixels = examples["pixel_values"].to(pipeline.device)
            batch = Batch(encode(pixels), pixels_to_uint8(pixels), examples["indices"])
            wanted = max(0, settings.num_grid_images - len(originals))
            originals += [to_pil(image) for image in batch.targets[:wanted]]
            for contender in contenders:
                contender.process(batch, encode, scorer, settings.num_grid_images)
                progress.update(len(batch.indices))
    tally.finish()
    return Column("original", f"{pipeline.image_size} px", originals), list(tally.photos.values())
