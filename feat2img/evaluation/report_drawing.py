"""Line drawings as plain shapes, shown in two ways: inline SVG that follows the page's colours, and PNG."""

from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

# Colour name => (light, dark). The page defines them as CSS variables, a PNG takes the light ones.
COLOURS = {
    "paper": ("#ffffff", "#14161a"),
    "ink": ("#1b1e24", "#e9ebef"),
    "muted": ("#626a76", "#99a2af"),
    "line": ("#e3e6eb", "#2e333b"),
    "s0": ("#0f766e", "#4fd1bd"),
    "s1": ("#c2410c", "#fb9a5f"),
    "s2": ("#4f46e5", "#a5a4fb"),
    "s3": ("#a3246b", "#f28cc4"),
    "s4": ("#7a6200", "#dcc05a"),
    "s5": ("#0369a1", "#67c3f3"),
}
SERIES = [name for name in COLOURS if name[1:].isdigit()]
MARKS = ("circle", "square", "diamond", "triangle")
OVERSAMPLING = 3  # of a PNG's edges
WIDEST_FONT = 1.15  # DejaVu Sans, over Pillow's own font


class Line(NamedTuple):
    """A line through points in pixels."""

    points: list[tuple[float, float]]
    colour: str
    width: float = 1.0
    dash: tuple[float, float] | None = None


class Mark(NamedTuple):
    """A data point; `note` is what a pointer that rests on it shows."""

    x: float
    y: float
    colour: str
    shape: str = "circle"
    radius: float = 5.0
    note: str = ""
    is_filled: bool = True


class Text(NamedTuple):
    """One line of text; `anchor` is start, middle or end; y is the baseline."""

    x: float
    y: float
    text: str
    colour: str = "muted"
    anchor: str = "start"
    size: float = 12.0


@dataclass
class Drawing:
    """Shapes on a canvas of so many pixels; `title` says in words what can be seen."""

    width: float
    height: float
    title: str
    shapes: list[Line | Mark | Text] = field(default_factory=list)


def text_width(text: str, size: float = 12.0) -> float:
    """Width of a text in pixels, in the widest of the usual fonts of browsers; Pillow's own is narrower."""
    return WIDEST_FONT * ImageFont.load_default(size).getlength(text)


def series_style(index: int) -> tuple[str, str]:
    """Colour and mark of the n-th pipeline, a pair of its own for the first twenty-four."""
    return SERIES[index % len(SERIES)], MARKS[(index + index // len(SERIES) // 2) % len(MARKS)]


def to_svg(drawing: Drawing) -> str:
    """Inline SVG; its colours are the CSS variables that the names in COLOURS give."""
    shapes = "".join(_svg_shape(shape) for shape in drawing.shapes)
    size = f"{drawing.width:g} {drawing.height:g}"
    return f'<svg class="chart" viewBox="0 0 {size}" role="img" aria-label="{escape(drawing.title)}">{shapes}</svg>'


def mark_svg(colour: str, shape: str) -> str:
    """A mark on its own, for legends and tables."""
    return (
        f'<svg class="key" viewBox="0 0 12 12" aria-hidden="true">{_svg_shape(Mark(6, 6, colour, shape, 4.5))}</svg>'
    )


def _svg_shape(shape: Line | Mark | Text) -> str:
    if isinstance(shape, Text):
        anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
        place = f'x="{shape.x:.1f}" y="{shape.y:.1f}" font-size="{shape.size:g}"'
        return f'<text {place}{anchor} class="halo" style="fill:var(--{shape.colour})">{escape(shape.text)}</text>'
    if isinstance(shape, Line):
        dash = f' stroke-dasharray="{shape.dash[0]:g} {shape.dash[1]:g}"' if shape.dash else ""
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        style = f"fill:none;stroke:var(--{shape.colour});stroke-width:{shape.width:g}"
        return f'<polyline points="{points}"{dash} stroke-linejoin="round" style="{style}"/>'
    fill = shape.colour if shape.is_filled else "paper"
    edge = "paper" if shape.is_filled else shape.colour
    style = f"fill:var(--{fill});stroke:var(--{edge});stroke-width:1.5"
    note = f"<title>{escape(shape.note)}</title>" if shape.note else ""
    if shape.shape == "circle":
        return f'<circle cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{shape.radius:g}" style="{style}">{note}</circle>'
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in mark_corners(shape))
    return f'<polygon points="{points}" style="{style}">{note}</polygon>'


def mark_corners(mark: Mark) -> list[tuple[float, float]]:
    """Corners of a mark that is not a circle, of about the circle's area."""
    x, y, r = mark.x, mark.y, mark.radius
    if mark.shape == "square":
        r *= 0.89
        return [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)]
    if mark.shape == "diamond":
        r *= 1.25
        return [(x, y - r), (x + r, y), (x, y + r), (x - r, y)]
    r *= 1.2
    return [(x, y - r), (x + r, y + 0.8 * r), (x - r, y + 0.8 * r)]


def to_image(drawing: Drawing, scale: float = 2.0) -> Image.Image:
    """The drawing in light colours, `scale` image pixels to a pixel."""
    zoom = scale * OVERSAMPLING
    size = round(drawing.width * scale), round(drawing.height * scale)
    large = Image.new("RGB", (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING), COLOURS["paper"][0])
    draw = ImageDraw.Draw(large)
    for shape in drawing.shapes:
        if not isinstance(shape, Text):
            _draw_shape(draw, shape, zoom)
    image = large.resize(size, Image.Resampling.BOX)
    draw = ImageDraw.Draw(image)
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}
    for text in (shape for shape in drawing.shapes if isinstance(shape, Text)):
        place = (text.x * scale, text.y * scale)
        font = ImageFont.load_default(text.size * scale)
        draw.text(
            place,
            text.text.replace("−", "-"),
            COLOURS[text.colour][0],
            font,
            anchors[text.anchor],
            stroke_width=round(1.5 * scale),
            stroke_fill=COLOURS["paper"][0],
        )
    return image


def _draw_shape(draw: ImageDraw.ImageDraw, shape: Line | Mark, zoom: float) -> None:
    colour, paper = COLOURS[shape.colour][0], COLOURS["paper"][0]
    if isinstance(shape, Line):
        for points in _dashes(shape):
            draw.line([(x * zoom, y * zoom) for x, y in points], colour, round(shape.width * zoom), joint="curve")
        return
    fill, edge = (colour, paper) if shape.is_filled else (paper, colour)
    if shape.shape == "circle":
        draw.circle((shape.x * zoom, shape.y * zoom), shape.radius * zoom, fill, edge, round(1.5 * zoom))
    else:
        draw.polygon([(x * zoom, y * zoom) for x, y in mark_corners(shape)], fill, edge, round(1.5 * zoom))


def _dashes(line: Line) -> list[list[tuple[float, float]]]:
    """The drawn pieces of a line; a dashed one is cut along each of its straight parts."""
    if line.dash is None:
        return [line.points]
    drawn, gap = line.dash
    pieces = []
    for (x0, y0), (x1, y1) in zip(line.points, line.points[1:], strict=False):
        length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-9)
        start = 0.0
        while start < length:
            a, b = start / length, min(start + drawn, length) / length
            pieces.append([(x0 + t * (x1 - x0), y0 + t * (y1 - y0)) for t in (a, b)])
            start += drawn + gap
    return pieces
