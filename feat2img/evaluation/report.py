"""A comparison as one HTML file that needs no network: verdict, tables, charts, photos, settings."""

import math
import re
from html import escape
from string import Template
from typing import NamedTuple

from PIL import Image

from .charts import Point, Series, curve, quality_latency
from .report_classes import MOST_CLASSES, class_charts, class_means, class_metrics, class_table
from .report_data import ReportData, label
from .report_drawing import Drawing, series_style, to_image, to_svg
from .report_page import PAGE
from .report_photos import case_grids, first_photos
from .report_script import DIALOG, SCRIPT
from .report_style import STYLE, colour_variables
from .report_table import cost_table, sampling_table, score_table
from .report_terms import MAIN, SET_METRICS, direction, measured, metric_of, pipelines
from .report_verdict import verdict

QUALITY_METRICS = ("lpips", "verifier_top1", "psnr")  # against latency: the first two that were measured
MOST_CURVES = 8  # per pipeline
MOST_POINTS = 240  # per curve
DULL_CURVES = ("learning_rate", "images_per_second")


def render_report(data: ReportData) -> str:
    """Render the report.

    Returns:
        A complete HTML page; every text from outside is escaped. Parts that were not measured are left out.
    """
    series = series_of(data)
    sections = [
        Section("Scores", _scores(data, series), SCORES_INTRO),
        Section("Quality against latency", _charts(quality_charts(data, series)), FRONT_INTRO),
        Section("The first photos", first_photos(data), PHOTOS_INTRO),
        Section("Best and worst", case_grids(data), _cases_intro(data)),
        Section("By class", _classes(data, series), _classes_intro(data)),
        Section("Cost", cost_table(data, series), "Decoding alone, after warm-up, unless a column says otherwise."),
        Section("Several samples per photo", sampling_table(data, series)),
        Section("Training", _curves(data, series)),
        Section("What the columns mean", _terms(data)),
        Section("Settings", _settings(data)),
    ]
    sections = [section for section in sections if section.body]
    return Template(PAGE).substitute(
        title=escape(_title(data)),
        style=colour_variables() + STYLE,
        summary=_summary(data),
        links="".join(f'<a href="#{section.anchor}">{section.title}</a>' for section in sections),
        sections="\n".join([_verdict(data), *(section.html for section in sections)]),
        dialog=DIALOG,
        script=SCRIPT,
    )


SCORES_INTRO = (
    "Means over the photos, small their 95 % intervals. Bold: the best pipeline, and those not told apart from it."
)
FRONT_INTRO = (
    "Filled points lie on the Pareto front: no other pipeline is both faster and better. Dashed lines are baselines; "
    "the scale on the right says what originals score when they are shrunk to so many pixels."
)
PHOTOS_INTRO = (
    "Choose a photo to see it large beside its reconstructions. The photos in this page are JPEG files; grid.png has "
    "them as they were scored."
)


class Section(NamedTuple):
    """A part of the page under a heading; without a body it is left out."""

    title: str
    body: str
    intro: str = ""

    @property
    def anchor(self) -> str:
        """What a link to it names."""
        return self.title.lower().replace(" ", "-")

    @property
    def html(self) -> str:
        """The whole part."""
        intro = f'<p class="intro">{self.intro}</p>' if self.intro else ""
        return f'<section id="{self.anchor}"><h2>{self.title}</h2>{intro}{self.body}</section>'


def figures(data: ReportData) -> dict[str, Image.Image]:
    """The charts as images, in light colours: "quality-latency-<metric>" and "by-class-<metric>"."""
    series = series_of(data)
    drawings = {f"quality-latency-{name}": chart for name, chart in quality_charts(data, series).items()}
    drawings |= {f"by-class-{name}": chart for name, chart in class_charts(data, series).items()}
    return {name: to_image(drawing) for name, drawing in drawings.items()}


def series_of(data: ReportData) -> dict[str, Series]:
    """How each pipeline looks in every chart and table."""
    return {label(row): Series(*series_style(i)) for i, row in enumerate(pipelines(data.rows))}


def quality_charts(data: ReportData, series: dict[str, Series]) -> dict[str, Drawing]:
    """Metric => quality-against-latency chart; none without latencies."""
    timed = [row for row in pipelines(data.rows) if row.get("latency_ms")]
    charts = {}
    for metric in measured(timed, QUALITY_METRICS)[:2]:
        finite = [row for row in data.rows if row.get(metric) is not None and math.isfinite(row[metric])]
        points = [Point(label(r), r["latency_ms"], r[metric], series[label(r)]) for r in timed if r in finite]
        baselines = {r["name"]: r[metric] for r in finite if r["kind"] == "baseline"}
        sizes = {f"{r['yardstick_px']} px": r[metric] for r in finite if r.get("yardstick_px")}
        if points:
            paths = _paths([r for r in timed if r in finite])
            charts[metric] = quality_latency(points, metric, baselines, sizes, paths)
    return charts


def _paths(rows: list[dict]) -> list[list[str]]:
    """Labels of the same pipeline at different steps, in order."""
    by_name: dict[str, list[dict]] = {}
    for row in rows:
        by_name.setdefault(row["name"], []).append(row)
    ordered = [sorted(group, key=lambda r: r["latency_ms"]) for group in by_name.values() if len(group) > 1]
    return [[label(row) for row in group] for group in ordered]


def _title(data: ReportData) -> str:
    """The name of the page, which tells several reports apart."""
    names = list(dict.fromkeys(row["name"] for row in pipelines(data.rows)))
    told = ", ".join(names) if len(names) <= 3 else f"{len(names)} pipelines"
    return f"{told}: reconstructions from features" if names else "Reconstructions from features"


