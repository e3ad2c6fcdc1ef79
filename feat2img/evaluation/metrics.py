"""Scores of one reconstruction against its original, per image.

Every function takes batches and returns one number per image, so that means, intervals and paired differences can be
computed afterwards. Images are compared as a viewer gets them: 8-bit values, shape (B, 3, H, W), 0 to 255.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from .lpips import MIN_IMAGE_SIZE, LpipsUnavailable, load_lpips

SSIM_BORDER = 5  # half of the 11-tap Gaussian window


class Metric(NamedTuple):
    """How a metric is shown and which direction is better."""

    title: str
    higher_is_better: bool
    digits: int
    description: str


METRICS = {
    "psnr": Metric("PSNR", True, 2, "Peak signal-to-noise ratio in dB: pixel for pixel agreement."),
    "ssim": Metric("SSIM", True, 3, "Structural similarity (Wang et al. 2004), at most 1: local structure."),
    "lpips": Metric("LPIPS", False, 3, "Learned perceptual distance (Zhang et al. 2018, AlexNet), 0 is identical."),
    "feature_cosine": Metric(
        "Feature cosine", True, 3, "Cosine between the encoder's features of original and reconstruction, at most 1."
    ),
}


def _check_images(images: Tensor, targets: Tensor) -> None:
    if images.dtype != torch.uint8 or targets.dtype != torch.uint8:
        raise ValueError(
            f"images are scored as uint8 tensors in [0, 255], got {images.dtype} and {targets.dtype}: "
            "round them with feat2img.data.pixels.pixels_to_uint8"
        )
    if images.shape != targets.shape or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"reconstructions {tuple(images.shape)} and originals {tuple(targets.shape)} "
            "must have the same shape (B, 3, H, W)"
        )


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """No TF32 and no autotuning on CUDA: SSIM subtracts nearly equal numbers, and two runs must agree."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, shape (B,); infinite where an image equals its original."""
    _check_images(images, targets)
    return peak_signal_noise_ratio(
        images.float(), targets.float(), data_range=255.0, reduction="none", dim=(1, 2, 3)
    ).reshape(-1)


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Structural similarity, shape (B,), in [-1, 1] (Wang et al. 2004: Gaussian window of 11 pixels, sigma 1.5).

    Averaged over the windows that lie inside the image, as in the paper and scikit-image; torchmetrics' own mean also
    counts windows over a mirrored border. Images below 11 x 11 pixels raise ValueError.
    """
    _check_images(images, targets)
    if min(images.shape[-2:]) <= 2 * SSIM_BORDER:
        raise ValueError(f"SSIM needs images of at least 11 x 11 pixels, got {tuple(images.shape[-2:])}")
    with exact_convolutions():
        _, similarity = structural_similarity_index_measure(
            images.float(), targets.float(), data_range=255.0, reduction="none", return_full_image=True
        )
    inside = slice(SSIM_BORDER, -SSIM_BORDER)
    return similarity[..., inside, inside].mean(dim=(1, 2, 3))


def feature_cosine(features: Tensor, target_features: Tensor) -> Tensor:
    """Cosine between raw feature maps (B, ...), flattened per image: shape (B,), in [-1, 1]; 0 for all-zero maps."""
    if features.shape != target_features.shape:
        raise ValueError(
            f"features {tuple(features.shape)} and {tuple(target_features.shape)} differ in shape: "
            "both must come from the same encoder"
        )
    return torch.nn.functional.cosine_similarity(features.flatten(1).float(), target_features.flatten(1).float())


class ImageScorer:
    """All metrics of a comparison; what cannot be measured is in `left_out` (metric name -> reason and remedy).

    Args:
        device: where images and features lie.
        download: whether LPIPS' weights may be fetched when they are not on this machine.
    """

    def __init__(self, device: str | torch.device = "cpu", download: bool = True):
        self.left_out: dict[str, str] = {}
        self.lpips_network = None
        try:
            self.lpips_network = load_lpips(download).to(device)
        except LpipsUnavailable as error:
            self.left_out["lpips"] = str(error)

    @torch.no_grad()
    def __call__(
        self, images: Tensor, targets: Tensor, features: Tensor, target_features: Tensor
    ) -> dict[str, Tensor]:
        """Score uint8 images (B, 3, H, W) and the encoder's features of both: metric name -> float tensor (B,)."""
        scores = {"psnr": psnr(images, targets), "ssim": ssim(images, targets)}
        if self.lpips_network is not None and min(images.shape[-2:]) < MIN_IMAGE_SIZE:
            self.left_out["lpips"] = (
                f"images of {images.shape[-2]} x {images.shape[-1]} pixels are too small for AlexNet: "
                f"LPIPS needs {MIN_IMAGE_SIZE} pixels"
            )
        elif self.lpips_network is not None:
            scores["lpips"] = self.lpips(images, targets)
        scores["feature_cosine"] = feature_cosine(features, target_features)
        return scores

    def lpips(self, images: Tensor, targets: Tensor) -> Tensor:
        """LPIPS (AlexNet) of uint8 images: shape (B,), 0 for identical images."""
        _check_images(images, targets)
        with exact_convolutions():
            distance = self.lpips_network(images.float() / 255, targets.float() / 255, normalize=True)
        return distance.reshape(-1)
