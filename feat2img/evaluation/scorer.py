"""All metrics of one batch, with the networks they need; what cannot be measured is left out by name."""

import torch
from torch import Tensor

from .dists import DistsUnavailable, load_dists
from .lpips import MIN_IMAGE_SIZE, LpipsUnavailable, load_lpips
from .metrics import (
    MS_SSIM_MIN_SIZE,
    exact_convolutions,
    feature_cosine,
    feature_l2,
    ms_ssim,
    pixel_accuracy,
    psnr,
    sharpness,
    ssim,
)


class ImageScorer:
    """The metrics of images alone; what cannot be measured is in `left_out` (metric name -> reason and remedy).

    Args:
        device: where images and features lie.
        download: whether LPIPS' weights may be fetched when they are not on this machine.
    """

    def __init__(self, device: str | torch.device = "cpu", download: bool = True):
        self.left_out: dict[str, str] = {}
        self.lpips_network = self.dists_network = None
        try:
            self.lpips_network = load_lpips(download).to(device)
        except LpipsUnavailable as error:
            self.left_out["lpips"] = str(error)
        try:
            self.dists_network = load_dists().to(device)
        except DistsUnavailable as error:
            self.left_out["dists"] = str(error)

    def note_size(self, size: int) -> None:
        """Leave out by name what images of so many pixels are too small for."""
        if size < MS_SSIM_MIN_SIZE:
            self.left_out["ms_ssim"] = f"Images of {size} pixels are too small for its five scales: it needs 161."
        if self.lpips_network is not None and size < MIN_IMAGE_SIZE:
            self.left_out["lpips"] = (
                f"Images of {size} x {size} pixels are too small for AlexNet: it needs {MIN_IMAGE_SIZE} pixels."
            )

    @torch.no_grad()
    def __call__(
        self, images: Tensor, targets: Tensor, features: Tensor, target_features: Tensor
    ) -> dict[str, Tensor]:
        """Score uint8 images (B, 3, H, W) and the encoder's features of both: metric name -> float tensor (B,)."""
        size = min(images.shape[-2:])
        self.note_size(size)
        scores = {"psnr": psnr(images, targets), "ssim": ssim(images, targets)}
        if size >= MS_SSIM_MIN_SIZE:
            scores["ms_ssim"] = ms_ssim(images, targets)
        distance = self.lpips(images, targets)
        if distance is not None:
            scores["lpips"] = distance
        if self.dists_network is not None:
            with exact_convolutions():
                scores["dists"] = self.dists_network(images.float() / 255, targets.float() / 255).reshape(-1)
        scores["pixel_accuracy"] = pixel_accuracy(images, targets)
        scores["feature_cosine"] = feature_cosine(features, target_features)
        scores["feature_l2"] = feature_l2(features, target_features)
        scores["sharpness"] = sharpness(images, targets)
        return scores

    @torch.no_grad()
    def lpips(self, images: Tensor, targets: Tensor) -> Tensor | None:
        """LPIPS (AlexNet) of uint8 images: shape (B,), 0 for identical images; None where it is left out."""
        if self.lpips_network is None or min(images.shape[-2:]) < MIN_IMAGE_SIZE:
            return None
        with exact_convolutions():
            distance = self.lpips_network(images.float() / 255, targets.float() / 255, normalize=True)
        return distance.reshape(-1)
