"""Photos for the benchmarks as JPEG files: of a data set, or crops of the photographs that scikit-image ships."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from feat2img.data import load_photos
from feat2img.data.photos import _open_photo
from feat2img.evaluation.photos import scikit_image_photos

QUALITY = 90
SIDE = 320  # of the crops, pixels


def write_photos(options: argparse.Namespace, folder: Path, count: int, split: str = "train") -> Path:
    """Write `count` JPEG files into `folder/split`; a data set that has fewer is gone through again."""
    target = folder / split
    if target.is_dir() and len(list(target.iterdir())) == count:
        return folder
    target.mkdir(parents=True, exist_ok=True)
    if options.dataset:
        photos = load_photos(options.dataset, split, num_images=count, seed=0)
        for number in tqdm(range(count), desc="photos", disable=None, leave=False):
            photo = _open_photo(photos[number % len(photos)]["image"]).convert("RGB")
            photo.save(target / f"{number:06}.jpg", quality=QUALITY)
        return folder
    originals = [_open_photo(row["image"]).convert("RGB") for row in scikit_image_photos()]
    rng = np.random.default_rng(0 if split == "train" else 1)
    for number in tqdm(range(count), desc="photos", disable=None, leave=False):
        random_crop(originals[number % len(originals)], rng).save(target / f"{number:06}.jpg", quality=QUALITY)
    return folder


def random_crop(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A square of at least half the photo's short side, at SIDE pixels."""
    side = int(rng.integers(min(photo.size) // 2, min(photo.size) + 1))
    left, top = (int(rng.integers(0, length - side + 1)) for length in photo.size)
    box = (left, top, left + side, top + side)
    return photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
