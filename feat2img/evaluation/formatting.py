"""Figures as people read them, and the table of a comparison as text."""

import math

from .metrics import METRICS


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
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return str(value)


def format_steps(num_inference_steps: int | None) -> str:
    """How a decoder gets to its image: "1 pass", "1 step", "25 steps"."""
    if num_inference_steps is None:
        return "1 pass"
    return f"{num_inference_steps} step{'s' if num_inference_steps > 1 else ''}"


def format_table(results: list[dict]) -> str:
    """The results as an aligned table; metrics that nobody has are left out."""
    header = ["name", "kind", "steps"]
    metrics = [name for name in METRICS if any(row[name] is not None for row in results)]
    header += [f"{METRICS[name].title} {'↑' if METRICS[name].higher_is_better else '↓'}" for name in metrics]
    header += ["ms/image", "ms/image, batch", "parameters"]
    rows = [header]
    for row in results:
        scores = [format_number(row[name], METRICS[name].digits) for name in metrics]
        batch = format_number(row["latency_ms_batch"], 1)
        batch += f" ({row['latency_batch_size']})" if row["latency_batch_size"] else ""
        cost = [format_number(row["latency_ms"], 1), batch, format_count(row["parameters"])]
        rows.append([row["name"], row["kind"], str(row["num_inference_steps"] or "-"), *scores, *cost])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = enumerate(zip(row, widths, strict=True))
        cells = [cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in padded]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)
