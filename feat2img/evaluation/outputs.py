"""The files of a comparison: results.json, tables as CSV, the grid, the charts and report.html."""

import csv
import io
import json
import math
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from .. import __version__
from .files import make_output_dir, png_bytes, write_atomically
from .grid import image_grid
from .photos import SCIKIT_IMAGE
from .report import figures, render_report
from .report_data import ReportData, label
from .settings import CompareSettings

PAIR_COLUMNS = ("a", "b", "metric", "difference", "low", "high", "num_images")


def write_comparison(data: ReportData, output_dir: str | Path) -> dict[str, Path]:
    """Write all files into a folder, which is made if need be; each appears only when it is complete.

    Returns:
        File name => path: results.json, results.csv, pairs.csv, per_image.csv, grid.png, report.html, the charts, and
        skipped.csv where photos could not be read.
    """
    folder = make_output_dir(output_dir)
    texts = {
        "results.json": results_json(data.rows),
        "results.csv": table_csv(data.rows),
        "pairs.csv": table_csv(data.pairs, PAIR_COLUMNS),
        "per_image.csv": per_image_csv(data),
        "report.html": render_report(data),
    }
    if data.skipped:
        texts["skipped.csv"] = table_csv([{"name": photo.name, "reason": photo.reason} for photo in data.skipped])
    # a file's name may hold bytes that are no text; hours of work must not be lost over it
    contents = {name: text.encode(errors="replace") for name, text in texts.items()}
    contents["grid.png"] = png_bytes(image_grid(data.columns))
    contents |= {f"{name}.png": png_bytes(image) for name, image in figures(data).items()}
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return {name: folder / name for name in contents}


def describe_settings(paths: list[str], settings: CompareSettings) -> dict[str, str]:
    """What a report says of how it was made: pipelines, settings that are not None, versions."""
    chosen = {name: value for name, value in asdict(settings).items() if value is not None}
    unused = () if settings.baselines else ("baselines", "baseline_split", "baseline_images")
    unused += ("split", "size") if settings.dataset == SCIKIT_IMAGE else ()
    if not settings.baselines or not settings.pixel_optimisation_steps:
        unused += ("pixel_optimisation_steps", "pixel_optimisation_images")
    chosen = {name: value for name, value in chosen.items() if name not in unused}
    chosen["num_inference_steps"] = ", ".join(map(str, settings.num_inference_steps)) or "each pipeline's own"
    packages = ("torch", "diffusers", "timm", "torchmetrics")
    versions = [f"feat2img {__version__}", *(f"{name} {version(name)}" for name in packages)]
    return {
        "Pipelines": ", ".join(paths),
        **{name.replace("_", " ").capitalize(): str(value) for name, value in chosen.items()},
        "Versions": ", ".join([*versions, f"Python {platform.python_version()}"]),
    }


def plain(value):
    """JSON knows no infinity, so an infinite score becomes the string "inf", as PSNR of equal images; Python's
    `float("inf")` reads it back. What is not a number was not measured: null."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def results_json(results: list[dict]) -> str:
    """Results as valid JSON; what was left out is null."""
    rows = [{name: plain(value) for name, value in row.items()} for row in results]
    return json.dumps(rows, indent=2, allow_nan=False) + "\n"


def table_csv(rows: list[dict], columns: tuple[str, ...] = ()) -> str:
    """Flat dicts as CSV, the given columns and one for every further key that one has; what was left out is empty."""
    columns = list(dict.fromkeys([*columns, *(name for row in rows for name in row if name != "left_out")]))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def per_image_csv(data: ReportData) -> str:
    """One line per contender and photo; `index` is the photo's row, so that lines of different contenders pair up."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    metrics = list(dict.fromkeys(metric for scores in data.per_image.values() for metric in scores))
    writer.writerow(["name", "num_inference_steps", "index", "label", *metrics])
    for row in data.rows:
        scores = data.per_image.get(label(row))
        if scores is None:
            continue
        empty = [""] * len(data.indices)
        columns = [scores.get(metric, empty) for metric in metrics]
        for values in zip(data.indices, data.labels, *columns, strict=True):
            writer.writerow([row["name"], row["num_inference_steps"], *values])
    return text.getvalue()
