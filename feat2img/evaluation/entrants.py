"""The contenders of a comparison: pipelines at their numbers of steps, baselines, shrunk originals."""

import functools
from pathlib import Path

import datasets
from torch import Tensor

from ..data.photos import PhotoDataset
from ..data.pixels import ImageTransform, uint8_to_pixels
from ..pipelines import Feat2ImgPipeline
from .baselines import NearestTrainingPhoto, mean_image
from .contender import Batch, Contender
from .decoding import decode, own_steps, takes_steps
from .photos import SCIKIT_IMAGE, load_comparison_photos
from .pixel_optimisation import invert_by_optimisation
from .ridge import fit_ridge
from .settings import CompareSettings
from .timing import count_calls, decoder_parameters, measure_cost
from .yardstick import YARDSTICK_SIZES, shrunk


def load_photos_for(settings: CompareSettings, split: str, num_images: int | None) -> datasets.Dataset:
    """Photos of the data set that the settings name."""
    is_package = settings.dataset == SCIKIT_IMAGE
    options = {} if is_package else {"size": settings.size, "image_column": settings.image_column}
    return load_comparison_photos(settings.dataset, split, num_images=num_images, seed=settings.seed, **options)


def shared_details(pipeline: Feat2ImgPipeline, settings: CompareSettings) -> dict:
    """Keys of a result that all contenders of one pipeline have."""
    config = pipeline.encoder.config
    return {
        "num_samples": 1,
        "device": str(pipeline.device),
        "dtype": settings.dtype,
        "image_size": pipeline.image_size,
        "encoder": config["model_name"],
        "layers": ", ".join(config["layers"]),
        "dataset": settings.dataset,
        "split": None if settings.dataset == SCIKIT_IMAGE else settings.split,
        "seed": settings.seed,
    }


def pipeline_contenders(pipeline: Feat2ImgPipeline, name: str, settings: CompareSettings) -> list[Contender]:
    """One contender per number of steps, or a single one for a pipeline that decodes in one pass."""
    samples = takes_steps(pipeline)
    details = shared_details(pipeline, settings)
    if samples:
        details["num_samples"] = settings.num_samples
        details["scheduler"] = type(pipeline.scheduler).__name__
        details["guidance_scale"] = settings.guidance_scale
    weights = decoder_parameters(pipeline.components)
    weights_bytes = sum(p.numel() * p.element_size() for p in weights)

    def contender(steps: int | None) -> Contender:
        def answer(features: Tensor, indices: Tensor, sample: int = 0) -> Tensor:
            return decode(pipeline, features, indices, settings.seed, steps, settings.guidance_scale, sample)

        def measure(batch: Batch) -> dict:
            def run(count: int) -> Tensor:
                return answer(batch.first(count).features, batch.first(count).indices)

            one = batch.first(1)
            pixels = uint8_to_pixels(one.targets).to(pipeline.dtype)
            cost = measure_cost(
                run,
                lambda: answer(pipeline.encode(pixels), one.indices),
                pipeline.device,
                settings.latency_batch_size,
                weights_bytes,
            )
            return cost | {"denoiser_calls": count_calls(getattr(pipeline, "unet", None), lambda: run(1))}

        return Contender(
            name,
            pipeline.kind,
            lambda batch: answer(batch.features, batch.indices),
            steps,
            sum(p.numel() for p in weights),
            details,
            (lambda batch, sample: answer(batch.features, batch.indices, sample)) if samples else None,
            measure,
        )

    return [
        contender(n) for n in (dict.fromkeys(settings.num_inference_steps) if samples else ()) or [own_steps(pipeline)]
    ]


def baseline_contenders(
    pipeline: Feat2ImgPipeline, suffix: str, settings: CompareSettings, cache_dir: str | Path
) -> list[Contender]:
    """Mean image, nearest training photo, linear decoder and, with steps, pixel optimisation.

    They work at the pipeline's image size and on its encoder's features, and are fitted when they first answer.
    """
    photos = PhotoDataset(
        load_photos_for(settings, settings.baseline_split, settings.baseline_images),
        ImageTransform(pipeline.image_size, pipeline.resize_size),
    )
    encoder, workers = pipeline.encoder, (settings.batch_size, settings.num_workers)
    mean = functools.cache(lambda: mean_image(photos, *workers).to(pipeline.device))
    nearest = functools.cache(lambda: NearestTrainingPhoto(encoder, photos, cache_dir, *workers))
    ridge = functools.cache(lambda: fit_ridge(encoder, photos, *workers))
    answers = {
        "mean image": lambda batch: mean().expand(len(batch), -1, -1, -1),
        "nearest training photo": lambda batch: nearest()(batch.features),
    }
    _, height, width = encoder.feature_shape
    if height == width and pipeline.image_size % height == 0:
        answers["linear decoder"] = lambda batch: ridge()(batch.features)
    details = shared_details(pipeline, settings) | {"baseline_images": len(photos)}
    entered = [Contender(name + suffix, "baseline", answer, details=details) for name, answer in answers.items()]
    if settings.pixel_optimisation_steps:
        steps, limit = settings.pixel_optimisation_steps, settings.pixel_optimisation_images
        entered.append(
            Contender(
                "pixel optimisation" + suffix,
                "baseline",
                lambda batch: invert_by_optimisation(encoder, batch.features, batch.indices, steps, settings.seed),
                details=shared_details(pipeline, settings) | {"optimisation_steps": steps},
                max_images=limit,
            )
        )
    return entered


def yardstick_contenders(pipeline: Feat2ImgPipeline, suffix: str, settings: CompareSettings) -> list[Contender]:
    """The originals shrunk to sizes below the pipeline's and enlarged again."""
    return [
        Contender(
            f"original at {size} px{suffix}",
            "yardstick",
            lambda batch, size=size: shrunk(batch.targets, size),
            details=shared_details(pipeline, settings) | {"yardstick_px": size},
        )
        for size in YARDSTICK_SIZES
        if size < pipeline.image_size
    ]
