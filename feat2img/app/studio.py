"""What the app does without its page: read a photo, run decoders on its features, score and time the results."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..data.photos import PhotoFiles
from ..data.pixels import ImageTransform, pixels_to_uint8, uint8_to_pixels
from ..evaluation.decoding import (
    decode,
    format_steps,
    load_pipeline,
    own_steps,
    resolve_device,
    takes_steps,
    unique_names,
)
from ..evaluation.grid import to_pil
from ..evaluation.metrics import feature_cosine, psnr
from ..evaluation.scorer import ImageScorer
from ..evaluation.timing import timed
from ..pipelines import Feat2ImgPipeline

QUICKSTART = ("examples/quickstart/gan", "examples/quickstart/diffusion")
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Reconstructed:
    """One reconstruction as the page shows it.

    `scores` holds "psnr" (dB), "feature_cosine" and, where its weights are at hand, "lpips"; `decode_ms` is the wall
    time from features to image, `encode_ms` from photo to features; `feature_shape` is (C, h, w).
    """

    name: str
    detail: str  # "1 pass", "8 steps, sample 2"
    original: Image.Image
    image: Image.Image
    scores: dict[str, float]
    encode_ms: float
    decode_ms: float
    feature_shape: tuple[int, int, int]

    @property
    def title(self) -> str:
        """Name and detail, unique among the results of one run."""
        return f"{self.name}, {self.detail}"

    @property
    def share_kept(self) -> float:
        """How many numbers the features are, over the numbers of the photo's pixels."""
        return math.prod(self.feature_shape) / (3 * self.original.width * self.original.height)


def default_pipelines() -> list[str]:
    """The quickstart pair, in this folder or in the repository that the package lies in.

    Raises:
        ValueError: when neither holds it, as after an installation from a wheel.
    """
    for root in (Path(), Path(__file__).parents[2]):
        found = [str(root / path) for path in QUICKSTART if (root / path / "model_index.json").is_file()]
        if found:
            return found
    raise ValueError(f"there is no {QUICKSTART[0]} here: name one or more pipelines, folders or names on the Hub")


class Studio:
    """Loaded pipelines, and what the page asks of them.

    Args:
        paths: folders or Hub names of pipelines.
        device: "cpu", "cuda", ...; None takes CUDA where there is one.
        dtype: "float32", "bfloat16" or "float16".

    Raises:
        ValueError: for no pipeline, one that cannot be loaded, or a device that is not here.
    """

    def __init__(self, paths: list[str], device: str | None = None, dtype: str = "float32"):
        if not paths:
            raise ValueError("no pipeline was named: name one or more, folders or names on the Hub")
        self.device = resolve_device(device)
        self.pipelines: dict[str, Feat2ImgPipeline] = {
            name: load_pipeline(path, self.device, dtype)
            for name, path in zip(unique_names(paths), paths, strict=True)
        }
        self.scorer = ImageScorer(self.device, download=False)

    @property
    def names(self) -> list[str]:
        return list(self.pipelines)

    @property
    def steps(self) -> dict[str, int]:
        """The own number of steps of each pipeline that samples in steps, by name."""
        own = {name: own_steps(pipeline) for name, pipeline in self.pipelines.items()}
        return {name: steps for name, steps in own.items() if steps is not None}

    @property
    def left_out(self) -> str | None:
        """Why LPIPS is not among the scores, or None."""
        return self.scorer.left_out.get("lpips")

    def read(self, photo: str | Path, pipeline: Feat2ImgPipeline) -> Tensor:
        """A photo as the pipeline's encoder sees it, (1, 3, S, S) in [-1, 1]. Raises ValueError for a broken one."""
        transform = ImageTransform(pipeline.image_size, pipeline.resize_size)
        example = PhotoFiles([Path(photo).absolute()], transform)[0]
        if "skipped" in example:
            raise ValueError(f"{Path(photo).name} cannot be read: {example['skipped'].reason}; try a JPEG or PNG file")
        return example["pixel_values"][None].to(self.device)

    @torch.no_grad()
    def warm_up(self) -> None:
        """Run every pipeline once, so that the first photo's times are like the next ones'."""
        for pipeline in self.pipelines.values():
            features = pipeline.encode(torch.zeros(1, 3, pipeline.image_size, pipeline.image_size))
            decode(pipeline, features, [0], seed=0, num_inference_steps=1)

    def check(self, photo: str | Path) -> None:
        """Raises ValueError when the photo cannot be read."""
        self.read(photo, next(iter(self.pipelines.values())))

    def reconstruct(
        self,
        photo: str | Path,
        names: list[str],
        num_inference_steps: int | None = None,
        num_samples: int = 1,
        guidance_scale: float | None = None,
        seed: int = 0,
        progress: Progress = lambda share, text: None,
    ) -> Iterator[Reconstructed]:
        """Yield the reconstructions of one photo as they are made, in the order of `names`.

        Args:
            photo: an image file.
            num_inference_steps, guidance_scale: of pipelines that sample in steps; None is the pipeline's own.
            num_samples: images of each pipeline that samples; the others give one.
            seed: of the noise.
            progress: called with a share from 0 to 1 and what is being done.

        Raises:
            ValueError: no or an unknown decoder, or a photo that cannot be read.
        """
        if not names:
            raise ValueError("choose at least one decoder")
        unknown = [name for name in names if name not in self.pipelines]
        if unknown:
            raise ValueError(f"there is no decoder {unknown[0]!r}: choose from {', '.join(self.names)}")
        jobs = [(n, s) for n in names for s in range(num_samples if takes_steps(self.pipelines[n]) else 1)]
        for place, (name, sample) in enumerate(jobs):

            def report(share: float, text: str, place: int = place) -> None:
                progress((place + share) / len(jobs), text)

            steps = num_inference_steps if takes_steps(self.pipelines[name]) else None
            yield self._reconstruct_once(photo, name, sample, num_samples, steps, guidance_scale, seed, report)

    @torch.no_grad()
    def _reconstruct_once(self, photo, name, sample, num_samples, steps, guidance_scale, seed, report):
        pipeline = self.pipelines[name]
        steps = steps or own_steps(pipeline)
        report(0.0, f"{name}: reading the features")
        pixels = self.read(photo, pipeline)
        features, encode_seconds = timed(lambda: pipeline.encode(pixels), self.device)

        def on_step(pipe, index: int, timestep, tensors: dict) -> dict:
            report((index + 1) / steps, f"{name}: step {index + 1} of {steps}")
            return tensors

        report(0.0, f"{name}: decoding")
        image, decode_seconds = timed(
            lambda: decode(pipeline, features, [0], seed, steps, guidance_scale, sample, on_step), self.device
        )
        original = pixels_to_uint8(pixels)
        detail = format_steps(steps) + (f", sample {sample + 1}" if steps and num_samples > 1 else "")
        return Reconstructed(
            name=name,
            detail=detail,
            original=to_pil(original[0]),
            image=to_pil(image[0]),
            scores=self._score(pipeline, image, original, features),
            encode_ms=encode_seconds * 1000,
            decode_ms=decode_seconds * 1000,
            feature_shape=tuple(features.shape[1:]),
        )

    def _score(self, pipeline: Feat2ImgPipeline, image: Tensor, original: Tensor, features: Tensor) -> dict:
        again = pipeline.encode(uint8_to_pixels(image))
        distance = self.scorer.lpips(image, original)
        scores = {"psnr": psnr(image, original), "feature_cosine": feature_cosine(again, features)}
        scores |= {} if distance is None else {"lpips": distance}
        return {metric: value.item() for metric, value in scores.items()}
