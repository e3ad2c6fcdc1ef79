import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image, ImageFont

from feat2img.evaluation.formatting import format_count, format_number, format_steps
from feat2img.evaluation.grid import Column, image_grid, shorten
from feat2img.evaluation.report import figures, render_report
from feat2img.evaluation.report_classes import class_means
from feat2img.evaluation.report_data import ReportData
from feat2img.evaluation.report_table import best_labels

RESULT = {
    "name": "gan",
    "kind": "gan",
    "num_inference_steps": None,
    "num_images": 2,
    "psnr": 20.0,
    "ssim": 0.5,
    "lpips": 0.25,
    "feature_cosine": 0.9,
    "latency_ms": 12.0,
    "latency_ms_batch": 3.0,
    "latency_batch_size": 8,
    "parameters": 5_800_000,
    "device": "cpu",
    "dtype": "float32",
    "dataset": "photos",
    "split": "validation",
}


def image(seed: int, size: int = 20) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def columns() -> list[Column]:
    return [Column("original", "20 px", [image(0), image(1)]), Column("gan", "1 pass", [image(2), image(3)])]


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def data(rows: list[dict] | None = None, **parts) -> ReportData:
    return ReportData(**{"rows": rows or [RESULT], "columns": columns(), "settings": {"Seed": 0}} | parts)


def full_data() -> ReportData:
    """Two pipelines, a baseline and a yardstick with everything that a report can show."""
    rng = np.random.default_rng(0)
    more = {"verifier_top1": 0.5, "sharpness": 0.6, "kid": 0.02, "kid_std": 0.001, "frechet": 30.0}
    gan = RESULT | more | {"lpips_low": 0.24, "lpips_high": 0.26, "equivalent_px_lpips": 31.0}
    steps = {"name": "diffusion", "kind": "diffusion", "num_inference_steps": 25, "lpips": 0.2, "latency_ms": 900.0}
    sampling = {"num_samples": 4, "lpips_best": 0.18, "lpips_of_mean": 0.3, "diversity": 0.1, "denoiser_calls": 25}
    costs = {"latency_p90_ms": 990.0, "images_per_second": 1.5, "peak_memory_mb": 700.0}
    baseline = {**RESULT, "name": "mean image", "kind": "baseline", "lpips": 0.8, "latency_ms": None}
    yardstick = {**baseline, "name": "original at 28 px", "kind": "yardstick", "yardstick_px": 28, "lpips": 0.22}
    pair = {"a": "gan", "b": "diffusion, 25 steps", "metric": "lpips", "num_images": 40}
    names = ("gan", "diffusion, 25 steps")
    return data(
        [gan, gan | steps | sampling | costs, baseline, yardstick],
        pairs=[pair | {"difference": 0.05, "low": 0.04, "high": 0.06}],
        per_image={name: {"lpips": list(rng.uniform(0.1, 0.4, 4)), "psnr": [20.0] * 4} for name in names},
        labels=[0, 1, 1, -1],
        class_names=["tench", "church"],
        cases={"best": [[c._replace(images=c.images[:1]) for c in columns()]], "worst": []},
        curves={"gan": {"g_loss": [(0, 2.0), (10, 1.0), (20, float("nan"))], "learning_rate": [(0, 1e-4)]}},
        floors={"kid": 0.0004, "frechet": 3.5},
        notes=["A note."],
    )


def test_report_is_one_file_with_lossless_images_and_no_outside_link():
    page = Page(render_report(data()))
    assert page.open == []
    sources = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1])))) for source in sources]
    expected = [columns()[column].images[row] for row in (0, 1) for column in (0, 1)]
    assert all(np.array_equal(a, np.asarray(b)) for a, b in zip(shown, expected, strict=True))
    links = [attrs[key] for _, attrs in page.tags for key in ("src", "href") if key in attrs]
    assert all(link.startswith("data:") for link in links)
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")


