"""How much of an image each layer of a network keeps, read out by a linear decoder, or by a trained one that goes over
to each layer: minutes, and no training loop."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..data.fields import check_fields
from ..data.photos import PhotoDataset, SkipTally, photo_loader
from ..data.pixels import ImageTransform, pixels_to_uint8, uint8_to_pixels
from ..data.sources import IMAGENETTE
from ..features.encoder import TimmFeatureEncoder
from ..pipelines import Feat2ImgPipeline
from .contender import SCHEMA_VERSION, Batch, Contender
from .decoding import load_pipeline, resolve_device
from .fitting import fit_decoder
from .grid import Column, to_pil
from .intervals import bootstrap_mean
from .judge import Judge
from .metrics import METRICS
from .photos import class_names_of, load_comparison_photos
from .ridge import RidgeDecoder
from .stitched import StitchedDecoder
from .verifier import DEFAULT_VERIFIER


@dataclass(frozen=True)
class SweepSettings:
    """Which layers to read out, and on which photos. Raises ValueError for values that cannot be."""

    encoder: str = "resnet101.a1h_in1k"
    layers: tuple[str, ...] = ("layer1", "layer2", "layer3")
    encoder_weights: str | None = None  # local safetensors file; None: timm's
    random_weights: bool = False  # the untrained network, for comparison
    decoder: str | None = None  # a GAN pipeline whose decoder is fitted to each layer; None: linear decoders
    image_size: int = 224
    resize_size: int = 256
    dataset: str = IMAGENETTE
    train_split: str = "train"
    split: str = "validation"
    size: str = "320px"  # of ImageNette on the Hub
    image_column: str | None = None
    num_train_images: int = 2000
    num_images: int = 500
    verifier: str | None = DEFAULT_VERIFIER
    verifier_weights: str | None = None
    batch_size: int = 16
    num_workers: int = 0
    seed: int = 0
    device: str | None = None
    num_grid_images: int = 6

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("num_train_images", "num_images", "batch_size", "num_grid_images", "image_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.layers or len(set(self.layers)) != len(self.layers):
            raise ValueError(f"layers must be different module names, at least one, got {list(self.layers)}")
        if self.train_split == self.split:
            raise ValueError(f"the split {self.split!r} cannot both fit and judge: choose another train_split")


@dataclass
class Sweep:
    """One row per layer, and the grid's columns, originals first."""

    rows: list[dict]
    columns: list[Column]
    notes: list[str] = field(default_factory=list)


def sweep_layers(settings: SweepSettings) -> Sweep:
    """Fit and score a decoder for each layer.

    Raises:
        ValueError: for a network, layers or data that cannot be used; the message says which.
    """
    device = resolve_device(settings.device)
    options = {"seed": settings.seed, "size": settings.size, "image_column": settings.image_column}
    train, photos = (
        load_comparison_photos(settings.dataset, split, num_images=count, **options)
        for split, count in ((settings.train_split, settings.num_train_images), (settings.split, settings.num_images))
    )
    encoders = {layer: make_encoder(settings, layer) for layer in settings.layers}  # a wrong name shows at once
    donor = load_donor(settings, device)
    for encoder in encoders.values():
        make_decoder(encoder, donor, settings)
    judge = Judge(device, class_names_of(photos), settings.verifier, settings.verifier_weights)
    rows, columns = [], []
    transform = ImageTransform(settings.image_size, max(settings.image_size, settings.resize_size))
    for layer, encoder in encoders.items():
        encoder.to(device)
        decoder = make_decoder(encoder, donor, settings)
        training = PhotoDataset(train, transform)
        fit_decoder(decoder, encoder, training, settings.batch_size, settings.num_workers, f"fitting to {layer}")
        contender = Contender(layer, "layer", lambda batch, decoder=decoder: decoder(batch.features))
        originals = Column("original", f"{settings.image_size} px", [])
        _score(encoder, contender, PhotoDataset(photos, transform), judge, settings, originals)
        rows.append(_row(settings, encoder, contender, decoder, judge))
        channels, height, width = encoder.feature_shape
        columns.append(Column(layer, f"{channels} x {height} x {width}", contender.pictures))
        encoder.to("cpu")
    notes = [f"{METRICS[name].title} was left out. {why}" for name, why in judge.left_out.items() if name in METRICS]
    return Sweep(rows, [originals, *columns], notes)


