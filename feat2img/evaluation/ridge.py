"""The best linear decoder: each cell's features times a matrix give the cell's patch of pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.photos import PhotoDataset
from ..data.pixels import pixels_to_uint8
from ..features import RidgeRegression, TimmFeatureEncoder
from .fitting import fit_decoder


class RidgeDecoder:
    """Ridge regression from the C features of a cell (and a constant) to its 3 x p x p pixels.

    Over all cells of all training photos; the penalty is that of :class:`RidgeRegression`.

    Args:
        feature_shape: (C, h, w); the image is p h x p w pixels with a whole p.
        image_size: side of the images in pixels.

    Raises:
        ValueError: when the image is not a whole number of pixels per cell.
    """

    def __init__(self, feature_shape: tuple[int, int, int], image_size: int):
        channels, height, width = feature_shape
        if height != width or image_size % height:
            raise ValueError(
                f"a grid of {height} x {width} cells does not divide {image_size} pixels: choose another layer or size"
            )
        self.patch_size = image_size // height
        self.regression = RidgeRegression(channels, 3 * self.patch_size**2)
        self.weight: Tensor | None = None  # (outputs, C, 1, 1)
        self.bias: Tensor | None = None  # (outputs,)

    @property
    def count(self) -> int:
        """Cells that the regression has seen."""
        return self.regression.count

    def update(self, features: Tensor, pixels: Tensor) -> None:
        """Add features (B, C, h, w) and their pixels (B, 3, S, S) in [-1, 1]."""
        self.regression.update(features, F.pixel_unshuffle(pixels.float(), self.patch_size))

    def solve(self) -> "RidgeDecoder":
        """Compute the weights from what was added so far. Raises ValueError when nothing was."""
        weight, bias = self.regression.solve()
        self.weight = weight.float()[:, :, None, None].contiguous()
        self.bias = bias.float()
        return self

    @torch.no_grad()
    def __call__(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) => uint8 images (B, 3, S, S) on the same device."""
        weight, bias = self.weight.to(features.device), self.bias.to(features.device)
        return pixels_to_uint8(F.pixel_shuffle(F.conv2d(features.float(), weight, bias), self.patch_size))


def fit_ridge(
    encoder: TimmFeatureEncoder, photos: PhotoDataset, batch_size: int = 16, num_workers: int = 0
) -> RidgeDecoder:
    """Fit the linear decoder of an encoder's features on training photos."""
    decoder = RidgeDecoder(encoder.feature_shape, photos.transform.image_size)
    fit_decoder(decoder, encoder, photos, batch_size, num_workers)
    return decoder
