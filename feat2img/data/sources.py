"""Photos from the Hub, a parquet folder or an image folder, as one kind of data set: columns "image" and "label"."""

import re
from pathlib import Path
from typing import Any

import datasets

IMAGENETTE = "frgfm/imagenette"
IMAGENETTE_SIZES = ("full_size", "320px", "160px")
SHUFFLE_BUFFER = 1000  # photos held in memory while a stream is shuffled


def load_photos(
    name_or_path: str = IMAGENETTE,
    split: str = "train",
    *,
    size: str = "320px",
    streaming: bool = False,
    num_images: int | None = None,
    seed: int = 0,
    image_column: str | None = None,
    label_column: str | None = None,
) -> datasets.Dataset | datasets.IterableDataset:
    """Load a data set of photos with undecoded images.

    Args:
        name_or_path: a folder with parquet files (``train/*.parquet`` or flat), a folder of image files (class
            folders give labels), one parquet file, or the name of a data set on the Hub. A path that exists wins.
        size: ``full_size``, ``320px`` or ``160px``; for ImageNette on the Hub only.
        streaming: read while iterating, for sets that do not fit on disk.
        num_images: after a shuffle seeded with ``seed``, keep the first so many (all, when there are fewer).
        image_column, label_column: columns to use; found by their type when left out.

    Returns:
        Columns "image" (``datasets.Image(decode=False)``: a dict with "bytes" and "path") and, when there are
        labels, "label" (int).

    Raises:
        ValueError: path missing, data set empty, split or column unknown, or data set not loadable.
    """
    if num_images is not None and num_images < 1:
        raise ValueError(f"num_images must be at least 1, got {num_images}")
    path = Path(name_or_path).expanduser()
    if path.exists():
        photos = _load_local(path, split, streaming)
    elif str(name_or_path).startswith((".", "/", "~")):
        raise ValueError(f"there is no data set at {name_or_path}: give a folder that exists or a name on the Hub")
    else:
        photos = _load_hub(str(name_or_path), split, size, streaming)
    if not streaming and len(photos) == 0:
        raise ValueError(f"split {split!r} of {name_or_path} is empty: expected at least one photo")
    photos = _rename_columns(photos, image_column, label_column)
    if num_images is None:
        return photos
    if streaming:
        return photos.shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER).take(num_images)
    return photos.shuffle(seed=seed).select(range(min(num_images, len(photos))))


def _load_local(path: Path, split: str, streaming: bool) -> datasets.Dataset | datasets.IterableDataset:
    if path.is_file() and path.suffix != ".parquet":
        raise ValueError(f"{path} is a {path.suffix or 'plain'} file: expected a folder of photos or parquet files")
    builder_name = "parquet" if path.is_file() or any(path.rglob("*.parquet")) else "imagefolder"
    source: dict[str, Any] = {"data_files": str(path)} if path.is_file() else {"data_dir": str(path)}
    try:
        builder = datasets.load_dataset_builder(builder_name, **source)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"no photos in {path}: expected image files or parquet files") from error
    files = builder.config.data_files
    wanted = re.split(r"[\[+]", split)[0]
    if wanted not in files:
        raise ValueError(f"{path} has no split {wanted!r}: it has {', '.join(repr(str(name)) for name in files)}")
    endings = getattr(builder, "EXTENSIONS", [".parquet"])
    if not any(Path(name).suffix.lower() in endings for name in files[wanted]):
        raise ValueError(f"split {wanted!r} of {path} is empty: expected image files or parquet files")
    if builder_name == "parquet":  # read this split alone; image folders need all of them to number the classes
        source = {"data_files": {wanted: list(files[wanted])}}
    elif all(len({Path(name).parent for name in names}) == 1 for names in files.values()):
        source["drop_labels"] = True  # no class folders: datasets would take the splits for classes
    return _load(builder_name, split, path, streaming=streaming, **source)


def _load_hub(name: str, split: str, size: str, streaming: bool) -> datasets.Dataset | datasets.IterableDataset:
    if name != IMAGENETTE:
        return _load(name, split, name, streaming=streaming)
    if size not in IMAGENETTE_SIZES:
        raise ValueError(f"size of {IMAGENETTE} must be one of {', '.join(IMAGENETTE_SIZES)}, got {size!r}")
    # The main branch is a loading script, which datasets 4 and later refuse; this branch holds the same as parquet.
    return _load(name, split, name, streaming=streaming, data_dir=size, revision="refs/convert/parquet")


def _load(builder_name: str, split: str, shown: str | Path, **options):
    try:
        return datasets.load_dataset(builder_name, split=split, **options)
    except Exception as error:  # datasets, huggingface_hub, pyarrow and the network each raise their own types
        reason = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"cannot load split {split!r} of {shown}: {reason}") from error


def _rename_columns(photos, image_column: str | None, label_column: str | None):
    features = photos.features or photos._resolve_features().features
    image_column = _find_image_column(features, image_column)
    label_column = _find_label_column(features, label_column)
    photos = photos.select_columns([name for name in (image_column, label_column) if name is not None])
    for name, new_name in ((image_column, "image"), (label_column, "label")):
        if name not in (None, new_name):
            photos = photos.rename_column(name, new_name)
    return photos.cast_column("image", datasets.Image(decode=False))


def _is_undeclared_image(feature) -> bool:
    """True for parquet columns as datasets writes images, read back without their metadata."""
    if isinstance(feature, dict):
        return set(feature) == {"bytes", "path"}
    return isinstance(feature, datasets.Value) and feature.dtype in ("binary", "large_binary")


def _find_image_column(features: datasets.Features, wanted: str | None) -> str:
    columns = ", ".join(features)
    if wanted is not None:
        if wanted not in features:
            raise ValueError(f"the data set has no column {wanted!r}: its columns are {columns}")
        if isinstance(features[wanted], datasets.Image) or _is_undeclared_image(features[wanted]):
            return wanted
        raise ValueError(f"column {wanted!r} holds {features[wanted]}, expected images; the columns are {columns}")
    declared = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    found = declared or [name for name, feature in features.items() if _is_undeclared_image(feature)]
    if not found:
        raise ValueError(f"the data set has no image column: its columns are {columns}; name one with image_column")
    return "image" if "image" in found else found[0]


def _is_label(feature) -> bool:
    if isinstance(feature, datasets.ClassLabel):
        return True
    return isinstance(feature, datasets.Value) and "int" in feature.dtype


def _find_label_column(features: datasets.Features, wanted: str | None) -> str | None:
    if wanted is not None:
        if wanted not in features or not _is_label(features[wanted]):
            raise ValueError(f"no integer column {wanted!r} for labels: the columns are {', '.join(features)}")
        return wanted
    if "label" in features and _is_label(features["label"]):
        return "label"
    return next((name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)), None)
