"""A report's charts, from plain numbers to `Drawing`s: quality against latency, scores by class, training curves."""

import math
from typing import NamedTuple

from PIL import ImageFont

from .grid import shorten
from .report_drawing import WIDEST_FONT, Drawing, Line, Mark, Text, text_width
from .report_terms import SHARES, badness, direction, metric_of, show, show_milliseconds

TEXT = 12.0  # font size in pixels
LABEL_WIDTH = 180.0  # of a point's name, in pixels
MOST_LABELS = 6  # of points; more get a legend


class Series(NamedTuple):
    """How one pipeline looks in every chart."""

    colour: str
    shape: str


class Point(NamedTuple):
    """One pipeline in the quality-latency chart."""

    name: str
    latency_ms: float
    value: float
    series: Series


class Box(NamedTuple):
    """The plotting area: pixel edges, and the values at them."""

    left: float
    top: float
    right: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        return self.left + (value - self.x_range[0]) / (self.x_range[1] - self.x_range[0]) * (self.right - self.left)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)


def pareto_front(points: list[Point], metric: str) -> list[Point]:
    """The points that no other beats in both latency and quality, from fast to slow."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.latency_ms, badness(metric, p.value))):
        if not front or badness(metric, point.value) < badness(metric, front[-1].value):
            front.append(point)
    return front


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """At most about `count` round numbers within [low, high], 1, 2, 2.5 or 5 times a power of ten apart."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
    return [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, count: int = 7) -> list[float]:
    """Ticks of a logarithmic axis within [low, high]: 1, 2, 5 times powers of ten, or powers alone where many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**p for p in powers for m in (1, 2, 5)]
    ticks = [t for t in ticks if low <= t <= high]
    if len(ticks) > count:
        ticks = [t for t in ticks if math.isclose(math.log10(t), round(math.log10(t)), abs_tol=1e-9)]
    return ticks[:: math.ceil(len(ticks) / count)] if ticks else []


def quality_latency(
    points: list[Point],
    metric: str,
    baselines: dict[str, float] | None = None,
    yardsticks: dict[str, float] | None = None,
    paths: list[list[str]] | None = None,
) -> Drawing:
    """Quality against latency (logarithmic), with the Pareto front.

    Args:
        points: finite values only, at least one.
        baselines: name => value, drawn as dashed lines, as far as they lie within the range of the points.
        yardsticks: name => value, drawn as ticks on the right, likewise.
        paths: names of points that are one pipeline at different steps, joined by a faint line.
    """
    baselines, yardsticks = baselines or {}, yardsticks or {}
    width = 420.0
    has_legend = len(points) > MOST_LABELS
    legend, top = _legend({p.name: p.series for p in points}, width, 30) if has_legend else ([], 0.0)
    height = top + 310
    values = [p.value for p in points]
    spread = max(max(values) - min(values), 0.15 * max(map(abs, values)), least_spread(metric))
    latencies = [math.log10(p.latency_ms) for p in points]
    pad = max(0.25 * (max(latencies) - min(latencies)), 0.25)
    x_range = (min(latencies) - pad, max(latencies) + pad)
    top_value = max(values) + 0.5 * spread
    y_range = (max(min(values) - 0.5 * spread, min(0.0, *values) - 0.06 * top_value), top_value)
    baselines = {name: value for name, value in baselines.items() if y_range[0] < value < y_range[1]}
    yardsticks = {name: value for name, value in yardsticks.items() if y_range[0] < value < y_range[1]}
    right = width - (52 if yardsticks else 10)
    box = Box(46, top + 34, right, height - 40, x_range, y_range)
    title = metric_of(metric).title
    front = pareto_front(points, metric)
    told = ", ".join(f"{p.name}: {show(metric, p.value)} at {show_milliseconds(p.latency_ms)}" for p in points)
    drawing = Drawing(width, height, f"{title} ({direction(metric)}) against latency. {told}.", legend)
    drawing.shapes += [Text(0, 14, f"{title} ({direction(metric)})", "ink", size=13), *_quality_axes(box, metric)]
    drawing.shapes += _yardstick_ticks(box, yardsticks)
    places = {p.name: (box.x(math.log10(p.latency_ms)), box.y(p.value)) for p in points}
    marks = [_around(x, y, 7) for x, y in places.values()]
    drawing.shapes += _baseline_lines(box, baselines, marks)
    drawing.shapes += [Line([places[name] for name in path], "line", 1.5) for path in paths or [] if len(path) > 1]
    if len(front) > 1:
        drawing.shapes.append(Line([places[p.name] for p in front], "muted", 1.25, (4, 4)))
    for point in points:
        note = f"{point.name}: {title} {show(metric, point.value)}, {show_milliseconds(point.latency_ms)}"
        drawing.shapes.append(Mark(*places[point.name], *point.series, 6, note, point in front))
    if not has_legend:
        drawing.shapes += _point_labels(box, points, places, marks + _obstacles(drawing))
    return drawing


def least_spread(metric: str) -> float:
    """The least span of an axis, twenty units of a metric's last digit: equal values are no reason to zoom in."""
    return 20 * 10.0 ** -metric_of(metric).digits