def test_page_may_load_nothing():
    text = render_report(full_data())
    page = Page(text)
    policies = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"]
    assert "http:" not in text and "https:" not in text and "url(" not in text and "@import" not in text


def test_text_from_outside_is_escaped():
    hostile = '<script>alert("x")</script>'
    row = RESULT | {"name": hostile, "dataset": hostile, "kind": '"><i>', "split": "$table"}
    hostile_columns = [Column(hostile, hostile, column.images) for column in columns()]
    labelled = {
        "per_image": {hostile: {"lpips": [0.2, 0.3]}},
        "labels": [0, 0],
        "class_names": [hostile],
        "curves": {hostile: {hostile: [(0, 1.0)]}},
        "cases": {"best": [[c._replace(images=c.images[:1]) for c in hostile_columns]]},
    }
    page = Page(
        render_report(data([row], columns=hostile_columns, settings={hostile: hostile}, notes=[hostile], **labelled))
    )
    assert [tag for tag, _ in page.tags].count("script") == 1 and "i" not in {tag for tag, _ in page.tags}
    assert page.open == [] and hostile in page.text


def test_every_part_appears_when_it_was_measured_and_none_is_empty():
    page = Page(render_report(full_data()))
    titles = re.findall("<h2>(.*?)</h2>", render_report(full_data()))
    assert titles == [
        *("Verdict", "Scores", "Quality against latency", "The first photos", "Best and worst", "By class", "Cost"),
        *("Several samples per photo", "Training", "What the columns mean", "Settings"),
    ]
    for text in ("floor 0.0004", "0.240–0.260", "Baselines", "original at 28 px", "p90 990 ms", "A note.", "g_loss"):
        assert text in page.text
    assert "learning_rate" not in page.text
    assert page.text.count("Best") == 2 and "Worst" not in page.text  # the section, and its only grid


def test_what_was_not_measured_is_left_out():
    bare = {"name": "gan", "kind": "gan", "num_inference_steps": None, "num_images": 3}
    titles = re.findall("<h2>(.*?)</h2>", render_report(ReportData(rows=[bare])))
    assert titles == ["Verdict", "Scores", "What the columns mean"]


def test_infinite_scores_are_shown_and_keep_the_charts_alive():
    rows = [RESULT | {"psnr": float("inf")}, RESULT | {"name": "other", "psnr": float("inf"), "lpips": None}]
    per_image = {"gan": {"psnr": [float("inf")] * 2}, "other": {"psnr": [float("inf")] * 2}}
    text = render_report(data(rows, per_image=per_image, labels=[0, 0], class_names=["tench"]))
    assert '<td class="best">∞</td>' in text and "nan" not in text.lower().replace("banana", "")


def test_best_of_each_metric_is_marked_in_its_direction():
    other = RESULT | {"name": "other", "psnr": 30.0, "lpips": 0.5}
    text = render_report(data([RESULT, other]))
    assert '<td class="best">30.00</td>' in text and '<td class="best">0.250</td>' in text
    assert "<td>20.00</td>" in text and "<td>0.500</td>" in text


def test_baselines_are_never_marked_and_equals_of_the_best_are():
    near, far = RESULT | {"name": "near", "lpips": 0.26}, RESULT | {"name": "far", "lpips": 0.4}
    baseline = RESULT | {"name": "perfect", "kind": "baseline", "lpips": 0.0}
    pair = {"a": "gan", "metric": "lpips", "num_images": 50}
    pairs = [
        pair | {"b": "near", "difference": -0.01, "low": -0.03, "high": 0.01},
        pair | {"b": "far", "difference": -0.15, "low": -0.2, "high": -0.1},
    ]
    assert best_labels(ReportData([far, near, RESULT, baseline], pairs), "lpips") == {"gan", "near"}
    assert best_labels(ReportData([RESULT, baseline]), "lpips") == set()


