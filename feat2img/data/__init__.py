"""Photos: loading, decoding, and the change between uint8 and [-1, 1]."""

from typing import TYPE_CHECKING

from .photos import (
    PhotoDataset,
    PhotoFiles,
    SkippedPhoto,
    SkipTally,
    StreamedPhotoDataset,
    collate_photos,
    photo_loader,
)
from .pixels import ImageTransform, pixels_to_uint8, to_rgb, uint8_to_pixels

if TYPE_CHECKING:
    from .sources import load_photos

__all__ = [
    "ImageTransform",
    "PhotoDataset",
    "PhotoFiles",
    "SkipTally",
    "SkippedPhoto",
    "StreamedPhotoDataset",
    "collate_photos",
    "load_photos",
    "photo_loader",
    "pixels_to_uint8",
    "to_rgb",
    "uint8_to_pixels",
]


def __getattr__(name: str):
    """Import `load_photos` on first use: `datasets` takes long to import, and a trained model needs none."""
    if name != "load_photos":
        raise AttributeError(f"module 'feat2img.data' has no attribute {name!r}")
    from .sources import load_photos

    return load_photos


def __dir__() -> list[str]:
    return sorted(__all__)
