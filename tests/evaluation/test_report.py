import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image, ImageFont

from feat2img.evaluation.decoding import format_steps
from feat2img.evaluation.formatting import format_count, format_figures, format_number
from feat2img.evaluation.grid import Column, image_grid, shorten
from feat2img.evaluation.report import figures, render_report
from feat2img.evaluation.report_classes import chosen_classes, class_means
from feat2img.evaluation.report_data import ReportData
from feat2img.evaluation.report_photos import inlined
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
    sampling = {"num_samples": 4, "lpips_best": 0.18, "lpips_mean": 0.21, "lpips_of_mean": 0.3, "diversity": 0.1}
    costs = {"latency_p90_ms": 990.0, "images_per_second": 1.5, "peak_memory_mb": 700.0, "denoiser_calls": 25}
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


def decoded(source: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1])))).astype(float)


def test_report_is_one_file_with_all_images_and_no_outside_link():
    page = Page(render_report(data()))
    assert page.open == []
    sources = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    expected = [columns()[column].images[row] for row in (0, 1) for column in (0, 1)]
    assert len(sources) == len(expected)
    for source, photo in zip(sources, expected, strict=True):
        assert np.abs(decoded(source) - np.asarray(photo)).mean() < 8  # noise, the hardest there is; another's: 85
    links = [attrs[key] for _, attrs in page.tags for key in ("src", "href") if key in attrs]
    anchors = {f"#{attrs['id']}" for _, attrs in page.tags if "id" in attrs}
    assert all(link.startswith("data:") or link in anchors for link in links)
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")


def test_photos_take_a_fraction_of_png_and_keep_size_and_colours():
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(40, 216, (8, 8, 3), dtype=np.uint8)).resize((224, 224), Image.BICUBIC)
    photo = (np.asarray(smooth) + rng.normal(0, 3, (224, 224, 3))).round().astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(photo).save(content, "png")
    source = inlined(Image.fromarray(photo))
    assert len(source) < len(content.getvalue()) / 3
    assert np.abs(decoded(source) - photo).mean() < 3
    odd = np.indices((32, 32)).sum(0) % 2  # single pixels of red and blue, which halved colours make purple
    board = np.stack([255 * odd, 0 * odd, 255 - 255 * odd], axis=-1).astype(np.uint8)
    assert np.abs(decoded(inlined(Image.fromarray(board))) - board).mean() < 10
    assert decoded(inlined(Image.new("RGBA", (5, 7)))).shape == (7, 5, 3)
    decoded(inlined(image(0, 224)))  # noise makes the largest file


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
    for text in ("floor 0.0004", "0.240–0.260", "Baselines", "28 px", "p90 990 ms", "A note.", "g_loss"):
        assert text in page.text
    assert "learning_rate" not in page.text
    assert page.text.count("Best") == 3 and "Worst" not in page.text  # the section, its link, and its only grid
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == [f"#{title.lower().replace(' ', '-')}" for title in titles[1:]]
    assert page.text.strip().startswith("gan, diffusion: reconstructions from features")


def test_mean_over_samples_is_not_the_first_sample_s_score():
    text = render_report(full_data())
    table = text[text.index('aria-label="Samples"') :]
    cells = re.findall("<td>(.*?)</td>", table[: table.index("</table>")])
    assert cells == ["4", "0.180", "0.210", "0.300", "0.100"]


def test_code_in_notes_and_options_of_the_command():
    text = render_report(data(notes=["Run `pip install '<x>'`."], settings={"Command": "a --b_c <d>-e -f"}))
    assert "Run <code>pip install &#x27;&lt;x&gt;&#x27;</code>." in text
    assert "<code>a <span>--b_c</span> &lt;d&gt;-e <span>-f</span></code>" in text


def test_what_was_not_measured_is_left_out():
    bare = {"name": "gan", "kind": "gan", "num_inference_steps": None, "num_images": 3}
    text = render_report(ReportData(rows=[bare]))
    assert re.findall("<h2>(.*?)</h2>", text) == ["Verdict", "Scores", "What the columns mean"]
    assert '<p class="summary">3 photos</p>' in text and "None" not in text


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
    assert captions[:3] == ["tench", f"LPIPS\u00a0{first:.3f} · PSNR\u00a020.00", "church"]


def test_class_means_by_hand():
    found = class_means(full_data(), "lpips")
    scores = full_data().per_image["gan"]["lpips"]
    by_name = {name: (count, means["gan"]) for name, count, means in found}
    assert by_name == {"tench": (1, scores[0]), "church": (2, pytest.approx((scores[1] + scores[2]) / 2))}
    overall = [sum(means.values()) for _, _, means in found]
    assert overall == sorted(overall)  # LPIPS: the best class first


def test_many_classes_are_shown_by_photos_and_from_best_to_worst():
    means = [(f"class {i}", 9 if i == 50 else 5, {"gan": i / 100}) for i in range(100)]
    names = [name for name, _, _ in chosen_classes(means, 4)]
    assert names == ["class 0", "class 49", "class 50", "class 99"]
    assert [name for name, _, _ in chosen_classes(means, 1)] == ["class 50"]
    assert chosen_classes(means[:3], 3) == means[:3]
    many = full_data()
    many.labels, many.class_names = list(range(40)), [f"c{i}" for i in range(40)]
    many.per_image = {name: {"lpips": list(np.linspace(0.1, 0.9, 40))} for name in many.per_image}
    assert "The charts show 30 of 40 classes" in render_report(many)


def test_every_network_whose_features_were_decoded_is_named():
    rows = [RESULT | {"name": n, "encoder": e, "layers": "l"} for n, e in (("a", "x"), ("b", "y"), ("c", "x"))]
    assert "features of x at l and of y at l, on cpu in float32" in render_report(data(rows))


def test_networks_that_judge_are_named():
    rows = [row | {"verifier": "judge", "distribution_network": "<set>"} for row in full_data().rows]
    text = Page(render_report(data(rows))).text
    assert "alike. The classifier is judge. Higher" in text and "Features of <set>. Lower" in text


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
    counts = {None: "-", 0: "0", 999: "999", 1000: "1 k", 53_559: "53.6 k", 999_600: "1 M", 5_800_000: "5.8 M"}
    counts |= {1_200_000_000: "1.2 G", 1_234_000_000_000: "1,234 G"}
    assert {n: format_count(n) for n in counts} == counts
    assert [format_figures(x) for x in (None, 4.216, 999.7, 12345.6)] == ["-", "4.22", "1,000", "12,346"]
    assert [format_number(x, 2) for x in (None, 1.005, float("inf"))] == ["-", "1.00", "inf"]
    assert [format_steps(n) for n in (None, 1, 25)] == ["1 pass", "1 step", "25 steps"]
