"""What every decoder must beat: the mean image, and the training photo with the nearest features."""

from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..data.photos import PhotoDataset, SkipTally, photo_loader
from ..data.pixels import pixels_to_uint8
from ..features.cache import build_feature_cache
from ..features.encoder import TimmFeatureEncoder

SEARCH_CHUNK = 64  # cached feature maps in memory at a time


def mean_image(photos: PhotoDataset, batch_size: int = 32, num_workers: int = 0) -> Tensor:
    """Mean of all photos, rounded: uint8 (3, S, S). Photos that cannot be decoded do not count."""
    total = torch.zeros((), dtype=torch.float64)
    count = 0
    tally = SkipTally(num_photos=len(photos))
    with tqdm(total=len(photos), desc="mean image", unit="image", disable=None) as progress:
        for batch in photo_loader(photos, batch_size, num_workers):
            tally.add(batch)
            if batch["pixel_values"] is not None:
                total = total + batch["pixel_values"].double().sum(dim=0)
                count += len(batch["pixel_values"])
            progress.update(len(batch["indices"]) + len(batch["skipped"]))
    tally.finish()
    return pixels_to_uint8(total / count)


class NearestTrainingPhoto:
    """Answers features with the training photo whose features have the largest cosine with them.

    The cosine is the one that `feature_cosine` reports: raw features, flattened per image. Training features lie on
    disk in float16, so that memory does not grow with the number of training photos.

    Args:
        encoder: the network that the queries come from.
        photos: training photos, transformed as that network's pipeline does.
        cache_dir: folder for the training features.
    """

    def __init__(
        self,
        encoder: TimmFeatureEncoder,
        photos: PhotoDataset,
        cache_dir: str | Path,
        batch_size: int = 32,
        num_workers: int = 0,
    ):
        self.photos = photos
        self.cache = build_feature_cache(encoder, photos, cache_dir, batch_size=batch_size, num_workers=num_workers)
        if len(self.cache.skipped) == len(self.cache):
            raise ValueError("no training photo could be decoded: the nearest-photo baseline needs at least one")

    @torch.no_grad()
    def nearest(self, features: Tensor) -> list[int]:
        """Row of the nearest training photo for each of the features (B, C, h, w); the first of equally near ones."""
        queries = torch.nn.functional.normalize(features.flatten(1).float(), dim=1)
        best = torch.full((len(queries),), -torch.inf, device=queries.device)
        found = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
        for rows, bank in self.cache.chunks(SEARCH_CHUNK):
            bank = bank.to(queries.device).flatten(1).float()
            cosine, place = (queries @ bank.T / bank.norm(dim=1).clamp(min=1e-12)).max(dim=1)
            closer = cosine > best
            best = torch.where(closer, cosine, best)
            found = torch.where(closer, rows.to(found.device)[place], found)
        return found.tolist()

    def __call__(self, features: Tensor) -> Tensor:
        """The nearest training photos: uint8 (B, 3, S, S) on the features' device."""
        pixels = [self.photos[index]["pixel_values"] for index in self.nearest(features)]
        return pixels_to_uint8(torch.stack(pixels)).to(features.device)
