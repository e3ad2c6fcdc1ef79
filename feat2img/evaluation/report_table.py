"""The tables of a report: scores with intervals, cost, and what several samples per photo give."""

import math
from html import escape

from .decoding import format_steps
from .formatting import format_count, format_figures, format_number
from .report_data import ReportData, label
from .report_drawing import mark_svg
from .report_terms import (
    MAIN,
    REFERENCES,
    SHARES,
    arrow,
    best_label,
    find_pair,
    has_interval,
    measured,
    metric_of,
    pipelines,
    show,
    show_milliseconds,
)
from .report_verdict import beats

GROUPS = {"baseline": "Baselines", "yardstick": "Originals, shrunk and enlarged again"}
EQUIVALENTS = ("equivalent_px_lpips", "equivalent_px_verifier")


def score_table(data: ReportData, styles: dict[str, tuple[str, str]], names: tuple[str, ...] = MAIN) -> str:
    """The table of the given metrics, best marked; pipelines first, then baselines and yardsticks, muted.

    Args:
        styles: pipeline => colour and mark, as in the charts.
    """
    metrics = measured(data.rows, names)
    is_main = names is MAIN
    has_pixels = is_main and any(_pixels(row, key) != "–" for row in data.rows for key in EQUIVALENTS)
    has_latency = is_main and any(row.get("latency_ms") is not None for row in data.rows)
    head = ['<th scope="col">Decoder</th>', *(_metric_head(data, name) for name in metrics)]
    head += ['<th scope="col">Equivalent px&nbsp;↑<small>by LPIPS</small></th>'] * has_pixels
    head += ['<th scope="col">Latency&nbsp;↓<small>per photo</small></th>'] * has_latency
    best = {name: best_labels(data, name) for name in metrics}

    most = max(row["num_images"] for row in data.rows)

    def line(row: dict) -> str:
        is_rival = row["kind"] not in REFERENCES
        cells = [_name_cell(row, styles.get(label(row)), most)]
        cells += [_score_cell(row, name, label(row) in best[name]) for name in metrics]
        cells += [f"<td>{_both_pixels(row)}</td>"] * has_pixels
        cells += [f"<td>{_latency(row.get('latency_ms')) if is_rival else ''}</td>"] * has_latency
        return f'<tr class="{escape(row["kind"])}">{"".join(cells)}</tr>'

    bodies = ["<tbody>" + "".join(line(row) for row in pipelines(data.rows)) + "</tbody>"]
    for kind, title in GROUPS.items():
        rows = [row for row in data.rows if row["kind"] == kind and any(row.get(n) is not None for n in metrics)]
        if rows:
            span = f'<tr class="group"><th scope="rowgroup" colspan="{len(head)}"><span>{title}</span></th></tr>'
            bodies.append(f"<tbody>{span}{''.join(line(row) for row in rows)}</tbody>")
    return scrolling("Scores", f"<table><thead><tr>{''.join(head)}</tr></thead>{''.join(bodies)}</table>")


def best_labels(data: ReportData, metric: str) -> set[str]:
    """Among several pipelines, the one with the best mean and those whose paired interval with it includes 0."""
    rivals = [row for row in pipelines(data.rows) if row.get(metric) is not None]
    best = best_label(rivals, metric)
    if len(rivals) < 2:
        return set()
    leader = next(row for row in rivals if label(row) == best)
    return {
        label(row)
        for row in rivals
        if row[metric] == leader[metric]
        or (has_interval(find_pair(data.pairs, best, label(row), metric)) and not beats(data, leader, row, metric))
    }


