"""The files of a layer sweep: sweep.json, sweep.csv, the chart sweep.png and grid.png."""

import math
from pathlib import Path

from PIL import ImageFont

from .files import make_output_dir, png_bytes, write_atomically
from .formatting import ARROWS, align, format_number
from .grid import image_grid, shorten
from .metrics import METRICS
from .outputs import results_json, table_csv
from .report_drawing import Drawing, Line, Mark, Text, to_image
from .sweep import Sweep

SHOWN = ("psnr", "ssim", "lpips", "feature_cosine", "verifier_top1", "true_label_top1", "sharpness")
CHARTED = ("lpips", "psnr", "verifier_top1")
PANEL_WIDTH, ROW_HEIGHT, TOP, LEFT = 260, 30, 70, 130  # pixels


def write_sweep(sweep: Sweep, output_dir: str | Path) -> dict[str, Path]:
    """Write all files into a folder, which is made if need be. Returns file name => path."""
    folder = make_output_dir(output_dir)
    contents = {
        "sweep.json": results_json(sweep.rows).encode(),
        "sweep.csv": table_csv(sweep.rows).encode(),
        "sweep.png": png_bytes(to_image(sweep_chart(sweep.rows))),
        "grid.png": png_bytes(image_grid(sweep.columns)),
    }
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return {name: folder / name for name in contents}


def sweep_table(rows: list[dict]) -> str:
    """The main columns as an aligned table."""
    metrics = [name for name in SHOWN if any(row[name] is not None for row in rows)]
    table = [["layer", "features", *(f"{METRICS[n].title} {ARROWS[METRICS[n].higher_is_better]}" for n in metrics)]]
    for row in rows:
        shape = f"{row['channels']} x {row['height']} x {row['width']}"
        table.append([row["layer"], shape, *(format_number(row[n], METRICS[n].digits) for n in metrics)])
    return align(table)


def sweep_chart(rows: list[dict]) -> Drawing:
    """One panel per metric, one line per layer: a dot at the mean, a bar over its 95 % interval."""
    metrics = [name for name in CHARTED if all(_is_drawable(row, name) for row in rows)]
    height = TOP + ROW_HEIGHT * len(rows) + 34
    decoder = "a linear decoder" if rows[0]["decoder"] == "linear" else f"the decoder of {rows[0]['decoder']}"
    title = f"What {decoder} reads out of the layers of {rows[0]['encoder']}"
    drawing = Drawing(LEFT + PANEL_WIDTH * len(metrics), height, title, [Text(12, 24, title, "ink", size=15)])
    for place, row in enumerate(rows):
        drawing.shapes.append(Text(12, _y(place) + 4, _short(row["layer"]), "ink"))
    for number, metric in enumerate(metrics):
        drawing.shapes += _panel(rows, metric, LEFT + number * PANEL_WIDTH, height, f"s{number}")
    return drawing


def _is_drawable(row: dict, metric: str) -> bool:
    """PSNR is infinite where a layer gives a photo back exactly, as it can a flat one."""
    return all(row[key] is not None and math.isfinite(row[key]) for key in (metric, f"{metric}_low", f"{metric}_high"))


def _y(place: int) -> float:
    return TOP + (place + 0.5) * ROW_HEIGHT


def _short(name: str) -> str:
    return shorten(name, ImageFont.load_default(12), LEFT - 20)


def _panel(rows: list[dict], metric: str, left: float, height: float, colour: str) -> list:
    values = [row[key] for row in rows for key in (metric, f"{metric}_low", f"{metric}_high")]
    low, high = min(values), max(values)
    low, high = (low - 0.5, high + 0.5) if low == high else (low - 0.08 * (high - low), high + 0.08 * (high - low))
    right = left + PANEL_WIDTH - 60

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    better = "higher" if METRICS[metric].higher_is_better else "lower"  # Pillow's own font has no arrows
    shapes: list = [Text(left, TOP - 16, f"{METRICS[metric].title}, {better} is better", "ink", size=13)]
    shapes.append(Line([(left, TOP), (left, height - 28), (right, height - 28)], "line"))
    for place, row in enumerate(rows):
        y = _y(place)
        shapes.append(Line([(left, y), (right, y)], "line", dash=(2, 4)))
        shapes.append(Line([(x(row[f"{metric}_low"]), y), (x(row[f"{metric}_high"]), y)], colour, 3))
        shapes.append(Mark(x(row[metric]), y, colour))
        shapes.append(Text(right + 8, y + 4, format_number(row[metric], METRICS[metric].digits), "ink"))
    return shapes
