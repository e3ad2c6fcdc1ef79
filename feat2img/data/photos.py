"""Photos as examples for torch: undecodable ones are skipped, counted and named, never repaired or hidden."""

from __future__ import annotations

import ctypes
import io
import math
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple

import fsspec
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset, IterableDataset

from .pixels import ImageTransform

if TYPE_CHECKING:
    import datasets  # otherwise imported where it is needed: it takes long, and a trained model needs none

BYTES_KEPT = 1 << 21  # of photos that are read before their pages are let go of
# What cameras, scanners and the web write. Pillow knows others, some of which run programs (EPS) or draw (WMF).
FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO"),
    *("PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP"),
)
MADV_DONTNEED = 4  # of madvise(2): the pages are read again when they are touched again


def mix_seed(*parts: int) -> int:
    """One 63-bit seed from several non-negative numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


class SkippedPhoto(NamedTuple):
    """A photo that could not be decoded."""

    index: int  # type: ignore[assignment]  # its row; hides a method of tuples that nobody needs
    name: str  # its path, or "row 17" where there is none
    reason: str  # one line


def _open_photo(image: dict) -> Image.Image:
    content, path = image["bytes"], image["path"]
    if content is None:
        if path is None:
            raise ValueError("the row holds no image")
        with fsspec.open(path, "rb") as file:
            content = file.read()
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        photo = Image.open(io.BytesIO(content))
    if photo.format not in FORMATS:
        raise UnidentifiedImageError
    photo.load()
    return photo


def _read_example(row: dict, index: int, transform: ImageTransform) -> dict:
    image = row["image"] or {"bytes": None, "path": None}
    try:
        pixels = transform(_open_photo(image))
    except Exception as error:  # broken files make PIL raise nearly any type
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "not an image file of a known kind"
        return {"skipped": SkippedPhoto(index, image["path"] or f"row {index}", reason)}
    label = row.get("label")
    return {"pixel_values": pixels, "label": -1 if label is None else int(label), "index": index}


def _with_undecoded_images(photos):
    import datasets

    features = photos.features
    if features is None:  # a stream of unknown columns
        return photos
    if "image" not in features:
        raise ValueError(f"expected a column 'image', got the columns {', '.join(features)}: use load_photos")
    if getattr(features["image"], "decode", False):
        return photos.cast_column("image", datasets.Image(decode=False))
    return photos


def _let_go_of_pages(files: list[str]) -> None:
    """Give the pages of mapped files back on Linux; elsewhere nothing happens.

    `datasets` maps its Arrow files into memory, and every page that was read counts as this process's memory from then
    on, so that it seems to need as much memory as the data set is large.
    """
    if not files or not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    endings = tuple(f" {os.path.realpath(file)}\n" for file in files)
    with open("/proc/self/maps") as maps:
        for line in maps:
            if line.endswith(endings):
                span, permissions = line.split()[:2]
                if "w" not in permissions:  # what was written would be lost
                    start, end = (int(address, 16) for address in span.split("-"))
                    libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_DONTNEED)


class PhotoDataset(Dataset):
    """Decoded photos of a data set from :func:`load_photos`.

    ``[i]`` is ``{"pixel_values": (3, S, S) in [-1, 1], "label": int (-1: none), "index": i}``, or
    ``{"skipped": SkippedPhoto}`` for a photo that cannot be decoded.
    """

    def __init__(self, photos: datasets.Dataset, transform: ImageTransform) -> None:
        import datasets

        if not isinstance(photos, datasets.Dataset):
            kind = type(photos).__name__
            raise ValueError(f"expected a datasets.Dataset, got {kind}: use StreamedPhotoDataset")
        self.photos = _with_undecoded_images(photos)
        self.transform = transform
        self._bytes_read = 0

    @property
    def fingerprint(self) -> str:
        """Changes with the rows and with everything done to them."""
        return self.photos._fingerprint

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> dict:
        row = self.photos[index]
        self._bytes_read += len((row["image"] or {}).get("bytes") or b"")
        if self._bytes_read >= BYTES_KEPT:
            _let_go_of_pages([file["filename"] for file in self.photos.cache_files])
            self._bytes_read = 0
        return _read_example(row, index, self.transform)


class PhotoFiles(Dataset):
    """The examples of :class:`PhotoDataset` from image files, without labels; a path may be any that fsspec reads."""

    def __init__(self, paths: Sequence[str | PathLike], transform: ImageTransform) -> None:
        self.paths = [str(path) for path in paths]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict:
        row = {"image": {"bytes": None, "path": self.paths[index]}}
        return _read_example(row, index, self.transform)


class StreamedPhotoDataset(IterableDataset):
    """The same examples from a streaming data set, its shards divided among the loader's workers.

    With ``shuffle_buffer`` photos in memory the order is shuffled, differently in every epoch. Random crops and flips
    depend on ``seed``, epoch and place alone.
    """

    def __init__(
        self,
        photos: datasets.IterableDataset,
        transform: ImageTransform,
        shuffle_buffer: int = 0,
        seed: int = 0,
    ) -> None:
        import datasets

        if not isinstance(photos, datasets.IterableDataset):
            raise ValueError(f"expected a datasets.IterableDataset, got {type(photos).__name__}; use PhotoDataset")
        photos = _with_undecoded_images(photos)
        self.photos = photos.shuffle(seed=seed, buffer_size=shuffle_buffer) if shuffle_buffer else photos
        self.transform = transform
        self.seed = seed
        self.epoch = 0

    def __iter__(self) -> Iterator[dict]:
        worker = torch.utils.data.get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        epoch = self.epoch
        self.photos.set_epoch(epoch)
        self.epoch += 1
        # datasets itself divides the shards among the workers
        for count, row in enumerate(self.photos):
            index = first + count * step
            with torch.random.fork_rng(devices=[]):  # crops and flips depend on what follows, on nothing else
                torch.manual_seed(mix_seed(self.seed, epoch, index))
                example = _read_example(row, index, self.transform)
            yield example


def collate_photos(examples: list[dict]) -> dict:
    """Examples => ``{"pixel_values": (B, 3, S, S), "labels": (B,), "indices": (B,), "skipped": [SkippedPhoto]}``.

    "features" (B, C, h, w) are there when the examples have them. B counts the decoded photos; when it is 0,
    "pixel_values" is None.
    """
    valid = [example for example in examples if "skipped" not in example]
    batch = {
        "pixel_values": torch.stack([example["pixel_values"] for example in valid]) if valid else None,
        "labels": torch.tensor([example["label"] for example in valid], dtype=torch.int64),
        "indices": torch.tensor([example["index"] for example in valid], dtype=torch.int64),
        "skipped": [example["skipped"] for example in examples if "skipped" in example],
    }
    if valid and "features" in valid[0]:
        batch["features"] = torch.stack([example["features"] for example in valid])
    return batch


class SkipTally:
    """Counts photos and skipped photos, and stops a run that would lose too many.

    Args:
        max_share: largest accepted share of skipped photos, 0 to 1.
        num_photos: how many photos there are: the share is of these, and a photo counts once, however often it is
            met. None, as for a stream: the share is of those seen, which may by chance hold some more.
        min_seen: photos to see before the share is judged; :meth:`finish` judges it in any case.
    """

    def __init__(self, max_share: float = 0.05, num_photos: int | None = None, min_seen: int = 100) -> None:
        if not 0 <= max_share <= 1:
            raise ValueError(f"max_share must lie between 0 and 1, got {max_share}")
        self.max_share, self.num_photos, self.min_seen = max_share, num_photos, min_seen
        self.num_seen = 0
        self.num_skipped = 0
        self.photos: dict[str | int, SkippedPhoto] = {}  # each once

    def add(self, batch: dict) -> None:
        """Count one batch of :func:`collate_photos`. Raises ValueError when too many photos were skipped."""
        self.num_seen += len(batch["indices"]) + len(batch["skipped"])
        self.num_skipped += len(batch["skipped"])
        self._keep(batch["skipped"])
        if self.num_seen >= self.min_seen:
            self._check()

    def finish(self) -> None:
        """Raises ValueError when there was no photo at all, or when too many were skipped."""
        if self.num_seen == 0:
            raise ValueError("the data set is empty: expected at least one photo")
        self._check()

    def summary(self) -> str:
        """One line: how many were skipped, the first five names and reasons."""
        names = [f"{photo.name} ({photo.reason})" for photo in list(self.photos.values())[:5]]
        if len(self.photos) > len(names):
            names.append(f"and {len(self.photos) - len(names)} more")
        known = self.num_photos is not None
        skipped, of = (len(self.photos), self.num_photos) if known else (self.num_skipped, self.num_seen)
        return f"skipped {skipped} of {of} photos" + (": " + ", ".join(names) if names else "")

    def state(self) -> dict:
        """What was counted, as plain JSON."""
        photos = [list(photo) for photo in self.photos.values()]
        return {"num_seen": self.num_seen, "num_skipped": self.num_skipped, "photos": photos}

    def load(self, state: dict) -> None:
        """Add what another tally has counted."""
        self.num_seen += state.get("num_seen", 0)
        self.num_skipped += state.get("num_skipped", 0)
        self._keep(SkippedPhoto(*photo) for photo in state.get("photos", ()))

    def _keep(self, photos) -> None:
        for photo in photos:  # a stream's rows have another number in every epoch
            self.photos.setdefault(photo.name if self.num_photos is None else photo.index, photo)

    def _check(self) -> None:
        if self.num_photos is not None:
            too_many = len(self.photos) > self.max_share * self.num_photos or len(self.photos) == self.num_photos
        else:
            share, seen = self.max_share, self.num_seen
            too_many = self.num_skipped > share * seen + 3 * math.sqrt(share * (1 - share) * seen)
            too_many |= self.num_skipped == seen
        if too_many:
            raise ValueError(f"{self.summary()}; at most {self.max_share:.0%} may be skipped, and never all")


def leave_signals_to_the_main_process(worker_id: int) -> None:
    """For loaders' workers, which terminals and job schedulers signal too: they end with the main process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def photo_loader(
    dataset: Dataset,
    batch_size: int,
    num_workers: int = 0,
    shuffle: bool = False,
    drop_last: bool = False,
    generator: torch.Generator | None = None,
) -> DataLoader:
    """A data loader whose batches come from :func:`collate_photos`."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if shuffle and isinstance(dataset, IterableDataset):
        raise ValueError("the loader cannot shuffle a stream: use StreamedPhotoDataset(..., shuffle_buffer=1000)")
    return DataLoader(
        dataset,
        batch_size,
        shuffle=shuffle or None,
        num_workers=num_workers,
        collate_fn=collate_photos,
        drop_last=drop_last,
        generator=generator,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
        worker_init_fn=leave_signals_to_the_main_process,
    )
