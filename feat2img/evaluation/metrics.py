"""Scores of one reconstruction against its original, per image.

Every function takes batches and returns one number per image, so that means, intervals and paired differences can be
computed afterwards. Images are compared as a viewer gets them: 8-bit values, shape (B, 3, H, W), 0 to 255.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

SSIM_BORDER = 5  # half of the 11-tap Gaussian window
MS_SSIM_MIN_SIZE = 161
ROUNDING_DETAIL = 20 / 12  # fine detail of independent rounding errors: (4 * 4 + 4) taps squared, variance 1 / 12 each


class Metric(NamedTuple):
    """How a metric is shown, which direction is better (None: neither, 1 is best) and the values it can take."""

    title: str
    higher_is_better: bool | None
    digits: int
    description: str
    range: str = ""


METRICS = {
    "psnr": Metric("PSNR", True, 2, "Peak signal-to-noise ratio in dB: pixel for pixel agreement.", "0 to infinity"),
    "ssim": Metric("SSIM", True, 3, "Structural similarity (Wang et al. 2004): local structure.", "-1 to 1"),
    "ms_ssim": Metric("MS-SSIM", True, 3, "SSIM over five scales (Wang et al. 2003): coarse and fine.", "0 to 1"),
    "lpips": Metric("LPIPS", False, 3, "Learned perceptual distance (Zhang et al. 2018, AlexNet).", "0 to about 1"),
    "dists": Metric("DISTS", False, 3, "Structure and texture distance (Ding et al. 2020, VGG-16).", "0 to 1"),
    "pixel_accuracy": Metric(
        "Pixel accuracy", True, 3, "1 - mean absolute error / 255; a flat grey reaches about 0.75.", "0 to 1"
    ),
    "feature_cosine": Metric(
        "Feature cosine", True, 3, "Cosine between the encoder's features of original and reconstruction.", "-1 to 1"
    ),
    "feature_l2": Metric(
        "Feature L2", False, 3, "Distance of the encoder's features over the length of the original's.", "from 0"
    ),
    "verifier_top1": Metric(
        "Verifier top-1", True, 3, "How often a classifier names original and reconstruction alike.", "0 to 1"
    ),
    "verifier_top5": Metric(
        "Verifier top-5",
        True,
        3,
        "How often the classifier's name for the original is among its five for the reconstruction.",
        "0 to 1",
    ),
    "true_label_top1": Metric(
        "True label", True, 3, "How often the classifier names the reconstruction's true class.", "0 to 1"
    ),
    "sharpness": Metric(
        "Sharpness", None, 2, "Fine detail over the original's: below 1 is blurry, above 1 is noisy.", "from 0"
    ),
}


def _check_images(images: Tensor, targets: Tensor) -> None:
    if images.dtype != torch.uint8 or targets.dtype != torch.uint8:
        raise ValueError(
            f"images are scored as uint8 tensors in [0, 255], got {images.dtype} and {targets.dtype}: "
            "round them with feat2img.data.pixels.pixels_to_uint8"
        )
    if images.shape != targets.shape or images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise ValueError(
            f"reconstructions {tuple(images.shape)} and originals {tuple(targets.shape)} "
            "must have the same shape (B, 3, H, W), none of it 0"
        )


def _float(images: Tensor) -> Tensor:
    """As float32 with the channels last, in which a CPU filters with a window twice as fast."""
    return images.float().contiguous(memory_format=torch.channels_last)


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
            _float(images), _float(targets), data_range=255.0, reduction="none", return_full_image=True
        )
    inside = slice(SSIM_BORDER, -SSIM_BORDER)
    return similarity[..., inside, inside].mean(dim=(1, 2, 3))


def ms_ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Structural similarity over five scales (Wang, Simoncelli & Bovik 2003), shape (B,), in [0, 1].

    torchmetrics' with its defaults; negative contrast terms count as 0. Images up to 160 pixels raise ValueError: the
    window of 11 pixels does not fit into the coarsest scale.
    """
    _check_images(images, targets)
    if min(images.shape[-2:]) < MS_SSIM_MIN_SIZE:
        raise ValueError(f"MS-SSIM needs images of more than 160 pixels, got {tuple(images.shape[-2:])}")
    with exact_convolutions():
        similarity = multiscale_structural_similarity_index_measure(
            _float(images), _float(targets), data_range=255.0, reduction="none", normalize="relu"
        )
    return similarity.reshape(-1)


def pixel_accuracy(images: Tensor, targets: Tensor) -> Tensor:
    """1 - mean absolute error / 255, shape (B,), in [0, 1]; 1 for equal images."""
    _check_images(images, targets)
    return 1 - (images.float() - targets.float()).abs().mean(dim=(1, 2, 3)) / 255


def fine_detail(images: Tensor) -> Tensor:
    """Mean square of the 4-neighbour Laplacian of the luma (Rec. 601) inside the image, shape (B,), from 0."""
    red, green, blue = images.float().unbind(dim=1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    neighbours = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    return (neighbours - 4 * luma[:, 1:-1, 1:-1]).square().mean(dim=(1, 2))


def sharpness(images: Tensor, targets: Tensor) -> Tensor:
    """Fine detail of the reconstructions over that of the originals, shape (B,), from 0; 1 for equal images.

    To both is added what rounding to 8 bits contributes, so that flat originals give finite values.
    """
    _check_images(images, targets)
    return (fine_detail(images) + ROUNDING_DETAIL) / (fine_detail(targets) + ROUNDING_DETAIL)


def _check_features(features: Tensor, target_features: Tensor) -> None:
    if features.shape != target_features.shape:
        raise ValueError(
            f"features {tuple(features.shape)} and {tuple(target_features.shape)} differ in shape: "
            "both must come from the same encoder"
        )


def feature_cosine(features: Tensor, target_features: Tensor) -> Tensor:
    """Cosine between raw feature maps (B, ...), flattened per image: shape (B,), in [-1, 1]; 0 for all-zero maps."""
    _check_features(features, target_features)
    return torch.nn.functional.cosine_similarity(features.flatten(1).float(), target_features.flatten(1).float())


def feature_l2(features: Tensor, target_features: Tensor) -> Tensor:
    """|f(image) - f(original)| / |f(original)| of flattened feature maps (B, ...), shape (B,), from 0."""
    _check_features(features, target_features)
    difference = (features.float() - target_features.float()).flatten(1).norm(dim=1)
    return difference / target_features.float().flatten(1).norm(dim=1).clamp(min=1e-12)
