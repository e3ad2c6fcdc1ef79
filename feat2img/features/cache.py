"""Features of a data set, computed once and read from disk row by row.

A cache is the folder ``<cache_dir>/<first 16 digits of the key>/``:

========================  ==============================================================================
``meta.json``             the key and all that went into it; once finished: skipped photos, mean and std
``features.npy``          float16 (rows, views, C, h, w); view 1 is the mirrored photo
``state.npy``             uint8 (rows,): 0 to do, 1 done, 2 skipped
========================  ==============================================================================
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, Subset
from tqdm.auto import tqdm

from ..data import PhotoDataset, SkippedPhoto, SkipTally, photo_loader
from ..data.files import only_user_of, write_atomically
from .encoder import TimmFeatureEncoder
from .rows import RowFile
from .statistics import ChannelStatistics

SCHEMA_VERSION = 1
TO_DO, DONE, SKIPPED = 0, 1, 2
SECONDS_BETWEEN_FLUSHES = 15.0
ROWS_PER_CHUNK = 64


def _describe_encoder(encoder: TimmFeatureEncoder) -> dict:
    config = {name: value for name, value in encoder.config.items() if not name.startswith("_")}
    config["layers"] = list(config["layers"])
    return {"config": config, "weights": encoder.weights_hash()}


def _describe(encoder: TimmFeatureEncoder, photos: PhotoDataset, flips: bool, autocast_dtype) -> dict:
    """Everything that changes the features, as plain JSON."""
    return {
        "schema_version": SCHEMA_VERSION,
        "encoder": _describe_encoder(encoder),
        "transform": photos.transform.as_dict(),
        "dataset": {"fingerprint": photos.fingerprint, "num_rows": len(photos)},
        "flips": flips,
        "autocast_dtype": None if autocast_dtype is None else str(autocast_dtype),
        "feature_shape": list(encoder.feature_shape),
    }


def _key(description: dict) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def _write_meta(folder: Path, meta: dict) -> None:
    write_atomically(folder / "meta.json", json.dumps(meta, indent=2).encode())


def _read_meta(folder: Path) -> dict:
    try:
        meta = json.loads((folder / "meta.json").read_text())
        version, _ = meta["schema_version"], (meta["key"], meta["encoder"]["config"], meta["dataset"]["num_rows"])
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no meta.json: expected a folder made by build_feature_cache") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}/meta.json is corrupt ({error!r}): delete the folder and build it again") from error
    if version != SCHEMA_VERSION:
        raise ValueError(f"{folder} has cache schema {version}, expected {SCHEMA_VERSION}: build the cache again")
    return meta


def _array_shape(meta: dict) -> tuple[int, ...]:
    return (meta["dataset"]["num_rows"], 2 if meta["flips"] else 1, *meta["feature_shape"])


def _create_array(path: Path, shape: tuple[int, ...], dtype: type) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    np.lib.format.open_memmap(beside, "w+", dtype, shape).flush()
    os.replace(beside, path)


class FeatureCache:
    """Read access to a finished cache; use :meth:`open`.

    Attributes:
        path: the cache's folder.
        feature_shape: (C, h, w).
        num_views: 1, or 2 with mirrored photos.
        mean, std: float32 (C,), over all valid rows and views.
        skipped: list of SkippedPhoto.
    """

    def __init__(self, path: Path, meta: dict) -> None:
        self.path = path
        self.meta = meta
        self.feature_shape = tuple(meta["feature_shape"])
        self.num_views = 2 if meta["flips"] else 1
        self.mean = torch.tensor(meta["mean"])
        self.std = torch.tensor(meta["std"])
        self.skipped = [SkippedPhoto(*photo) for photo in meta["skipped"]]
        self._skipped_rows = {photo.index for photo in self.skipped}
        self._rows = RowFile(path / "features.npy", _array_shape(meta), np.float16, axes=2)

    @classmethod
    def open(cls, path: str | os.PathLike, encoder: TimmFeatureEncoder) -> "FeatureCache":
        """Open a finished cache folder.

        Raises:
            ValueError: no cache, unfinished, corrupt, or made by another encoder than ``encoder``.
        """
        path = Path(path)
        meta = _read_meta(path)
        _check_encoder(path, meta["encoder"], _describe_encoder(encoder))
        if "mean" not in meta:
            raise ValueError(f"{path} is not finished: run build_feature_cache again, it goes on where it stopped")
        state = RowFile(path / "state.npy", _array_shape(meta)[:1], np.uint8).read(0, _array_shape(meta)[0])
        cache = cls(path, meta)
        if (state == TO_DO).any() or set(np.flatnonzero(state == SKIPPED).tolist()) != cache._skipped_rows:
            raise ValueError(f"{path}/state.npy contradicts meta.json: delete the folder and build it again")
        return cache

    def __len__(self) -> int:
        return self.meta["dataset"]["num_rows"]

    def is_valid(self, index: int) -> bool:
        """False for a photo that was skipped."""
        return 0 <= index < len(self) and index not in self._skipped_rows

    def features(self, index: int, flipped: bool = False) -> torch.Tensor:
        """Features of a row, float16 (C, h, w); ``flipped``: of the mirrored photo. Raises ValueError for no such."""
        if not self.is_valid(index):
            raise ValueError(f"row {index} has no features: it was skipped or lies outside the {len(self)} rows")
        if flipped and self.num_views == 1:
            raise ValueError("the cache holds no mirrored photos: build it with flips=True")
        return torch.from_numpy(self._rows.read(index * self.num_views + int(flipped))[0])

    def chunks(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All valid rows in order, at most `size` at a time: row numbers (N,) and float16 features (N, C, h, w)."""
        for start in range(0, len(self), size):
            count = min(size, len(self) - start)
            valid = [place for place in range(count) if self.is_valid(start + place)]
            if valid:
                rows = self._rows.read(start * self.num_views, count * self.num_views)
                features = torch.from_numpy(rows[:: self.num_views])
                yield start + torch.tensor(valid), features if len(valid) == count else features[valid]


