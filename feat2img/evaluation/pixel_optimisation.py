"""Inversion without training: the pixels themselves are changed until their features fit."""

import torch
from torch import Tensor

from ..data.pixels import pixels_to_uint8
from ..features.encoder import TimmFeatureEncoder
from .decoding import photo_generators

LEARNING_RATE = 0.05
VARIATION_WEIGHT = 8.0  # chosen on a few training photos


def total_variation(pixels: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels, (B, 3, S, S) => (B,): Mahendran & Vedaldi's with beta 2."""
    right = (pixels[..., :, 1:] - pixels[..., :, :-1]).square().mean(dim=(1, 2, 3))
    down = (pixels[..., 1:, :] - pixels[..., :-1, :]).square().mean(dim=(1, 2, 3))
    return right + down


def invert_by_optimisation(
    encoder: TimmFeatureEncoder, features: Tensor, indices: Tensor | list[int], num_steps: int, seed: int = 0
) -> Tensor:
    """Minimise |f(x) - features|^2 / |features|^2 + total variation over the pixels x (Mahendran & Vedaldi 2015,
    arXiv:1412.0035, eq. 2) by Adam, from nearly grey pixels, kept within [-1, 1].

    Each image is its own problem: the result does not depend on the others in the batch, beyond rounding.

    Args:
        features: (B, C, h, w).
        indices: rows of the photos; with `seed` they decide the first pixels.

    Returns:
        uint8 images (B, 3, S, S) on the features' device.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    size, dtype = encoder.config.image_size, encoder.dtype
    noise = [torch.randn(3, size, size, generator=generator) for generator in photo_generators(indices, seed)]
    target = features.detach().float()
    length = target.flatten(1).square().sum(dim=1).clamp(min=1e-12)
    with torch.enable_grad():
        pixels = (0.05 * torch.stack(noise)).to(features.device).requires_grad_()
        optimizer = torch.optim.Adam([pixels], lr=LEARNING_RATE)
        for _ in range(num_steps):
            optimizer.zero_grad()
            error = (encoder(pixels.to(dtype)).float() - target).flatten(1).square().sum(dim=1) / length
            (error + VARIATION_WEIGHT * total_variation(pixels)).sum().backward()
            optimizer.step()
            with torch.no_grad():
                pixels.clamp_(-1, 1)
    return pixels_to_uint8(pixels.detach())