def _summary(data: ReportData) -> str:
    first = data.rows[0]
    text = f"{first['num_images']:,} photos"
    if first.get("dataset"):
        text += f" of {first['dataset']}" + (f" ({first['split']})" if first.get("split") else "")
    features = [f"{row['encoder']} at {row.get('layers')}" for row in pipelines(data.rows) if row.get("encoder")]
    if features:
        text += f", features of {' and of '.join(dict.fromkeys(features))}"
    if first.get("device"):
        text += f", on {first['device']} in {first.get('dtype')}"
    return escape(text)


def _verdict(data: ReportData) -> str:
    headline, *sentences = verdict(data)
    items = []
    for sentence in sentences:
        subject, colon, rest = sentence.partition(": ")
        bold = f"<b>{escape(subject)}</b>: {escape(rest)}" if colon and len(subject) < 60 else escape(sentence)
        items.append(f"<li>{bold}</li>")
    listed = f"<ul>{''.join(items)}</ul>" if items else ""
    how = "A win is a difference on the same photos whose 95 % interval leaves out 0; in brackets that interval."
    intro = f'<p class="intro">{how}</p>' if data.pairs else ""
    return (
        f'<section class="verdict"><h2>Verdict</h2><p class="headline">{escape(headline)}</p>{listed}{intro}</section>'
    )


def _scores(data: ReportData, series: dict[str, Series]) -> str:
    more = [name for name in measured(data.rows) if name not in MAIN]
    table = score_table(data, series)
    if more:
        table += f"<details><summary>All other metrics</summary>{score_table(data, series, tuple(more))}</details>"
    return table + "".join(f'<p class="note">{_with_code(note)}</p>' for note in data.notes)


def _with_code(text: str) -> str:
    """Escaped, and what stands between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _charts(drawings: dict[str, Drawing]) -> str:
    charts = "".join(to_svg(drawing) for drawing in drawings.values())
    return f'<div class="charts">{charts}</div>' if charts else ""


def _cases_intro(data: ReportData) -> str:
    """By which metric, as `passes.best_and_worst` chooses it."""
    metric = metric_of("lpips" if all(row.get("lpips") is not None for row in pipelines(data.rows)) else "psnr")
    return f"The photos with the best and the worst {metric.title}, mean over the pipelines."


def _classes_intro(data: ReportData) -> str:
    text = "Means over the photos of a class, how many in brackets; best first."
    most = max((len(class_means(data, metric)) for metric in class_metrics(data)), default=0)
    if most > MOST_CLASSES:
        text += f" The charts show {MOST_CLASSES} of {most:,} classes, those with the most photos, good and bad ones."
    return text


def _classes(data: ReportData, series: dict[str, Series]) -> str:
    charts = _charts(class_charts(data, series))
    if not charts:
        return ""
    return f"{charts}<details><summary>All classes as a table</summary>{class_table(data)}</details>"


def _curves(data: ReportData, series: dict[str, Series]) -> str:
    colours = {row["name"]: series[label(row)].colour for row in reversed(pipelines(data.rows))}
    parts = []
    for name, scalars in data.curves.items():
        finite = {key: [(s, v) for s, v in points if math.isfinite(v)] for key, points in scalars.items()}
        shown = [key for key, points in finite.items() if points and key not in DULL_CURVES][:MOST_CURVES]
        charts = [to_svg(curve(key, _thinned(finite[key]), colours.get(name, "ink"))) for key in shown]
        if charts:
            parts.append(f'<h3>{escape(name)}</h3><div class="curves">{"".join(charts)}</div>')
    return "".join(parts)


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most about MOST_POINTS points, means of neighbours; the last step stays."""
    size = math.ceil(len(points) / MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _terms(data: ReportData) -> str:
    terms = []
    for name in measured(data.rows):
        metric = metric_of(name)
        span = f", {metric.range}" if metric.range else ""
        rule = f"{direction(name)}{span}".capitalize()
        terms.append(f"<dt>{metric.title}</dt><dd>{escape(metric.description + _seen_by(data, name))} {rule}.</dd>")
    if any(row.get("equivalent_px_lpips") is not None for row in data.rows):
        terms.append(
            "<dt>Equivalent px</dt><dd>The size to which an original is shrunk, and enlarged again, to score as the "
            "reconstruction does.</dd>"
        )
    terms.append("<dt>Latency</dt><dd>Median wall time to decode one photo's features, without the encoder.</dd>")
    return f"<dl>{''.join(terms)}</dl>"


def _seen_by(data: ReportData, name: str) -> str:
    """Which network judged."""
    row = data.rows[0]
    if name in SET_METRICS and row.get("distribution_network"):
        return f" Features of {row['distribution_network']}."
    is_verifier_s = name.startswith("verifier_") or name == "true_label_top1"
    return f" The classifier is {row['verifier']}." if is_verifier_s and row.get("verifier") else ""


def _settings(data: ReportData) -> str:
    texts = {key: escape(str(value)) for key, value in data.settings.items()}
    if "Command" in texts:  # an option must not be torn apart behind its dashes
        options = re.sub(r"(?<=\s)(--?\w+)", r"<span>\1</span>", texts["Command"])
        texts["Command"] = f"<code>{options}</code>"
    items = "".join(f"<dt>{escape(str(key))}</dt><dd>{text}</dd>" for key, text in texts.items())
    return f'<dl class="settings">{items}</dl>' if items else ""
