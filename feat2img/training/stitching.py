"""A trained projector behind another network: its first layer is fitted, all others stay."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..features import RidgeRegression, TimmFeatureEncoder
from ..models import FeatureProjector


class Stitching:
    """Ridge regression from this run's features to what a trained projector's first layer gives for the same photos.

    The decoder of one network thereby reads the features of another before it is trained on them, as far as the first
    network's features are a linear function, cell by cell, of the second's (Lenc & Vedaldi 2015, 1411.5908).

    Args:
        encoder: the network that the trained projector reads.
        given: that projector.
        own: the projector that is to take its place; its first layer is overwritten by `finish`.
    """

    def __init__(self, encoder: TimmFeatureEncoder, given: FeatureProjector, own: FeatureProjector):
        self.encoder, self.given, self.own = encoder, given.float(), own
        self.regression = RidgeRegression(own.config.feature_channels, own.config.hidden_channels)

    @torch.no_grad()
    def update(self, features: Tensor, pixels: Tensor) -> None:
        """Add photos: features (B, C, h, w), raw as this run's encoder gives them, and pixels (B, 3, S, S)."""
        size = self.encoder.config.image_size
        if pixels.shape[-1] != size:
            pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
        encoder = self.encoder.to(features.device)
        given = self.given.to(features.device)
        hidden = given.stem(given.normalize(encoder(pixels.to(encoder.device, encoder.dtype)).float()))
        if hidden.shape[2:] != features.shape[2:]:
            hidden = F.interpolate(hidden, features.shape[2:], mode="bilinear")
        self.regression.update(self.own.compress(features), hidden)

    @torch.no_grad()
    def finish(self) -> None:
        """Write the fitted first layer into the new projector, which must have its statistics."""
        weight, bias = self.regression.solve()
        mean, scale = self.own.normalizer()
        stem = self.own.stem
        stem.bias.copy_(bias + weight @ mean.double().cpu())
        stem.weight.copy_((weight / scale.double().cpu())[:, :, None, None])
