"""Quality of decoders on the same validation photos, for the benchmarks that train some and compare them."""

from collections.abc import Callable
from pathlib import Path

import torch
from tqdm.auto import tqdm

from feat2img.data import ImageTransform, PhotoDataset, load_photos, pixels_to_uint8, uint8_to_pixels
from feat2img.evaluation.decoding import decode, load_pipeline
from feat2img.evaluation.metrics import feature_cosine, psnr, sharpness
from feat2img.evaluation.scorer import ImageScorer
from feat2img.evaluation.verifier import Verifier, agreement
from feat2img.features import TimmFeatureEncoder
from feat2img.features.precision import computes_bfloat16

BATCH = 16
FAST_DTYPE = torch.bfloat16 if computes_bfloat16(torch.device("cpu")) else torch.float32
METRICS = {"lpips": "LPIPS ↓", "verifier_top1": "verifier top-1 ↑", "feature_cosine": "feature cosine ↑",
           "psnr": "PSNR, dB ↑", "sharpness": "sharpness → 1"}  # fmt: skip


def resize_size(image_size: int) -> int:
    """Short side before the crop, in the recipe's proportion of 256 to 224."""
    return round(image_size * 256 / 224)


def fast_arithmetic() -> torch.autocast:
    """Convolutions and matrix products in `FAST_DTYPE`."""
    return torch.autocast("cpu", torch.bfloat16, enabled=FAST_DTYPE == torch.bfloat16)


@torch.no_grad()
def encode(encoder: TimmFeatureEncoder, images: torch.Tensor) -> torch.Tensor:
    """Features of uint8 images, float32."""
    with fast_arithmetic():
        return encoder(uint8_to_pixels(images)).float()


class Judge:
    """Photos with their features and what the verifier sees in them.

    Args:
        dataset: as `load_photos` takes it; `count` photos of its validation split, a fixed choice.
        encoder: whose features `score`'s decoders read and feature cosine compares.
    """

    def __init__(self, dataset: str, count: int, encoder: TimmFeatureEncoder):
        size = encoder.config.image_size
        photos = PhotoDataset(
            load_photos(dataset, "validation", num_images=count, seed=0), ImageTransform(size, resize_size(size))
        )
        self.encoder, self.verifier, self.scorer = encoder, Verifier(), ImageScorer()
        self.originals = torch.stack([pixels_to_uint8(photos[i]["pixel_values"]) for i in range(len(photos))])
        batches = tqdm(self.originals.split(BATCH), desc="originals", disable=None, leave=False)
        self.references = [(batch, encode(encoder, batch), self.verifier(batch)) for batch in batches]

    def score_pipeline(self, folder: Path, guidance_scale: float | None = None) -> dict[str, list[float]]:
        """`score` of a saved pipeline in `FAST_DTYPE`, whose own encoder encodes the photos."""
        pipeline = load_pipeline(str(folder), torch.device("cpu"), str(FAST_DTYPE).removeprefix("torch."))

        def reconstruct(_: torch.Tensor, indices: list[int]) -> torch.Tensor:
            features = encode(pipeline.encoder, self.originals[indices])
            return decode(pipeline, features.to(FAST_DTYPE), indices, seed=0, guidance_scale=guidance_scale)

        return self.score(reconstruct, folder.name)

    @torch.no_grad()
    def score(self, decode: Callable[[torch.Tensor, list[int]], torch.Tensor], name: str) -> dict[str, list[float]]:
        """Scores of every photo by metric.

        Args:
            decode: features (B, C, h, w) and the photos' numbers => uint8 images (B, 3, S, S).
        """
        scores: dict[str, list[float]] = {metric: [] for metric in METRICS}
        first = 0
        for originals, features, opinion in tqdm(self.references, desc=name, disable=None, leave=False):
            images = decode(features, list(range(first, first + len(originals))))
            first += len(originals)
            values = {
                "lpips": self.scorer.lpips(images, originals),
                "verifier_top1": agreement(self.verifier(images), opinion)["verifier_top1"],
                "feature_cosine": feature_cosine(encode(self.encoder, images), features),
                "psnr": psnr(images, originals),
                "sharpness": sharpness(images, originals),
            }
            for metric, value in values.items():
                scores[metric] += value.tolist()
        return scores
