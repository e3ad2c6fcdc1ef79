"""A perceptual distance that needs no download of its own: the encoder network's layers, behind the hooked one too."""

import torch

from ..features import TimmFeatureEncoder

FeatureMaps = dict[str, torch.Tensor]


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
        return self.distance(*self.maps(prediction, target))

    def maps(self, prediction: torch.Tensor, target: torch.Tensor) -> tuple[FeatureMaps, FeatureMaps]:
        """Both images' maps by layer (B, C, h, w), float32, each over the mean magnitude of the target's map."""
        with torch.no_grad():
            targets = {name: map_.float() for name, map_ in self.encoder.feature_maps(target, self.layers).items()}
        predictions = self.encoder.feature_maps(prediction, self.layers)
        scales = {name: magnitude(map_) for name, map_ in targets.items()}
        return {n: predictions[n].float() / scales[n] for n in scales}, {n: targets[n] / scales[n] for n in scales}

    def distance(self, predictions: FeatureMaps, targets: FeatureMaps) -> torch.Tensor:
        """What `maps` gave => (B,)."""
        distances = [(predictions[name] - targets[name]).flatten(1).abs().mean(1) for name in self.layers]
        return torch.stack(distances).mean(dim=0)


def magnitude(maps: torch.Tensor) -> torch.Tensor:
    """Mean absolute value per image, (B, ...) => (B, 1, ...), above 0."""
    return maps.abs().mean(dim=tuple(range(1, maps.ndim)), keepdim=True).clamp(min=1e-8)
