"""Figures as people read them, and the table of a comparison as text."""

import math

from .metrics import METRICS

ARROWS = {True: "↑", False: "↓", None: "→ 1"}  # the direction of better


def format_number(value: float | None, digits: int) -> str:
    """Fixed decimals; "inf" for infinity and "-" for what was not measured."""
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if math.isfinite(value) else str(value)


def format_count(value: int | None) -> str:
    """1234567 => "1.23 M"; "-" for what was not counted."""
    if value is None:
        return "-"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= 0.9995 * size:  # 999,600 is 1 M in three figures
            return f"{format_figures(value / size)}{unit}"
    return str(value)


def format_figures(value: float | None) -> str:
    """Three significant figures without an exponent, all figures from 1,000 on; "-" for what was not measured."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


SHOWN = ("psnr", "ssim", "lpips", "pixel_accuracy", "feature_cosine", "verifier_top1", "true_label_top1", "sharpness")
SETS = {"kid": ("KID ↓", 4), "frechet": ("Frechet ↓", 1)}


def format_table(results: list[dict]) -> str:
    """The main columns of the results as an aligned table; metrics that nobody has are left out."""
    header = ["name", "kind", "steps"]
    metrics = [name for name in SHOWN if any(row.get(name) is not None for row in results)]
    sets = [name for name in SETS if any(row.get(name) is not None for row in results)]
    header += [f"{METRICS[name].title} {ARROWS[METRICS[name].higher_is_better]}" for name in metrics]
    header += [SETS[name][0] for name in sets] + ["ms/image", "ms/image, batch", "parameters"]
    rows = [header]
    for row in results:
        scores = [format_number(row.get(name), METRICS[name].digits) for name in metrics]
        scores += [format_number(row.get(name), SETS[name][1]) for name in sets]
        batch = format_number(row["latency_ms_batch"], 1)
        batch += f" ({row['latency_batch_size']})" if row["latency_batch_size"] else ""
        cost = [format_number(row["latency_ms"], 1), batch, format_count(row["parameters"])]
        rows.append([row["name"], row["kind"], str(row["num_inference_steps"] or "-"), *scores, *cost])
    return align(rows)


def align(rows: list[list[str]], left_columns: int = 2) -> str:
    """Text cells as lines, the first columns flush left, the others flush right, a rule under the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = enumerate(zip(row, widths, strict=True))
        cells = [cell.ljust(width) if i < left_columns else cell.rjust(width) for i, (cell, width) in padded]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)