def value_ticks(metric: str, low: float, high: float) -> list[float]:
    """Round numbers within [low, high], of a share those that it can be."""
    return [tick for tick in nice_ticks(low, high) if metric not in SHARES or -1e-9 < tick < 1 + 1e-9]


def _quality_axes(box: Box, metric: str) -> list:
    shapes = []
    for value in value_ticks(metric, *box.y_range):
        y = box.y(value)
        shapes += [Line([(box.left, y), (box.right, y)], "line")]
        shapes += [Text(box.left - 8, y + 4, show_tick(metric, value), anchor="end")]
    free = 0.0
    for value in log_ticks(10 ** box.x_range[0], 10 ** box.x_range[1]):
        x = box.x(math.log10(value))
        text = f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"
        shapes += [Line([(x, box.bottom), (x, box.bottom + 4)], "muted")]
        half = 0.5 * text_width(text, 11)
        if x - half > free:
            shapes += [Text(x, box.bottom + 18, text, anchor="middle", size=11)]
            free = x + half + 4
    shapes += [Line([(box.left, box.bottom), (box.right, box.bottom)], "muted")]
    shapes += [Text(box.right, box.bottom + 36, "time per photo, batch of one", anchor="end")]
    return shapes


def show_tick(metric: str, value: float) -> str:
    """A tick's value, with no more decimals than round numbers need."""
    if metric in SHARES:
        return f"{100 * value:.4g}%"
    return f"{value:.4g}".replace("-", "−") if abs(value) > 1e-12 else "0"


def _yardstick_ticks(box: Box, yardsticks: dict[str, float]) -> list:
    """Sizes of shrunk originals as a second scale; one that would cover the one before is left out."""
    shapes, last = [], math.inf
    for name, value in sorted(yardsticks.items(), key=lambda item: item[1]):
        y = box.y(value)
        if last - y > TEXT:
            shapes += [Line([(box.right, y), (box.right + 5, y)], "muted")]
            shapes += [Text(box.right + 8, y + 4, name, size=11)]
            last = y
    return shapes


def _baseline_lines(box: Box, baselines: dict[str, float], taken: list[tuple]) -> list:
    """Dashed lines with their names above or below, each where it covers least of points and names before it."""
    shapes: list = []
    taken = list(taken)
    names: dict[float, list[str]] = {}
    for name, value in baselines.items():
        names.setdefault(round(box.y(value)), []).append(name)  # on one line, one after the other
    for y, shared in names.items():
        text = shorten(", ".join(shared), ImageFont.load_default(11), (box.right - box.left - 12) / WIDEST_FONT)
        steps = range(0, max(1, int(box.right - box.left - text_width(text, 11) - 6)), 12)
        spots = [(box.left + 6 + step, y + rise) for rise in (-4, 13) for step in steps]
        best = min(spots, key=lambda spot: sum(overlap(_text_box(*spot, text, 11), other) for other in taken))
        taken.append(_text_box(*best, text, 11))
        shapes += [Line([(box.left, y), (box.right, y)], "muted", 1, (2, 3)), Text(*best, text, size=11)]
    return shapes


def _point_labels(box: Box, points: list[Point], places: dict, taken: list[tuple]) -> list[Text]:
    """Names beside their points, each where it covers least of marks and names placed before."""
    texts = []
    for point in points:
        x, y = places[point.name]
        name = _short(point.name)
        width = text_width(name, TEXT)
        spots = [(x + 11, y + 4), (x - 11 - width, y + 4)]
        for rise in (-13, 22, -27, 36):
            spots += [(x - width / 2, y + rise), (x + 6, y + rise), (x - width - 6, y + rise)]
        inside = [(min(max(sx, 2), box.right - width), sy) for sx, sy in spots if box.top - 4 < sy < box.bottom - 2]
        best = min(inside, key=lambda spot: sum(overlap(_text_box(*spot, name, TEXT), other) for other in taken))
        taken.append(_text_box(*best, name, TEXT))
        texts.append(Text(*best, name, "ink", size=TEXT))
    return texts


def _short(name: str) -> str:
    return shorten(name, ImageFont.load_default(TEXT), LABEL_WIDTH)


def _text_box(x: float, y: float, text: str, size: float) -> tuple[float, float, float, float]:
    return x, y - 0.8 * size, x + text_width(text, size), y + 0.25 * size


def text_boxes(drawing: Drawing) -> list[tuple]:
    """(left, top, right, bottom) of every text of a drawing, about."""
    shares = {"start": 0.0, "middle": 0.5, "end": 1.0}
    texts = [shape for shape in drawing.shapes if isinstance(shape, Text)]
    return [_text_box(t.x - shares[t.anchor] * text_width(t.text, t.size), t.y, t.text, t.size) for t in texts]


