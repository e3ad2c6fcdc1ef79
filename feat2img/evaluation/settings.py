"""What to compare on, and how."""

from dataclasses import dataclass

from ..data.fields import check_fields
from ..data.sources import IMAGENETTE
from .photos import SCIKIT_IMAGE
from .verifier import DEFAULT_VERIFIER


@dataclass(frozen=True)
class CompareSettings:
    """What to compare on, and how. Raises ValueError for values that cannot be."""

    dataset: str = IMAGENETTE  # Hub name, folder, or "scikit-image"
    split: str = "validation"
    size: str = "320px"  # of ImageNette on the Hub
    image_column: str | None = None
    num_images: int | None = 256  # None: all
    num_inference_steps: tuple[int, ...] = ()  # each for every pipeline that samples in steps; (): its own number
    guidance_scale: float | None = None  # None: the pipeline's default
    scheduler: str | None = None  # None: the pipeline's own
    num_samples: int = 1  # per photo, of pipelines that sample
    verifier: str | None = DEFAULT_VERIFIER  # timm classifier; None: no verifier
    verifier_weights: str | None = None  # local safetensors file
    distribution_network: str | None = None  # timm network for KID and the Frechet distance; None: the verifier
    batch_size: int = 16
    latency_batch_size: int = 32
    num_workers: int = 0
    seed: int = 0
    device: str | None = None  # None: CUDA where there is one
    dtype: str = "float32"
    baselines: bool = False  # also score mean image, nearest training photo, linear decoder and shrunk originals
    baseline_split: str = "train"
    baseline_images: int = 1000
    pixel_optimisation_steps: int = 0  # 0: without that baseline
    pixel_optimisation_images: int = 8
    num_grid_images: int = 8

    def __post_init__(self) -> None:
        check_fields(self)
        positive = ("num_images", "num_samples", "batch_size", "latency_batch_size", "baseline_images")
        for name in (*positive, "pixel_optimisation_images", "num_grid_images"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if min(self.num_inference_steps, default=1) < 1:
            raise ValueError(f"num_inference_steps must all be at least 1, got {list(self.num_inference_steps)}")
        for name in ("num_workers", "seed", "pixel_optimisation_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.verifier is None and self.verifier_weights is not None:
            raise ValueError("verifier_weights are given without a verifier: name the network that they belong to")
        if self.baselines and self.dataset == SCIKIT_IMAGE:
            raise ValueError(
                "baselines need training photos, and the data set 'scikit-image' has none: "
                "leave baselines out or name a data set with a training split"
            )
        if self.baselines and self.baseline_split == self.split:
            raise ValueError(
                f"baselines from the split {self.split!r} itself would find every photo: choose another baseline_split"
            )