def _check_encoder(path: Path, cached: dict, given: dict) -> None:
    different = [
        f"{name} {cached['config'].get(name)!r} in the cache, {value!r} given"
        for name, value in given["config"].items()
        if cached["config"].get(name) != value
    ]
    if cached["weights"] != given["weights"]:
        different.append(f"weights {cached['weights'][:12]} in the cache, {given['weights'][:12]} given")
    if different:
        raise ValueError(f"{path} holds features of another encoder: {'; '.join(different)}")


def build_feature_cache(
    encoder: TimmFeatureEncoder,
    photos: PhotoDataset,
    cache_dir: str | os.PathLike,
    *,
    flips: bool = False,
    batch_size: int = 32,
    num_workers: int = 0,
    autocast_dtype: torch.dtype | None = None,
    max_skipped_share: float = 0.05,
) -> FeatureCache:
    """Compute the features of every photo, or go on where an interrupted run stopped, or open what is finished.

    Args:
        encoder: on the device that shall compute.
        photos: with a transform without random choices.
        flips: store the features of the mirrored photos too.
        autocast_dtype: compute under ``torch.autocast`` in this type.
        max_skipped_share: largest share of undecodable photos, 0 to 1.

    Raises:
        ValueError: random transform, too many undecodable photos, or features that float16 cannot hold.
    """
    if photos.transform.random_crop or photos.transform.random_flip:
        raise ValueError("random crops and flips cannot be cached: switch both off; flips=True stores mirrored photos")
    if len(photos) == 0:
        raise ValueError("the data set is empty: expected at least one photo")
    description = _describe(encoder, photos, flips, autocast_dtype)
    key = _key(description)
    folder = Path(cache_dir) / key[:16]
    if not _is_finished(folder, key):
        with only_user_of(folder, wait=True):  # what another process builds meanwhile need not be built again
            meta = _begin(folder, {**description, "key": key})
            if not _is_finished(folder, key):
                features = RowFile(folder / "features.npy", _array_shape(meta), np.float16)
                state = RowFile(folder / "state.npy", _array_shape(meta)[:1], np.uint8)
                tally = SkipTally(max_skipped_share, len(photos))
                _fill(encoder, photos, features, state, tally, batch_size, num_workers, autocast_dtype)
                _finish(folder, meta, features, state, list(tally.photos.values()))
    return FeatureCache.open(folder, encoder)


def _is_finished(folder: Path, key: str) -> bool:
    if not (folder / "meta.json").exists():
        return False
    meta = _read_meta(folder)
    if meta["key"] != key:
        raise ValueError(f"{folder} belongs to the key {meta['key']}, expected {key}: delete it and build it again")
    return "mean" in meta


def _begin(folder: Path, meta: dict) -> dict:
    """The description of a cache that was begun, or of one that is begun here."""
    if not (folder / "meta.json").exists():
        _create_array(folder / "features.npy", _array_shape(meta), np.float16)
        _create_array(folder / "state.npy", _array_shape(meta)[:1], np.uint8)
        _write_meta(folder, meta)
    return _read_meta(folder)


