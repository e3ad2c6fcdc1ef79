"""The files of a comparison: results.json, per_image.csv, grid.png and report.html."""

import csv
import io
import json
import math
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from PIL import Image

from .. import __version__
from .compare import CompareSettings, Comparison
from .grid import image_grid
from .metrics import METRICS
from .photos import SCIKIT_IMAGE
from .report import render_report


def write_comparison(comparison: Comparison, output_dir: str | Path, settings: dict) -> dict[str, Path]:
    """Write all files into a folder, which is made if need be; each appears only when it is complete.

    Args:
        settings: name => value, shown in the report as text.

    Returns:
        File name => path.
    """
    folder = make_output_dir(output_dir)
    results = comparison.results()
    columns = comparison.columns()
    contents = {
        "results.json": results_json(results).encode(),
        "per_image.csv": per_image_csv(comparison).encode(),
        "grid.png": png_bytes(image_grid(columns)),
        "report.html": render_report(results, columns, settings, notes(comparison)).encode(),
    }
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return {name: folder / name for name in contents}


def make_output_dir(path: str | Path) -> Path:
    """Make a folder for results. Raises ValueError when something else lies there."""
    folder = Path(path).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir {folder} is a file: name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the file and rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def png_bytes(image: Image.Image) -> bytes:
    """The content of a PNG file."""
    content = io.BytesIO()
    image.save(content, "png")
    return content.getvalue()


def write_image(path: Path, image: Image.Image) -> None:
    """Write a PNG file; it appears only when it is complete."""
    write_atomically(path, png_bytes(image))


def describe_settings(paths: list[str], settings: CompareSettings) -> dict:
    """What a report says of how it was made: pipelines, settings that are not None, versions."""
    chosen = {name: value for name, value in asdict(settings).items() if value is not None}
    unused = () if settings.baselines else ("baselines", "baseline_split", "baseline_images")
    unused += ("split", "size") if settings.dataset == SCIKIT_IMAGE else ()
    chosen = {name: value for name, value in chosen.items() if name not in unused}
    chosen["num_inference_steps"] = ", ".join(map(str, settings.num_inference_steps))
    packages = ("torch", "diffusers", "timm", "torchmetrics")
    versions = [f"feat2img {__version__}", *(f"{name} {version(name)}" for name in packages)]
    return {
        "Pipelines": ", ".join(paths),
        **{name.replace("_", " ").capitalize(): value for name, value in chosen.items()},
        "Versions": ", ".join([*versions, f"Python {platform.python_version()}"]),
    }


def results_json(results: list[dict]) -> str:
    """Results as valid JSON. JSON knows no infinity, so an infinite score becomes the string "inf", as PSNR of equal
    images; Python's `float("inf")` reads it back. A metric that was left out is null."""

    def plain(value):
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    rows = [{name: plain(value) for name, value in row.items()} for row in results]
    return json.dumps(rows, indent=2, allow_nan=False) + "\n"


def per_image_csv(comparison: Comparison) -> str:
    """One line per contender and photo; `index` is the photo's row, so that lines of different contenders pair up."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    measured = [name for name in METRICS if any(name in contender.scores for contender in comparison.contenders)]
    writer.writerow(["name", "num_inference_steps", "index", *measured])
    for contender in comparison.contenders:
        empty = [""] * len(contender.indices)
        for row in zip(contender.indices, *(contender.scores.get(name, empty) for name in measured), strict=True):
            writer.writerow([contender.name, contender.num_inference_steps, *row])
    return text.getvalue()


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know beside the figures, one sentence each."""
    notes = [f"{METRICS[metric].title} was left out. {reason}" for metric, reason in comparison.left_out.items()]
    if comparison.skipped:
        names = ", ".join(f"{photo.name} ({photo.reason})" for photo in comparison.skipped[:10])
        more = f" and {len(comparison.skipped) - 10} more" if len(comparison.skipped) > 10 else ""
        notes.append(f"{len(comparison.skipped)} photos could not be read and were skipped: {names}{more}.")
    sizes = {contender.details["image_size"] for contender in comparison.contenders}
    if len(sizes) > 1:
        shown = ", ".join(f"{size} px" for size in sorted(sizes))
        notes.append(f"The pipelines work at different sizes ({shown}): pixel scores do not compare across them.")
    return notes