def _obstacles(drawing: Drawing) -> list[tuple]:
    """Boxes of what names should not cover: other texts, and the lines between points, cut into short pieces."""
    boxes = text_boxes(drawing)
    for line in (shape for shape in drawing.shapes if isinstance(shape, Line) and shape.width > 1):
        for (x0, y0), (x1, y1) in zip(line.points, line.points[1:], strict=False):
            pieces = max(2, round(math.hypot(x1 - x0, y1 - y0) / 6))
            places = [(x0 + (x1 - x0) * i / pieces, y0 + (y1 - y0) * i / pieces) for i in range(pieces + 1)]
            boxes += [_around(x, y, 2.5) for x, y in places]
    return boxes


def _around(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return x - radius, y - radius, x + radius, y + radius


def overlap(a: tuple, b: tuple) -> float:
    """Area that two boxes share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def class_dots(rows: list[tuple[str, dict[str, float]]], metric: str, series: dict[str, Series]) -> Drawing:
    """One line per class with a dot per pipeline at its mean.

    Args:
        rows: (class name, pipeline => mean), from the top; finite means, at least one.
        series: pipeline => how it looks, for the legend and the dots.
    """
    width, gap, left = 420.0, 24.0, 140.0
    legend, top = _legend(series, width)
    values = [value for _, means in rows for value in means.values()]
    low, high = min(values), max(max(values), min(values) + least_spread(metric))
    pad = 0.06 * (high - low)
    top += 38
    bottom = top + gap * len(rows)
    box = Box(left, top, width - 14, bottom, (low - pad, high + pad), (0, 1))
    title = metric_of(metric).title
    drawing = Drawing(width, bottom + 26, f"Mean {title} by class ({direction(metric)}), see the table below.", legend)
    drawing.shapes.append(Text(0, top - 12, f"{title} ({direction(metric)})", "ink", size=13))
    for value in value_ticks(metric, *box.x_range):
        drawing.shapes.append(Line([(box.x(value), top), (box.x(value), bottom)], "line"))
        drawing.shapes.append(Text(box.x(value), bottom + 18, show_tick(metric, value), anchor="middle"))
    font = ImageFont.load_default(TEXT)
    for number, (name, means) in enumerate(rows):
        y = top + gap * (number + 0.5)
        drawing.shapes.append(Text(left - 10, y + 4, shorten(name, font, (left - 10) / WIDEST_FONT), "ink", "end"))
        drawing.shapes.append(Line([(box.x(min(means.values())), y), (box.x(max(means.values())), y)], "line", 3))
        rises = _apart([box.x(value) for value in means.values()])
        for (label, value), rise in zip(means.items(), rises, strict=True):
            note = f"{name}, {label}: {show(metric, value)}"
            drawing.shapes.append(Mark(box.x(value), y + rise, *series[label], 5, note))
    return drawing


def _apart(xs: list[float]) -> list[float]:
    """How far dots of one line rise or sink so that none hides another at the same place."""
    rises = [0.0] * len(xs)
    order = sorted(range(len(xs)), key=xs.__getitem__)
    start = 0
    for stop in range(1, len(order) + 1):
        if stop == len(order) or xs[order[stop]] - xs[order[stop - 1]] > 6:
            step = min(9.0, 18 / (stop - start))
            for place, number in enumerate(order[start:stop]):
                rises[number] = (place - (stop - start - 1) / 2) * step
            start = stop
    return rises


def _legend(series: dict[str, Series], width: float, y: float = 10.0) -> tuple[list, float]:
    """Marks with names from height y on, wrapped, and where they end."""
    shapes: list = []
    x = 6.0
    for name, style in series.items():
        text = _short(name)
        wide = 16 + text_width(text)
        if x > 6 and x + wide > width:
            x, y = 6.0, y + 20
        shapes += [Mark(x, y, *style, 5), Text(x + 11, y + 4, text, "ink")]
        x += wide + 14
    return shapes, y + 8


def curve(name: str, points: list[tuple[int, float]], colour: str) -> Drawing:
    """One logged scalar over the steps, small; at least one finite point."""
    width, height = 220.0, 118.0
    values = [value for _, value in points]
    steps = [step for step, _ in points]
    pad = max(0.05 * (max(values) - min(values)), 1e-3 * max(map(abs, values)), 1e-9)
    x_range = (min(steps), max(max(steps), min(steps) + 1))
    box = Box(4, 34, width - 6, height - 18, x_range, (min(values) - pad, max(values) + pad))
    told = f"{name} over {max(steps)} steps: from {values[0]:.3g} to {values[-1]:.3g}"
    drawing = Drawing(width, height, told)
    font = ImageFont.load_default(TEXT)
    drawing.shapes += [
        Text(4, 14, shorten(name, font, width - 70), "ink"),
        Text(width - 6, 14, f"{values[-1]:.3g}", colour, "end"),
        Line([(box.left, box.bottom), (box.right, box.bottom)], "line"),
        Line([(box.left, box.top), (box.right, box.top)], "line"),
        Text(4, 30, f"{max(values):.3g}", size=10),
        Text(4, box.bottom + 13, f"{min(values):.3g}", size=10),
        Text(width - 6, box.bottom + 13, f"step {max(steps):,}", anchor="end", size=10),
        Line([(box.x(step), box.y(value)) for step, value in points], colour, 1.6),
        Mark(box.x(steps[-1]), box.y(values[-1]), colour, "circle", 3),
    ]
    return drawing