def load_donor(settings: SweepSettings, device: torch.device) -> Feat2ImgPipeline | None:
    """The pipeline whose decoder goes over to each layer. Raises ValueError for one of another image size."""
    if settings.decoder is None:
        return None
    pipeline = load_pipeline(settings.decoder, device, "float32")
    size = pipeline.config.image_size
    if size != settings.image_size:
        raise ValueError(f"{settings.decoder} makes images of {size} px, the sweep of {settings.image_size}: "
                         f"set image_size to {size}")  # fmt: skip
    return pipeline


def make_decoder(
    encoder: TimmFeatureEncoder, donor: Feat2ImgPipeline | None, settings: SweepSettings
) -> RidgeDecoder | StitchedDecoder:
    """One layer's decoder, not fitted yet. Raises ValueError for a layer or a pipeline that it cannot be made of."""
    if donor is None:
        return RidgeDecoder(encoder.feature_shape, settings.image_size)
    return StitchedDecoder(donor, encoder.feature_shape)


def make_encoder(settings: SweepSettings, layer: str) -> TimmFeatureEncoder:
    """The network up to one layer."""
    torch.manual_seed(settings.seed)  # decides random weights
    return TimmFeatureEncoder.from_timm(
        settings.encoder,
        (layer,),
        settings.image_size,
        weights=settings.encoder_weights,
        pretrained=not settings.random_weights,
    )


@torch.no_grad()
def _score(
    encoder: TimmFeatureEncoder,
    contender: Contender,
    dataset: PhotoDataset,
    judge: Judge,
    settings: SweepSettings,
    originals: Column,
) -> None:
    tally, wanted = SkipTally(num_photos=len(dataset)), settings.num_grid_images
    with tqdm(total=len(dataset), desc=contender.name, unit="photo", disable=None) as progress:
        for examples in photo_loader(dataset, settings.batch_size, settings.num_workers):
            tally.add(examples)
            progress.update(len(examples["indices"]) + len(examples["skipped"]))
            if examples["pixel_values"] is None:
                continue
            pixels = examples["pixel_values"].to(encoder.device)
            targets = pixels_to_uint8(pixels)
            opinions = judge.opinions(targets)
            batch = Batch(encoder(pixels), targets, examples["indices"], examples["labels"], opinions)
            images = contender.decode(batch)
            scores, _ = judge(images, encoder(uint8_to_pixels(images)), batch)
            contender.add(batch.indices.tolist(), {metric: values.tolist() for metric, values in scores.items()})
            _fill(originals.images, targets, wanted)
            _fill(contender.pictures, images, wanted)
    tally.finish()


def _fill(pictures: list, images: Tensor, wanted: int) -> None:
    pictures += [to_pil(image) for image in images[: max(0, wanted - len(pictures))]]


def _row(
    settings: SweepSettings,
    encoder: TimmFeatureEncoder,
    contender: Contender,
    decoder: RidgeDecoder | StitchedDecoder,
    judge: Judge,
) -> dict:
    """One layer's result, flat."""
    channels, height, width = encoder.feature_shape
    row = {
        "schema_version": SCHEMA_VERSION,
        "layer": contender.name,
        "channels": channels,
        "height": height,
        "width": width,
        "numbers_per_pixel": math.prod(encoder.feature_shape) / (3 * settings.image_size**2),
        "num_images": len(contender.indices),
    }
    for metric in METRICS:
        interval = bootstrap_mean(contender.scores[metric]) if metric in contender.scores else (None, None, None)
        row |= dict(zip((metric, f"{metric}_low", f"{metric}_high"), interval, strict=True))
    return row | {
        "encoder": encoder.config["model_name"],
        "random_weights": settings.random_weights,
        "decoder": "linear" if settings.decoder is None else Path(settings.decoder).name,
        "verifier": judge.verifier.name if judge.verifier else None,
        "dataset": settings.dataset,
        "split": settings.split,
        "num_train_images": settings.num_train_images,
        "num_train_cells": decoder.count,
        "image_size": settings.image_size,
        "seed": settings.seed,
    }
