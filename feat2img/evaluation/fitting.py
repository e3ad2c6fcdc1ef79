"""Fitting a decoder that has a closed form to a network's features of photos."""

from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..data.photos import PhotoDataset, SkipTally, photo_loader
from ..features import TimmFeatureEncoder


class Fittable(Protocol):
    """A decoder that is fitted in closed form."""

    def update(self, features: Tensor, pixels: Tensor) -> None: ...

    def solve(self) -> Any: ...


@torch.no_grad()
def fit_decoder(
    decoder: Fittable,
    encoder: TimmFeatureEncoder,
    photos: PhotoDataset,
    batch_size: int,
    num_workers: int,
    name: str = "linear decoder",
) -> None:
    """Show a decoder an encoder's features of photos with their pixels, and let it solve."""
    tally = SkipTally(num_photos=len(photos))
    with tqdm(total=len(photos), desc=name, unit="image", disable=None) as progress:
        for batch in photo_loader(photos, batch_size, num_workers):
            tally.add(batch)
            if batch["pixel_values"] is not None:
                pixels = batch["pixel_values"].to(encoder.device)
                decoder.update(encoder(pixels.to(encoder.dtype)), pixels)
            progress.update(len(batch["indices"]) + len(batch["skipped"]))
    tally.finish()
    decoder.solve()
