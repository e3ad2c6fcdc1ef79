"""A trained projector behind another network: its first layer is fitted, all others stay."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..features import RidgeRegression, TimmFeatureEncoder
from .projector import FeatureProjector


class Stitching:
    """Ridge regression from new features to what a trained projector's first layer gives for the same photos.

    The decoder of one network thereby reads the features of another before it is trained on them, as far as the first
    network's features are a linear function, cell by cell, of the second's (Lenc & Vedaldi 2015, 1411.5908).

    Args:
        encoder: the network that the trained projector reads.
        given: that projector.
        own: the projector that takes its place. It gets the weights of `given` at once, those of its first layer from
            `finish`, and its statistics from the caller in between.

    Raises:
        RuntimeError: the two projectors' settings differ in more than what they read.
    """

    def __init__(self, encoder: TimmFeatureEncoder, given: FeatureProjector, own: FeatureProjector):
        self.encoder, self.given, self.own = encoder, given.float(), own
        self.regression = RidgeRegression(own.config.feature_channels, own.config.hidden_channels)
        reads = {name: value for name, value in own.state_dict().items() if name.startswith(("stem.", "feature_"))}
        own.load_state_dict(given.state_dict() | reads)

    def update(self, features: Tensor, pixels: Tensor) -> None:
        """Add photos: new features (B, C, h, w), raw as their encoder gives them, and pixels (B, 3, S, S)."""
        hidden = first_hidden(self.encoder.to(features.device), self.given.to(features.device), pixels)
        if hidden.shape[2:] != features.shape[2:]:
            hidden = F.interpolate(hidden, features.shape[2:], mode="bilinear")
        self.regression.update(self.own.compress(features), hidden)

    @torch.no_grad()
    def finish(self) -> None:
        """Write the fitted first layer into the new projector."""
        weight, bias = self.regression.solve()
        mean, scale = (value.double().cpu() for value in self.own.normalizer())
        self.own.stem.weight.copy_((weight / scale)[:, :, None, None])
        self.own.stem.bias.copy_(bias + weight @ mean)


@torch.no_grad()
def first_hidden(encoder: TimmFeatureEncoder, projector: FeatureProjector, pixels: Tensor) -> Tensor:
    """What a trained projector's first layer gives for photos (B, 3, S, S), which are brought to its network's size.

    Returns:
        (B, hidden_channels, h, w) float32.
    """
    size = encoder.config.image_size
    pixels = pixels.to(encoder.device, encoder.dtype)
    if pixels.shape[-1] != size:
        pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    return projector.stem(projector.normalize(encoder(pixels).to(projector.dtype))).float()
