"""The best linear decoder: each cell's features times a matrix give the cell's patch of pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from ..data.photos import PhotoDataset, SkipTally, photo_loader
from ..data.pixels import pixels_to_uint8
from ..features.encoder import TimmFeatureEncoder

RELATIVE_PENALTY = 1e-3


class RidgeDecoder:
    """Closed-form ridge regression from the C features of a cell (and a constant) to its 3 x p x p pixels.

    With centred features X and patches Y over all cells of all training photos the weights are
    (X'X + penalty I)^-1 X'Y (Hoerl & Kennard 1970); the penalty is 0.001 of the mean diagonal of X'X, and the
    constant is not penalised. Sums are kept in float64, and memory does not grow with the photos.

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
        outputs = 3 * self.patch_size**2
        self.count = 0
        self.feature_sum = torch.zeros(channels, dtype=torch.float64)
        self.patch_sum = torch.zeros(outputs, dtype=torch.float64)
        self.gram = torch.zeros(channels, channels, dtype=torch.float64)
        self.cross = torch.zeros(channels, outputs, dtype=torch.float64)
        self.weight: Tensor | None = None  # (outputs, C, 1, 1)
        self.bias: Tensor | None = None  # (outputs,)

    def update(self, features: Tensor, pixels: Tensor) -> None:
        """Add features (B, C, h, w) and their pixels (B, 3, S, S) in [-1, 1]."""
        x = features.float().permute(0, 2, 3, 1).flatten(0, 2)
        y = F.pixel_unshuffle(pixels.float(), self.patch_size).permute(0, 2, 3, 1).flatten(0, 2)
        self.count += len(x)
        self.feature_sum += x.sum(dim=0).cpu().double()
        self.patch_sum += y.sum(dim=0).cpu().double()
        self.gram += (x.T @ x).cpu().double()
        self.cross += (x.T @ y).cpu().double()

    def solve(self) -> "RidgeDecoder":
        """Compute the weights from what was added so far. Raises ValueError when nothing was."""
        if self.count == 0:
            raise ValueError("the linear decoder has seen no photo: call update first")
        mean, patch_mean = self.feature_sum / self.count, self.patch_sum / self.count
        gram = self.gram - self.count * torch.outer(mean, mean)
        cross = self.cross - self.count * torch.outer(mean, patch_mean)
        penalty = RELATIVE_PENALTY * gram.diagonal().mean().clamp(min=1e-12)
        weight = torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=torch.float64), cross)
        self.weight = weight.T.float()[:, :, None, None].contiguous()
        self.bias = (patch_mean - mean @ weight).float()
        return self

    @torch.no_grad()
    def __call__(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) => uint8 images (B, 3, S, S) on the same device."""
        weight, bias = self.weight.to(features.device), self.bias.to(features.device)
        return pixels_to_uint8(F.pixel_shuffle(F.conv2d(features.float(), weight, bias), self.patch_size))


@torch.no_grad()
def fit_ridge(
    encoder: TimmFeatureEncoder, photos: PhotoDataset, batch_size: int = 16, num_workers: int = 0
) -> RidgeDecoder:
    """Fit the linear decoder of an encoder's features on training photos."""
    decoder = RidgeDecoder(encoder.feature_shape, photos.transform.image_size)
    tally = SkipTally(num_photos=len(photos))
    with tqdm(total=len(photos), desc="linear decoder", unit="image", disable=None) as progress:
        for batch in photo_loader(photos, batch_size, num_workers):
            tally.add(batch)
            if batch["pixel_values"] is not None:
                pixels = batch["pixel_values"].to(encoder.device)
                decoder.update(encoder(pixels.to(encoder.dtype)), pixels)
            progress.update(len(batch["indices"]) + len(batch["skipped"]))
    tally.finish()
    return decoder.solve()