def scrolling(title: str, table: str) -> str:
    """A region that scrolls sideways, by keyboard too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">{table}</div>'


def _metric_head(data: ReportData, name: str) -> str:
    floor = data.floors.get(name)
    small = f"<small>floor {show(name, floor)}</small>" if floor is not None else ""
    percent = "&nbsp;%" if name in SHARES else ""
    title = f"{metric_of(name).title}{percent}&nbsp;{arrow(name).replace(' ', '&nbsp;')}"
    return f'<th scope="col">{title.replace("-", "&#8209;")}{small}</th>'


def _name_cell(row: dict, style: tuple[str, str] | None, most: int = 0) -> str:
    """Name and kind; also the number of photos where others answered more."""
    detail = "" if row["kind"] in REFERENCES else f"{row['kind']}, {format_steps(row.get('num_inference_steps'))}"
    if row["num_images"] < most:
        detail = f"{detail}, the first {row['num_images']} photos".removeprefix(", ")
    key = mark_svg(*style) if style else ""
    small = f"<small>{escape(detail)}</small>" if detail else ""
    name = row["name"].removeprefix("original at ") if row["kind"] == "yardstick" else row["name"]  # under a heading
    return f'<th scope="row">{key}{escape(name)}{small}</th>'


def _score_cell(row: dict, name: str, is_best: bool) -> str:
    low, high, spread = row.get(f"{name}_low"), row.get(f"{name}_high"), row.get(f"{name}_std")
    small = ""
    if low is not None and high is not None:
        small = f"<small>{show(name, low)}–{show(name, high)}</small>"
    elif spread is not None:
        small = f"<small>± {show(name, spread)}</small>"
    if row["kind"] == "yardstick":
        small = ""  # a scale to read others by: its own intervals would only make it longer
    mark = ' class="best"' if is_best else ""
    return f"<td{mark}>{show(name, row.get(name))}{small}</td>"


def _pixels(row: dict, key: str) -> str:
    """An equivalent resolution, or the end of the yardstick beyond which it lies, as "<14"."""
    value = row.get(key)
    if value is None or not math.isfinite(value):
        return escape(row.get(f"{key}_bound") or "–")
    return f"{value:.0f}"


def _both_pixels(row: dict) -> str:
    """By LPIPS, and small by the verifier's agreement."""
    if row["kind"] == "yardstick":
        return ""
    by_verifier = _pixels(row, EQUIVALENTS[1])
    return _pixels(row, EQUIVALENTS[0]) + (f"<small>verifier {by_verifier}</small>" if by_verifier != "–" else "")


def _latency(value: float | None) -> str:
    return "–" if value is None else show_milliseconds(value)


def cost_table(data: ReportData, styles: dict[str, tuple[str, str]]) -> str:
    """Time, memory and size of the pipelines; columns that nobody has are left out."""
    rows = pipelines(data.rows)
    columns = {
        "Latency": lambda r: _with_small(_latency(r.get("latency_ms")), r.get("latency_p90_ms"), "p90 {}"),
        "With encoder": lambda r: _latency(r.get("latency_with_encoder_ms")),
        "In batches": lambda r: _with_small(
            _latency(r.get("latency_ms_batch")), r.get("latency_batch_size"), "{} at once", str
        ),
        "Images / s": lambda r: format_figures(r.get("images_per_second")).replace("-", "–"),
        "Peak memory": lambda r: "–" if r.get("peak_memory_mb") is None else f"{r['peak_memory_mb']:,.0f} MiB",
        "Parameters": lambda r: format_count(r.get("parameters")).replace("-", "–"),
        "Denoiser calls": lambda r: "–" if r.get("denoiser_calls") is None else str(r["denoiser_calls"]),
    }
    return _table("Cost", rows, columns, styles)


def _with_small(text: str, value, template: str, as_text=show_milliseconds) -> str:
    return text if value is None else f"{text}<small>{escape(template.format(as_text(value)))}</small>"


def _table(title: str, rows: list[dict], columns: dict, styles: dict) -> str:
    """A table of the pipelines; each column is a function from a row to a cell's HTML."""
    cells = {name: [text(row) for row in rows] for name, text in columns.items()}
    cells = {name: texts for name, texts in cells.items() if set(texts) != {"–"}}
    if not cells:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in ["Decoder", *cells])
    lines = []
    for number, row in enumerate(rows):
        values = "".join(f"<td>{texts[number]}</td>" for texts in cells.values())
        lines.append(f"<tr>{_name_cell(row, styles.get(label(row)))}{values}</tr>")
    return scrolling(title, f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>")


def sampling_table(data: ReportData, styles: dict[str, tuple[str, str]]) -> str:
    """Best, mean and mean-of-samples scores where several samples were drawn per photo."""
    rows = [row for row in pipelines(data.rows) if (row.get("num_samples") or 1) > 1]
    columns: dict = {"Samples": lambda r: str(r["num_samples"])}
    for name in ("lpips", "psnr"):
        title = metric_of(name).title
        for end, what in (("best", "best"), ("mean", "mean"), ("of_mean", "of the mean image")):
            columns[f"{title}<small>{what}</small>"] = lambda r, n=name, k=f"{name}_{end}": show(n, r.get(k))
    columns["Diversity<small>LPIPS between samples</small>"] = lambda r: format_number(r.get("diversity"), 3).replace(
        "-", "–"
    )
    return _table("Samples", rows, columns, styles) if rows else ""
