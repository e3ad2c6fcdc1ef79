"""A perceptual distance that needs no download: the frozen encoder's own shallower layers."""

import torch

from ..features import TimmFeatureEncoder


class EncoderPerceptualLoss:
    """Relative L1 distance between feature maps (DeePSiM, Dosovitskiy & Brox 2016, arXiv:1602.02644).

    Per image and layer mean|f(x) - f(y)| / mean|f(y)|, averaged over the layers. A decoder trained with it learns to
    please this network; judge the result with another one.

    Args:
        encoder: frozen; gradients flow through it to the pixels.
        layers: module names, at most up to the hooked one; None takes the encoder's `feature_levels`.
    """

    def __init__(self, encoder: TimmFeatureEncoder, layers: tuple[str, ...] | None = None):
        self.encoder = encoder
        self.layers = tuple(layers) if layers else encoder.feature_levels

    def __call__(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) and (B, 3, S, S), both in [-1, 1] => (B,), 0 for equal images."""
        with torch.no_grad():
            targets = self.encoder.feature_maps(target, self.layers)
        predictions = self.encoder.feature_maps(prediction, self.layers)
        distances = [relative_l1(predictions[name], targets[name]) for name in self.layers]
        return torch.stack(distances).mean(dim=0)


def relative_l1(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Per image: sum|prediction - target| / sum|target|, (B, ...) => (B,), in float32."""
    prediction, target = prediction.float().flatten(1), target.float().flatten(1)
    return (prediction - target).abs().sum(dim=1) / target.abs().sum(dim=1).clamp(min=1e-8)