def test_sharpness_on_either_side_of_one_marks_both():
    smooth, harsh = RESULT | {"sharpness": 0.15}, RESULT | {"name": "harsh", "sharpness": 1.4}
    pair = {"a": "gan", "b": "harsh", "metric": "sharpness", "num_images": 50}
    pairs = [pair | {"difference": -1.25, "low": -1.6, "high": -0.9}]
    assert best_labels(ReportData([smooth, harsh], pairs), "sharpness") == {"gan", "harsh"}


def test_contender_that_answered_fewer_photos_says_so():
    slow = RESULT | {"name": "pixel optimisation", "kind": "baseline", "num_images": 1}
    assert Page(render_report(data([RESULT, slow]))).text.count("the first 1 photos") == 1


def test_metric_that_nobody_has_gets_no_column():
    text = render_report(data([RESULT | {"lpips": None}], notes=["LPIPS was left out."]))
    assert "LPIPS&nbsp;" not in text and '<p class="note">LPIPS was left out.</p>' in text


def test_zoomed_photos_carry_their_own_scores_and_class():
    page = Page(render_report(full_data()))
    captions = [attrs["data-caption"] for tag, attrs in page.tags if attrs.get("data-set") == "the first"]
    first = full_data().per_image["gan"]["lpips"][0]
    assert captions[:3] == ["tench", f"LPIPS {first:.3f} · PSNR 20.00", "church"]


def test_class_means_by_hand():
    found = class_means(full_data(), "lpips")
    scores = full_data().per_image["gan"]["lpips"]
    by_name = {name: (count, means["gan"]) for name, count, means in found}
    assert by_name == {"tench": (1, scores[0]), "church": (2, pytest.approx((scores[1] + scores[2]) / 2))}
    overall = [sum(means.values()) for _, _, means in found]
    assert overall == sorted(overall)  # LPIPS: the best class first


def test_figures_are_drawn_from_the_same_charts():
    drawn = figures(full_data())
    assert set(drawn) == {
        *("quality-latency-lpips", "quality-latency-verifier_top1", "by-class-lpips", "by-class-psnr")
    }
    assert all(image.mode == "RGB" and len(image.getcolors(1 << 24)) > 3 for image in drawn.values())
    assert figures(ReportData(rows=[RESULT | {"latency_ms": None}])) == {}


def test_grid_shows_images_pixel_for_pixel_and_enlarges_smaller_ones():
    mixed = [*columns(), Column("small", "", [image(4, 10), image(5, 10)])]
    grid = np.asarray(image_grid(mixed))
    gap = 6
    header = grid.shape[0] - 2 * (20 + gap)
    assert grid.shape[1] == gap + 3 * (20 + gap)
    for i, column in enumerate(columns()):
        for j, tile in enumerate(column.images):
            x, y = gap + i * (20 + gap), header + j * (20 + gap)
            assert np.array_equal(grid[y : y + 20, x : x + 20], np.asarray(tile))


def test_grid_refuses_columns_that_do_not_match():
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        image_grid([columns()[0], Column("short", "", [image(0)])])
    with pytest.raises(ValueError, match="at least one"):
        image_grid([Column("empty", "", [])])


def test_long_labels_are_cut_in_the_middle():
    font = ImageFont.load_default(12)
    short = shorten("a-very-long-name-of-a-pipeline-v2", font, 90)
    assert font.getlength(short) <= 90 and short.startswith("a-v") and short.endswith("v2") and "…" in short
    assert shorten("gan", font, 90) == "gan"


def test_figures_as_people_read_them():
    assert [format_count(n) for n in (None, 0, 999, 53_559, 5_800_000, 1.2e9)] == [
        "-",
        "0",
        "999",
        "53.6 k",
        "5.8 M",
        "1.2 G",
    ]
    assert [format_number(x, 2) for x in (None, 1.005, float("inf"))] == ["-", "1.00", "inf"]
    assert [format_steps(n) for n in (None, 1, 25)] == ["1 pass", "1 step", "25 steps"]
