"""Photos: loading, decoding, and the change between uint8 and [-1, 1]."""

from .photos import (
    PhotoDataset,
    SkippedPhoto,
    SkipTally,
    StreamedPhotoDataset,
    collate_photos,
    photo_loader,
)
from .pixels import ImageTransform, pixels_to_uint8, to_rgb, uint8_to_pixels
from .sources import load_photos

__all__ = [
    "ImageTransform",
    "PhotoDataset",
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
