"""Reconstruct photos from files, and save each result beside its original."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from tqdm.auto import tqdm

from ..data.photos import PhotoFiles, SkippedPhoto, photo_loader
from ..data.pixels import ImageTransform, pixels_to_uint8
from ..pipelines import Feat2ImgPipeline
from .decoding import decode
from .grid import Column, image_grid, to_pil


@dataclass(frozen=True)
class Reconstruction:
    """One photo: its path, what the encoder saw of it, and what the decoder made of it."""

    path: Path
    original: Image.Image
    image: Image.Image

    def side_by_side(self, title: str) -> Image.Image:
        """Original and reconstruction with labels."""
        return image_grid([Column("original", "", [self.original]), Column(title, "", [self.image])])


def find_photos(paths: list[str | Path]) -> list[Path]:
    """Files as they are named, folders as the sorted image files in them (not in folders below).

    Raises:
        ValueError: for a folder without image files.
    """
    Image.init()
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in Image.EXTENSION)
        if not inside:
            raise ValueError(f"folder {path} holds no image files: name a folder of photos, or photos")
        found += inside
    return list(dict.fromkeys(found))


def output_names(stem: str) -> tuple[str, str]:
    """File names of a reconstruction and of its side-by-side picture."""
    return f"{stem}.png", f"{stem}_side_by_side.png"


def output_stems(photos: list[Path], output_dir: Path) -> list[str]:
    """File name stems for the results: the photos' own, with a number where two would share a file.

    Raises:
        ValueError: when a result would overwrite one of the photos.
    """
    inputs = {photo.resolve() for photo in photos}
    taken: set[str] = set()
    stems = []
    for photo in photos:
        numbered = (f"{photo.stem}-{number}" for number in itertools.count(2))
        stem = next(stem for stem in itertools.chain([photo.stem], numbered) if not taken & set(output_names(stem)))
        for name in output_names(stem):
            if (output_dir / name).resolve() in inputs:
                raise ValueError(f"the result would overwrite {output_dir / name}: choose another output_dir")
        taken |= set(output_names(stem))
        stems.append(stem)
    return stems


@torch.no_grad()
def reconstruct_photos(
    pipeline: Feat2ImgPipeline,
    photos: list[Path],
    *,
    batch_size: int = 8,
    seed: int = 0,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
) -> Iterator[tuple[int, Reconstruction | SkippedPhoto]]:
    """Yield each photo's place in the list with its reconstruction, or why it could not be read.

    A photo's noise depends on `seed` and its place alone, not on the batch.
    """
    transform = ImageTransform(pipeline.image_size, pipeline.resize_size)
    dataset = PhotoFiles([path.absolute() for path in photos], transform)
    with tqdm(total=len(photos), desc="reconstruct", unit="image", disable=None) as progress:
        for batch in photo_loader(dataset, batch_size):
            for skipped in batch["skipped"]:
                yield skipped.index, skipped
            if batch["pixel_values"] is not None:
                pixels = batch["pixel_values"].to(pipeline.device)
                indices = batch["indices"].tolist()
                features = pipeline.encode(pixels)
                images = decode(pipeline, features, indices, seed, num_inference_steps, guidance_scale)
                for index, original, image in zip(indices, pixels_to_uint8(pixels), images, strict=True):
                    yield index, Reconstruction(photos[index], to_pil(original), to_pil(image))
            progress.update(len(batch["indices"]) + len(batch["skipped"]))
