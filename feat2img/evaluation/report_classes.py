"""Scores by class: the means, their chart and their table."""

import math
import statistics
from html import escape

from .charts import Series, class_dots
from .report_data import ReportData, label
from .report_drawing import Drawing
from .report_table import scrolling
from .report_terms import badness, metric_of, pipelines, show

CLASS_METRICS = ("lpips", "verifier_top1", "psnr")  # the first two that were measured
MOST_CLASSES = 30  # in a chart
Means = list[tuple[str, int, dict[str, float]]]


def class_metrics(data: ReportData) -> list[str]:
    """The metrics that are shown by class; none where the photos have no classes."""
    if not data.class_names or all(number < 0 for number in data.labels):
        return []
    names = [label(row) for row in pipelines(data.rows)]
    known = [m for m in CLASS_METRICS if any(m in data.per_image.get(name, {}) for name in names)]
    return known[:2]


def class_means(data: ReportData, metric: str) -> Means:
    """(class, photos, pipeline => mean) for every class with photos, from best to worst over the pipelines.

    Means that are not finite are left out, and classes without any.
    """
    names = [label(row) for row in pipelines(data.rows)]
    scores = {name: data.per_image[name][metric] for name in names if metric in data.per_image.get(name, {})}
    means: Means = []
    for number in sorted({n for n in data.labels if 0 <= n < len(data.class_names)}):
        places = [place for place, n in enumerate(data.labels) if n == number]
        by_name = {name: statistics.fmean(values[place] for place in places) for name, values in scores.items()}
        by_name = {name: mean for name, mean in by_name.items() if math.isfinite(mean)}
        if by_name:
            name = data.class_names[number]
            unique = name if data.class_names.count(name) == 1 else f"{name}, class {number}"
            means.append((unique, len(places), by_name))
    return sorted(means, key=lambda item: badness(metric, statistics.fmean(item[2].values())))


def class_charts(data: ReportData, series: dict[str, Series]) -> dict[str, Drawing]:
    """Metric => chart, of the classes with the most photos where there are many; see `chosen_classes`."""
    charts = {}
    for metric in class_metrics(data):
        means = chosen_classes(class_means(data, metric))
        if means:
            rows = [(f"{name} ({count})", by_name) for name, count, by_name in means]
            charts[metric] = class_dots(rows, metric, series)
    return charts


def chosen_classes(means: Means, most: int = MOST_CLASSES) -> Means:
    """At most so many classes, those with the most photos; among equally many, evenly from the best to the worst."""
    if len(means) <= most:
        return means
    fewest = sorted((count for _, count, _ in means), reverse=True)[most - 1]
    chosen = [place for place, (_, count, _) in enumerate(means) if count > fewest]
    equal = [place for place, (_, count, _) in enumerate(means) if count == fewest]
    gaps = max(most - len(chosen) - 1, 1)
    chosen += [equal[round(i * (len(equal) - 1) / gaps)] for i in range(most - len(chosen))]
    return [means[place] for place in sorted(chosen)]


def class_table(data: ReportData) -> str:
    """All classes with their means, one column per metric and pipeline."""
    metrics = class_metrics(data)
    names = [label(row) for row in pipelines(data.rows)]
    means = {metric: {name: by_name for name, _, by_name in class_means(data, metric)} for metric in metrics}
    counts = {name: count for metric in metrics for name, count, _ in class_means(data, metric)}
    heads = [(metric, name) for metric in metrics for name in names]
    head = "".join(f'<th scope="col">{metric_of(m).title}<small>{escape(n)}</small></th>' for m, n in heads)
    lines = []
    for name in sorted(counts):
        cells = "".join(f"<td>{show(m, means[m].get(name, {}).get(rival))}</td>" for m, rival in heads)
        lines.append(f'<tr><th scope="row">{escape(name)}</th><td>{counts[name]}</td>{cells}</tr>')
    first = '<th scope="col">Class</th><th scope="col">Photos</th>'
    return scrolling(
        "By class", f"<table><thead><tr>{first}{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )
