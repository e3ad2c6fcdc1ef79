import re

import numpy as np
import pytest

from feat2img.evaluation.charts import (
    Point,
    Series,
    class_dots,
    curve,
    log_ticks,
    nice_ticks,
    overlap,
    pareto_front,
    quality_latency,
    text_boxes,
)
from feat2img.evaluation.report_drawing import COLOURS, Drawing, Line, Mark, Text, series_style, to_image, to_svg

SERIES = Series("s0", "circle")


def points(*values: tuple[str, float, float]) -> list[Point]:
    return [Point(name, latency, value, Series(*series_style(i))) for i, (name, latency, value) in enumerate(values)]


def names(front: list[Point]) -> list[str]:
    return [point.name for point in front]


def test_pareto_front_keeps_what_no_other_beats_in_both():
    chosen = points(
        ("slow-best", 100, 0.1), ("fast", 1, 0.5), ("beaten", 10, 0.6), ("middle", 5, 0.3), ("twin", 5, 0.4)
    )
    assert names(pareto_front(chosen, "lpips")) == ["fast", "middle", "slow-best"]
    assert names(pareto_front(chosen, "psnr")) == ["fast", "beaten"]  # higher is better


def test_pareto_front_of_one_and_of_equals():
    assert names(pareto_front(points(("a", 1, 0.5)), "lpips")) == ["a"]
    assert names(pareto_front(points(("a", 1, 0.5), ("b", 2, 0.5)), "lpips")) == ["a"]


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.31, 0.43), (-3.0, 17.0), (1e-4, 3e-4)])
def test_ticks_are_few_round_and_inside(low, high):
    ticks = nice_ticks(low, high)
    assert 3 <= len(ticks) <= 7 and all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    assert all(float(f"{tick:.3g}") == pytest.approx(tick) for tick in ticks)


def test_logarithmic_ticks():
    assert log_ticks(8, 120) == pytest.approx([10, 20, 50, 100])
    assert log_ticks(0.5, 20_000) == pytest.approx([1, 10, 100, 1000, 10_000])
    assert len(log_ticks(1e-6, 1e9)) <= 7


def test_quality_chart_places_points_on_a_logarithmic_axis():
    drawing = quality_latency(points(("a", 1, 0.5), ("b", 10, 0.4), ("c", 100, 0.3)), "lpips")
    marks = [shape for shape in drawing.shapes if isinstance(shape, Mark)]
    xs, ys = [mark.x for mark in marks], [mark.y for mark in marks]
    assert (
        xs[1] - xs[0] == pytest.approx(xs[2] - xs[1])
        and ys[1] - ys[0] == pytest.approx(ys[2] - ys[1])
        and ys[0] < ys[1]
    )
    assert all(mark.is_filled for mark in marks)
    assert {"a", "b", "c"} <= {shape.text for shape in drawing.shapes if isinstance(shape, Text)}
    assert "a: 0.500 at 1 ms" in drawing.title


@pytest.mark.parametrize("count", [1, 2, 3, 6, 12])
def test_texts_of_the_quality_chart_stay_inside_and_apart(count):
    rng = np.random.default_rng(count)
    many = [(f"pipeline {i}", float(x), float(y)) for i, (x, y) in enumerate(rng.uniform(1, 40, (count, 2)))]
    drawing = quality_latency(points(*many), "psnr", {"mean image": 20.0}, {"28 px": 15.0, "29 px": 15.01})
    texts = [shape for shape in drawing.shapes if isinstance(shape, Text)]
    assert {name for name, _, _ in many} <= {text.text for text in texts}  # labels, or the legend
    assert "29 px" not in {text.text for text in texts} or count > 6  # would cover its neighbour
    boxes = text_boxes(drawing)
    assert all(-1 <= box[0] and box[2] <= drawing.width + 12 and 0 <= box[3] <= drawing.height for box in boxes)
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]]
    assert sum(overlap(a, b) for a, b in pairs) < 60  # square pixels: a corner at most


def test_name_of_a_baseline_keeps_off_the_points():
    chosen = points(("a", 1, 0.40), ("b", 9, 0.41), ("c", 30, 0.35))
    shapes = quality_latency(chosen, "lpips", {"a baseline": 0.401}).shapes
    name = text_boxes(Drawing(0, 0, "", [s for s in shapes if isinstance(s, Text) and s.text == "a baseline"]))[0]
    marks = [(s.x - 6, s.y - 6, s.x + 6, s.y + 6) for s in shapes if isinstance(s, Mark)]
    assert sum(overlap(name, mark) for mark in marks) == 0


def test_baselines_out_of_range_are_left_out():
    drawing = quality_latency(
        points(("a", 1, 0.40), ("b", 9, 0.35)), "lpips", {"near": 0.41, "far": 0.9}, {"14 px": 0.8}
    )
    texts = {shape.text for shape in drawing.shapes if isinstance(shape, Text)}
    assert "near" in texts and not {"far", "14 px"} & texts


def test_class_chart_orders_dots_by_value_and_survives_equal_ones():
    series = {"a": SERIES, "b": Series("s1", "square")}
    drawing = class_dots([("tench (3)", {"a": 0.2, "b": 0.4}), ("church (1)", {"b": 0.3})], "lpips", series)
    marks = [shape for shape in drawing.shapes if isinstance(shape, Mark) and shape.note]
    assert [mark.note for mark in marks] == ["tench (3), a: 0.200", "tench (3), b: 0.400", "church (1), b: 0.300"]
    assert marks[0].x < marks[2].x < marks[1].x and marks[0].y == marks[1].y < marks[2].y
    assert class_dots([("tench", {"a": 0.2})], "lpips", series).height > 0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_axes_of_equal_shares_stay_within_what_a_share_can_be(value):
    series = {"a": SERIES, "b": Series("s1", "square")}
    by_class = class_dots([("tench", {"a": value, "b": value})], "verifier_top1", series)
    front = quality_latency(points(("a", 1, value), ("b", 9, value)), "verifier_top1")
    for drawing in (by_class, front):
        ticks = [s.text for s in drawing.shapes if isinstance(s, Text) and re.fullmatch(r"[\d.e−-]+%", s.text)]
        assert len(ticks) == len(set(ticks)) and all(0 <= float(tick[:-1]) <= 100 for tick in ticks)
        assert f"{100 * value:g}%" in ticks


def test_dots_at_the_same_place_are_both_seen():
    series = {"a": SERIES, "b": Series("s1", "square"), "c": Series("s2", "diamond")}
    drawing = class_dots([("tench", {"a": 0.2, "b": 0.2, "c": 0.4})], "lpips", series)
    a, b, c = (shape for shape in drawing.shapes if isinstance(shape, Mark) and shape.note)
    assert a.x == b.x and b.y - a.y >= 8 and c.y == (a.y + b.y) / 2


def test_baselines_on_one_line_share_a_name():
    drawing = quality_latency(points(("a", 1, 0.3), ("b", 9, 0.05)), "verifier_top1", {"mean": 0.1, "linear": 0.1})
    texts = [shape.text for shape in drawing.shapes if isinstance(shape, Text)]
    assert "mean, linear" in texts and not {"mean", "linear"} & set(texts)


def test_curve_ends_where_the_points_end_and_a_single_point_is_fine():
    drawing = curve("loss", [(0, 2.0), (50, 1.0), (100, 0.5)], "s0")
    line = max((shape for shape in drawing.shapes if isinstance(shape, Line)), key=lambda shape: len(shape.points))
    xs, ys = zip(*line.points, strict=True)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1]) and ys[0] < ys[1] < ys[2]
    assert curve("loss", [(7, 1.0)], "s0").shapes


def test_svg_takes_colours_from_the_page_and_escapes_text():
    svg = to_svg(quality_latency(points(("<b>&", 1, 0.5), ("other", 3, 0.4)), "lpips"))
    assert "&lt;b&gt;&amp;" in svg and "<b>" not in svg and "#" not in svg.replace("&#", "")
    assert set(re.findall(r"var\(--(\w+)\)", svg)) <= set(COLOURS)


def test_image_has_the_drawing_in_its_colours():
    drawing = Drawing(40, 20, "", [Mark(10, 10, "s0", "square", 6), Line([(20, 10), (40, 10)], "s1", 4)])
    image = to_image(drawing, scale=2)
    assert image.size == (80, 40)
    assert image.getpixel((20, 20)) == tuple(bytes.fromhex(COLOURS["s0"][0][1:]))
    assert image.getpixel((60, 20)) == tuple(bytes.fromhex(COLOURS["s1"][0][1:]))
    assert image.getpixel((2, 2)) == (255, 255, 255)


def test_pipelines_look_different():
    assert len({series_style(i) for i in range(24)}) == 24
