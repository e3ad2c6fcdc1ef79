"""The decoder of a trained GAN pipeline behind another network, fitted in closed form."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.pixels import pixels_to_uint8
from ..features import RidgeRegression
from ..models import first_hidden
from ..pipelines import Feat2ImgGANPipeline, Feat2ImgPipeline


class StitchedDecoder:
    """Features of any layer of any network => images of a trained GAN pipeline's generator.

    Ridge regression, cell by cell, from the new features to what the projector's first layer gives for the features
    that it knows; all that follows is the pipeline's own. A finer grid is folded onto the known one (space-to-depth).
    A coarser one has a map of its own for each of the known cells within one of its cells. Where the grids are no
    multiples of each other, features are interpolated.

    Args:
        pipeline: the trained pipeline, with its encoder; it stays as it is.
        feature_shape: (C, h, w) of the new features.

    Raises:
        ValueError: for a pipeline of another kind, or without an encoder.
    """

    def __init__(self, pipeline: Feat2ImgPipeline, feature_shape: tuple[int, int, int]):
        if not isinstance(pipeline, Feat2ImgGANPipeline) or pipeline.encoder is None:
            lack = "no encoder" if isinstance(pipeline, Feat2ImgGANPipeline) else f"a {pipeline.kind} decoder"
            raise ValueError(f"the pipeline has {lack}; a GAN pipeline with its encoder goes over to other layers")
        self.pipeline = pipeline
        config = pipeline.projector.config
        self.grid = tuple(config.feature_size)
        channels, *size = feature_shape
        self.fold = _multiple(tuple(size), self.grid) or 1
        self.unfold = _multiple(self.grid, tuple(size)) or 1
        self.regression = RidgeRegression(channels * self.fold**2, config.hidden_channels * self.unfold**2)
        self.weight: Tensor | None = None  # (hidden_channels * unfold**2, C * fold**2, 1, 1)
        self.bias: Tensor | None = None

    @property
    def count(self) -> int:
        """Cells that the regression has seen."""
        return self.regression.count

    def regrid(self, features: Tensor) -> Tensor:
        """(B, C, h, w) => (B, C * fold**2, *grid / unfold) float32."""
        features = F.pixel_unshuffle(features.float(), self.fold)
        if self.unfold == 1 and tuple(features.shape[2:]) != self.grid:
            features = F.interpolate(features, self.grid, mode="bilinear")
        return features

    def update(self, features: Tensor, pixels: Tensor) -> None:
        """Add features (B, C, h, w) and their pixels (B, 3, S, S) in [-1, 1]."""
        hidden = first_hidden(self.pipeline.encoder, self.pipeline.projector, pixels)
        self.regression.update(self.regrid(features), F.pixel_unshuffle(hidden, self.unfold))

    def solve(self) -> "StitchedDecoder":
        """Compute the weights from what was added so far. Raises ValueError when nothing was."""
        weight, bias = self.regression.solve()
        self.weight, self.bias = weight.float()[:, :, None, None].contiguous(), bias.float()
        return self

    @torch.no_grad()
    def __call__(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) => uint8 images (B, 3, S, S) on the same device."""
        weight, bias = self.weight.to(features.device), self.bias.to(features.device)
        hidden = F.pixel_shuffle(F.conv2d(self.regrid(features), weight, bias), self.unfold)
        return pixels_to_uint8(self.pipeline.generator(self.pipeline.projector.project(hidden).map))


def _multiple(size: tuple[int, ...], of: tuple[int, ...]) -> int | None:
    """The whole factor from one grid to another, or None."""
    factor = size[0] // of[0]
    return factor if factor and size == tuple(factor * side for side in of) else None
