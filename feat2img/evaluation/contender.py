"""One line of a comparison: something that answers features with images, and what was measured of it."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from ..data.pixels import uint8_to_pixels
from .formatting import format_steps
from .grid import Column, to_pil
from .metrics import METRICS, ImageScorer
from .timing import median_batch_seconds, median_seconds, timed


@dataclass(frozen=True)
class Batch:
    """Photos on the device: features (B, C, h, w), uint8 originals (B, 3, S, S), rows in the data set (B,)."""

    features: Tensor
    targets: Tensor
    indices: Tensor

    @property
    def device(self) -> torch.device:
        """Where the features lie."""
        return self.features.device


@dataclass
class Contender:
    """A pipeline at one number of steps, or a baseline.

    Only numbers are kept per photo, and the images of the first few, so that memory does not grow with the photos.
    """

    name: str
    kind: str  # "gan", "diffusion", "baseline"
    decode: Callable[[Tensor, Tensor], Tensor]  # features (B, C, h, w), indices (B,) => uint8 (B, 3, S, S)
    num_inference_steps: int | None = None
    parameters: int | None = None
    details: dict = field(default_factory=dict)  # further keys of the result
    indices: list[int] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=dict)
    batches: list[tuple[int, float]] = field(default_factory=list)  # (images, seconds) of each decoded batch
    samples: list[Image.Image] = field(default_factory=list)
    latency_s: float | None = None

    @property
    def subtitle(self) -> str:
        """What the name does not say."""
        return self.kind if self.kind == "baseline" else format_steps(self.num_inference_steps)

    def column(self) -> Column:
        """Its column in the grid."""
        return Column(self.name, self.subtitle, self.samples)

    def process(self, batch: Batch, encode: Callable[[Tensor], Tensor], scorer: ImageScorer, num_samples: int) -> None:
        """Decode one batch and keep its scores, its time, and the images that are still wanted for the grid.

        Before the first batch the latency of a single photo is measured, which also warms up.
        """
        if not self.batches and self.kind != "baseline":
            self.latency_s = median_seconds(lambda: self.decode(batch.features[:1], batch.indices[:1]), batch.device)
        images, seconds = timed(lambda: self.decode(batch.features, batch.indices), batch.device)
        self.batches.append((len(images), seconds))
        scores = scorer(images, batch.targets, encode(uint8_to_pixels(images)), batch.features)
        for metric, values in scores.items():
            self.scores.setdefault(metric, []).extend(values.tolist())
        self.indices.extend(batch.indices.tolist())
        wanted = num_samples - len(self.samples)
        self.samples.extend(to_pil(image) for image in images[: max(0, wanted)])

    def mean_scores(self) -> dict[str, float | None]:
        """Mean over the photos of every metric; None for one that was left out, infinite when a photo's is."""
        return {name: statistics.fmean(self.scores[name]) if name in self.scores else None for name in METRICS}

    def result(self) -> dict:
        """Its entry in results.json, flat; infinite scores are still floats here."""
        is_baseline = self.kind == "baseline"
        batch_size, batch_seconds = median_batch_seconds(self.batches)
        return {
            "name": self.name,
            "kind": self.kind,
            "num_inference_steps": self.num_inference_steps,
            "num_images": len(self.indices),
            **self.mean_scores(),
            "latency_ms": None if self.latency_s is None else self.latency_s * 1000,
            "latency_ms_batch": None if is_baseline else batch_seconds * 1000,
            "latency_batch_size": None if is_baseline else batch_size,
            "parameters": self.parameters,
            **self.details,
        }
