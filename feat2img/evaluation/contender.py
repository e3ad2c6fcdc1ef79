"""One line of a comparison: something that answers photos' features with images, and what was measured of it."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations

import torch
from PIL import Image
from torch import Tensor

from .decoding import format_steps
from .grid import Column
from .intervals import bootstrap_mean
from .metrics import METRICS, psnr
from .scorer import ImageScorer
from .verifier import Opinion

SCHEMA_VERSION = 1
REFERENCES = ("baseline", "yardstick")  # kinds that do not compete
SAMPLE_SCORES = (
    *("psnr_best", "psnr_mean", "psnr_of_mean"),
    *("lpips_best", "lpips_mean", "lpips_of_mean", "diversity"),
)
COST = (
    *("latency_ms", "latency_p90_ms", "latency_with_encoder_ms", "latency_ms_batch", "latency_batch_size"),
    *("images_per_second", "peak_memory_mb", "denoiser_calls"),
)


@dataclass(frozen=True)
class Batch:
    """Photos on the device, B of them.

    features (B, C, h, w), targets uint8 (B, 3, S, S), indices (rows in the data set) and labels int64 (B,) on the CPU,
    opinions of the judging networks on the originals.
    """

    features: Tensor
    targets: Tensor
    indices: Tensor
    labels: Tensor
    opinions: dict[str, Opinion] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, rows: Tensor) -> "Batch":
        """The chosen photos, in that order."""
        there = rows.to(self.features.device)
        opinions = {
            name: Opinion(opinion.classes[there], opinion.features[there]) for name, opinion in self.opinions.items()
        }
        return Batch(self.features[there], self.targets[there], self.indices[rows], self.labels[rows], opinions)

    def first(self, count: int) -> "Batch":
        """So many photos, the batch over and over where it is smaller."""
        return self.take(torch.arange(count) % len(self))


@dataclass
class Contender:
    """A pipeline at one number of steps, a baseline, or a yardstick.

    Only numbers are kept per photo, and the images of the first few, so that memory does not grow with the photos.
    """

    name: str
    kind: str  # "gan", "diffusion", "baseline", "yardstick"
    decode: Callable[[Batch], Tensor] | None  # => uint8 (B, 3, S, S)
    num_inference_steps: int | None = None
    parameters: int | None = None
    details: dict = field(default_factory=dict)  # further keys of the result
    sample: Callable[[Batch, int], Tensor] | None = None  # sample number 1, 2, ... where another seed gives another
    measure: Callable[[Batch], dict] | None = None  # what it costs; None where that is of no interest
    max_images: int | None = None  # answers only the first so many photos
    indices: list[int] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=dict)
    cost: dict = field(default_factory=dict)
    set_distances: dict[str, float] = field(default_factory=dict)
    pictures: list[Image.Image] = field(default_factory=list)

    @property
    def subtitle(self) -> str:
        """What the name does not say."""
        return self.kind if self.kind in REFERENCES else format_steps(self.num_inference_steps)

    @property
    def competes(self) -> bool:
        """Whether it is a pipeline."""
        return self.kind not in REFERENCES

    def column(self) -> Column:
        """Its column in the grid."""
        return Column(self.name, self.subtitle, self.pictures)

    def add(self, indices: list[int], scores: dict[str, list[float]]) -> None:
        """Keep the scores of some photos."""
        self.indices.extend(indices)
        for metric, values in scores.items():
            self.scores.setdefault(metric, []).extend(values)

    def result(self) -> dict:
        """Its row in results.json, flat; infinite scores are still floats here."""
        row = {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "kind": self.kind,
            "num_inference_steps": self.num_inference_steps,
            "num_images": len(self.indices),
        }
        for metric in METRICS:
            interval = bootstrap_mean(self.scores[metric]) if metric in self.scores else (None, None, None)
            row |= dict(zip((metric, f"{metric}_low", f"{metric}_high"), interval, strict=True))
        for name in SAMPLE_SCORES:
            row[name] = statistics.fmean(self.scores[name]) if name in self.scores else None
        row |= {name: self.set_distances.get(name) for name in ("kid", "kid_std", "frechet")}
        row |= {name: self.cost.get(name) for name in COST}
        return row | {"parameters": self.parameters} | self.details


def score_samples(samples: list[Tensor], targets: Tensor, scorer: ImageScorer) -> dict[str, Tensor]:
    """Scores over several samples of the same photos, (B,) each: best, mean, of the samples' mean image, diversity.

    The mean image is rounded to 8 bits; diversity is the mean LPIPS over all pairs of samples.

    Args:
        samples: at least two uint8 tensors (B, 3, S, S).
    """
    mean_image = torch.stack(samples).float().mean(dim=0).round().to(torch.uint8)
    ratios = torch.stack([psnr(sample, targets) for sample in samples])
    scores = {
        "psnr_best": ratios.amax(dim=0),
        "psnr_mean": ratios.mean(dim=0),
        "psnr_of_mean": psnr(mean_image, targets),
    }
    if scorer.lpips(mean_image, targets) is None:
        return scores
    distances = torch.stack([scorer.lpips(sample, targets) for sample in samples])
    pairs = torch.stack([scorer.lpips(a, b) for a, b in combinations(samples, 2)])
    return scores | {
        "lpips_best": distances.amin(dim=0),
        "lpips_mean": distances.mean(dim=0),
        "lpips_of_mean": scorer.lpips(mean_image, targets),
        "diversity": pairs.mean(dim=0),
    }
