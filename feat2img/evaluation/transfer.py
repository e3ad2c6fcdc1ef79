"""The decoder of a trained GAN pipeline behind another network, fitted in closed form."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.pixels import pixels_to_uint8
from ..models import FeatureProjector, Stitching
from ..pipelines import Feat2ImgGANPipeline, Feat2ImgPipeline


class TransferredDecoder:
    """Features of any layer of any network => images of a trained GAN pipeline's generator.

    Only the first layer of the projector is fitted, see :class:`Stitching`. Features are brought to the grid that the
    decoder knows: a finer one by space-to-depth, which loses nothing, where it is a whole multiple, else bilinearly.

    Args:
        pipeline: the trained pipeline, with its encoder, on the device that the features are on; it stays as it is.
        feature_shape: (C, h, w) of the new features.

    Raises:
        ValueError: for a pipeline of another kind, or without an encoder.
    """

    def __init__(self, pipeline: Feat2ImgPipeline, feature_shape: tuple[int, int, int]):
        if not isinstance(pipeline, Feat2ImgGANPipeline) or pipeline.encoder is None:
            lack = "no encoder" if isinstance(pipeline, Feat2ImgGANPipeline) else f"a {pipeline.kind} decoder"
            raise ValueError(f"the pipeline has {lack}; a GAN pipeline with its encoder goes over to other layers")
        self.generator = pipeline.generator
        self.grid = tuple(pipeline.projector.config.feature_size)
        channels, *size = feature_shape
        self.fold = size[0] // self.grid[0]
        if tuple(size) != (self.fold * self.grid[0], self.fold * self.grid[1]):
            self.fold = 1
        settings = {name: value for name, value in pipeline.projector.config.items() if not name.startswith("_")}
        settings |= {"feature_channels": channels * self.fold**2, "normalization": "none", "encoder_fingerprint": None}
        self.projector = FeatureProjector(**settings).to(pipeline.device).eval()
        self.stitching = Stitching(pipeline.encoder, pipeline.projector, self.projector)

    @property
    def count(self) -> int:
        """Cells that the regression has seen."""
        return self.stitching.regression.count

    def regrid(self, features: Tensor) -> Tensor:
        """(B, C, h, w) => (B, C', *grid)."""
        if self.fold > 1:
            features = F.pixel_unshuffle(features, self.fold)
        if tuple(features.shape[2:]) != self.grid:
            features = F.interpolate(features, self.grid, mode="bilinear")
        return features.float()

    def update(self, features: Tensor, pixels: Tensor) -> None:
        """Add features (B, C, h, w) and their pixels (B, 3, S, S) in [-1, 1]."""
        self.stitching.update(self.regrid(features), pixels)

    def solve(self) -> "TransferredDecoder":
        """Fit the first layer. Raises ValueError when nothing was added."""
        self.stitching.finish()
        return self

    @torch.no_grad()
    def __call__(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) => uint8 images (B, 3, S, S) on the same device."""
        return pixels_to_uint8(self.generator(self.projector(self.regrid(features)).map))
