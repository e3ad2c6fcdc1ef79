import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image, ImageFont

from feat2img.evaluation.formatting import format_count, format_number, format_steps
from feat2img.evaluation.grid import Column, image_grid, shorten
from feat2img.evaluation.report import render_report

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


def test_report_is_one_file_with_lossless_images_and_no_outside_link():
    text = render_report([RESULT], columns(), {"Seed": 0}, [])
    page = Page(text)
    assert page.open == []
    sources = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1])))) for source in sources]
    expected = [columns()[column].images[row] for row in (0, 1) for column in (0, 1)]
    assert all(np.array_equal(a, np.asarray(b)) for a, b in zip(shown, expected, strict=True))
    links = [attrs[key] for _, attrs in page.tags for key in ("src", "href") if key in attrs]
    assert all(link.startswith("data:") for link in links)
    assert "http" not in text and "url(" not in text and "script" not in [tag for tag, _ in page.tags]
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")


def test_text_from_outside_is_escaped():
    hostile = '<script>alert("x")</script>'
    row = RESULT | {"name": hostile, "dataset": hostile, "kind": '"><b>', "split": "$table"}
    hostile_columns = [Column(hostile, hostile, column.images) for column in columns()]
    page = Page(render_report([row], hostile_columns, {hostile: hostile}, [hostile]))
    assert not {"script", "b"} & {tag for tag, _ in page.tags}
    assert page.text.count(hostile) == 1 + 1 + 2 * 2 + 2 + 1  # summary, table, grid heads, settings, note


def test_best_of_each_metric_is_marked_in_its_direction():
    other = RESULT | {"name": "other", "psnr": 30.0, "lpips": 0.5}
    text = render_report([RESULT, other], columns(), {}, [])
    assert '<td class="best">30.00</td>' in text and '<td class="best">0.250</td>' in text
    assert "<td>20.00</td>" in text and "<td>0.500</td>" in text


def test_metric_that_nobody_has_gets_no_column():
    text = render_report([RESULT | {"lpips": None}], columns(), {}, ["LPIPS was left out."])
    assert "LPIPS&nbsp;" not in text and '<p class="note">LPIPS was left out.</p>' in text


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