def _fill(encoder, photos, features, state, tally, batch_size, num_workers, autocast_dtype) -> None:
    """Compute all rows that are not done. Photos skipped by an interrupted run are tried again."""
    if autocast_dtype is not None:  # half precision rounds more than folded normalisations do
        encoder = encoder.fused()
    rows = np.flatnonzero(state.read(0, len(photos)) != DONE).tolist()
    tally.num_seen = len(photos) - len(rows)
    loader = photo_loader(Subset(photos, rows), batch_size, num_workers)
    pending: list[tuple[int, int]] = []  # rows computed but not yet marked, with their new state
    flushed = time.monotonic()
    try:
        with tqdm(total=len(photos), initial=tally.num_seen, desc="features", unit="photo", disable=None) as progress:
            for batch in loader:
                if batch["pixel_values"] is not None:
                    indices = batch["indices"].tolist()
                    for index, values in zip(
                        indices, _encode(encoder, batch, features.row_shape[0], autocast_dtype), strict=True
                    ):
                        features.write(index, values)
                    pending += [(index, DONE) for index in indices]
                pending += [(photo.index, SKIPPED) for photo in batch["skipped"]]
                tally.add(batch)
                progress.update(len(batch["indices"]) + len(batch["skipped"]))
                if time.monotonic() - flushed > SECONDS_BETWEEN_FLUSHES:
                    _flush(features, state, pending)
                    flushed = time.monotonic()
    finally:
        _flush(features, state, pending)
    tally.finish()


def _flush(features: RowFile, state: RowFile, pending: list[tuple[int, int]]) -> None:
    features.flush()  # first: a row marked as done must be on disk
    for row, row_state in pending:
        state.write(row, np.array(row_state, np.uint8))
    state.flush()
    pending.clear()


@torch.no_grad()
def _encode(encoder: TimmFeatureEncoder, batch: dict, num_views: int, autocast_dtype) -> np.ndarray:
    """float16 (B, views, C, h, w)"""
    pixels = batch["pixel_values"].to(encoder.device, encoder.dtype)
    with torch.autocast(encoder.device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
        views = [encoder(view) for view in (pixels, pixels.flip(-1))[:num_views]]
    half = torch.stack(views, dim=1).half().cpu()
    if not torch.isfinite(half).all():
        bad = batch["indices"][~torch.isfinite(half).flatten(1).all(dim=1)].tolist()
        raise ValueError(f"features of rows {bad[:5]} are not finite or beyond float16's 65504: choose another layer")
    return half.numpy()


def _finish(folder: Path, meta: dict, features: RowFile, state: RowFile, skipped: list[SkippedPhoto]) -> None:
    statistics = ChannelStatistics()
    done = state.read(0, state.num_rows) == DONE
    for start in range(0, len(done), ROWS_PER_CHUNK):
        valid = done[start : start + ROWS_PER_CHUNK]
        if valid.any():
            chunk = features.read(start, len(valid))[valid]
            statistics.update(torch.from_numpy(chunk).flatten(0, 1))
    finished = {
        "skipped": [list(photo) for photo in sorted(skipped)],
        "mean": statistics.mean.tolist(),
        "std": statistics.std.tolist(),
    }
    _write_meta(folder, {**meta, **finished})


class CachedPhotoDataset(Dataset):
    """Photos with their cached features.

    ``[i]`` is ``{"pixel_values": (3, S, S), "features": float16 (C, h, w), "label": int, "index": i}``, or
    ``{"skipped": SkippedPhoto}``. With ``random_flip`` every second example on average is mirrored, pixels and
    features alike.

    Raises:
        ValueError: cache of other photos or another transform, or ``random_flip`` without cached flips.
    """

    def __init__(self, photos: PhotoDataset, cache: FeatureCache, random_flip: bool) -> None:
        given = {
            "transform": photos.transform.as_dict(),
            "dataset": {"fingerprint": photos.fingerprint, "num_rows": len(photos)},
        }
        for name, value in given.items():
            if cache.meta[name] != value:
                raise ValueError(f"the cache is of another {name}: {cache.meta[name]}, the photos have {value}")
        if random_flip and cache.num_views == 1:
            raise ValueError("random_flip needs the features of mirrored photos: build the cache with flips=True")
        self.photos = photos
        self.cache = cache
        self.random_flip = random_flip

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> dict:
        example = self.photos[index]
        if "skipped" in example:
            return example
        flipped = self.random_flip and bool(torch.rand(()) < 0.5)
        if flipped:
            example["pixel_values"] = example["pixel_values"].flip(-1)
        return {**example, "features": self.cache.features(index, flipped)}
