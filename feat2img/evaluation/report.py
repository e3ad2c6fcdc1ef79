"""A comparison as one HTML file without scripts or links to other files: table, photos, settings."""

import base64
import io
from html import escape
from string import Template

from PIL import Image

from .formatting import format_count, format_number, format_steps
from .grid import Column
from .metrics import METRICS
from .report_page import PAGE


def render_report(results: list[dict], columns: list[Column], settings: dict, notes: list[str]) -> str:
    """Render the report.

    Args:
        results: one flat dict per contender, as in results.json.
        columns: of the grid, originals first.
        settings: name => value, shown as they are.
        notes: sentences under the table.

    Returns:
        A complete HTML page; every text from outside is escaped.
    """
    first = results[0]
    split = f" ({first['split']})" if first["split"] else ""
    summary = f"{first['num_images']} photos of {first['dataset']}{split}, on {first['device']} in {first['dtype']}"
    return Template(PAGE).substitute(
        summary=escape(summary),
        table=_table(results),
        notes="".join(f'<p class="note">{escape(note)}</p>' for note in notes),
        grid=_grid(columns),
        metrics=_metrics(results),
        settings=_settings(settings),
    )


def _measured(results: list[dict]) -> list[str]:
    return [name for name in METRICS if any(row[name] is not None for row in results)]


def _table(results: list[dict]) -> str:
    metrics = _measured(results)
    titles = [f"{METRICS[m].title}&nbsp;{'↑' if METRICS[m].higher_is_better else '↓'}" for m in metrics]
    head = "".join(f'<th scope="col">{title}</th>' for title in ["Decoder", *titles, "ms / image", "Parameters"])
    best = {
        m: (max if METRICS[m].higher_is_better else min)(row[m] for row in results if row[m] is not None)
        for m in metrics
    }
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(_table_row(row, best) for row in results)}</tbody>"


def _table_row(row: dict, best: dict[str, float]) -> str:
    kind = row["kind"] if row["kind"] == "baseline" else f"{row['kind']}, {format_steps(row['num_inference_steps'])}"
    cells = [f'<th scope="row">{escape(row["name"])}<small>{escape(kind)}</small></th>']
    for metric, best_value in best.items():
        mark = ' class="best"' if row[metric] == best_value else ""
        cells.append(f"<td{mark}>{format_number(row[metric], METRICS[metric].digits)}</td>")
    batch = ""
    if row["latency_ms_batch"] is not None:
        batch = f"<small>{format_number(row['latency_ms_batch'], 1)} in batches of {row['latency_batch_size']}</small>"
    cells.append(f"<td>{format_number(row['latency_ms'], 1)}{batch}</td>")
    cells.append(f"<td>{format_count(row['parameters'])}</td>")
    return f'<tr class="{escape(row["kind"], quote=True)}">{"".join(cells)}</tr>'


def _grid(columns: list[Column]) -> str:
    """Row by row, so that the browser lays out one CSS grid and keeps the originals in view while it scrolls."""
    heads = [
        f'<div class="head{" original" if i == 0 else ""}">{escape(c.title)}<small>{escape(c.subtitle)}</small></div>'
        for i, c in enumerate(columns)
    ]
    rows = range(len(columns[0].images))
    tiles = [_tile(column, row, is_original=i == 0) for row in rows for i, column in enumerate(columns)]
    side = max(image.width for column in columns for image in column.images)
    return f'<div class="grid" style="--columns: {len(columns)}; --side: {side}px">{"".join(heads + tiles)}</div>'


def _tile(column: Column, row: int, is_original: bool) -> str:
    image = column.images[row]
    alternative = escape(f"{column.title}, {column.subtitle}, photo {row + 1}", quote=True)
    style = ' class="original"' if is_original else ""
    size = f'width="{image.width}" height="{image.height}"'
    return f'<div{style}><img src="{_inlined(image)}" {size} alt="{alternative}"></div>'


def _inlined(image: Image.Image) -> str:
    """Lossless, so that what is judged is the decoder and not an image codec."""
    content = io.BytesIO()
    image.save(content, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _metrics(results: list[dict]) -> str:
    terms = []
    for name in _measured(results):
        direction = "higher is better" if METRICS[name].higher_is_better else "lower is better"
        terms.append(f"<dt>{METRICS[name].title}</dt><dd>{METRICS[name].description} The mean; {direction}.</dd>")
    terms.append(
        "<dt>ms / image</dt><dd>Median wall time to decode features, batch of one, after warm-up; "
        "without the encoder.</dd><dt>Parameters</dt><dd>Of the decoder, without the encoder.</dd>"
    )
    return "".join(terms)


def _settings(settings: dict) -> str:
    return "".join(f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in settings.items())
