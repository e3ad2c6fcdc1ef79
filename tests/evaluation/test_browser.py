"""The report in a real browser: nothing goes wrong on the console, it fits phones, and the zoom works."""

import importlib
import os

import numpy as np
import pytest
from PIL import Image

from feat2img.evaluation.grid import Column
from feat2img.evaluation.report import render_report
from feat2img.evaluation.report_data import ReportData

if os.environ.get("FEAT2IMG_BROWSER") != "1":  # in `make test-browser` a missing selenium fails, not skips
    pytest.importorskip("selenium", reason="needs the package selenium")
By = importlib.import_module("selenium.webdriver.common.by").By
Keys = importlib.import_module("selenium.webdriver.common.keys").Keys

PAPERS = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 22, 26)"}


def report_data() -> ReportData:
    """Three pipelines, one with a name that does not fit anywhere, and a baseline; 3 photos of 160 px."""
    rng = np.random.default_rng(0)
    rows, per_image, columns = [], {}, []
    for i, name in enumerate(["gan", "diffusion", "a-name-without-end-" * 6, "mean image"]):
        kind = "baseline" if name == "mean image" else "gan"
        cost = {} if kind == "baseline" else {"latency_ms": 10.0 * 4**i, "parameters": 5_800_000}
        scores = {"lpips": 0.3 + 0.1 * i, "lpips_low": 0.29 + 0.1 * i, "lpips_high": 0.31 + 0.1 * i, "psnr": 20.0 - i}
        more = {"verifier_top1": 0.5, "sharpness": 0.7, "kid": 0.01, "frechet": 12.0, "feature_cosine": 0.8}
        rows.append({"name": name, "kind": kind, "num_inference_steps": None, "num_images": 3} | scores | more | cost)
        per_image[name] = {"lpips": list(rng.uniform(0.2, 0.5, 3)), "psnr": [20.0, 21.0, 22.0]}
    for title in ["original", *(row["name"] for row in rows)]:
        images = [Image.fromarray(rng.integers(0, 256, (160, 160, 3), dtype=np.uint8)) for _ in range(3)]
        columns.append(Column(title, "1 pass", images))
    return ReportData(
        rows=rows,
        per_image=per_image,
        labels=[0, 1, 1],
        class_names=["tench", "English springer"],
        columns=columns,
        cases={"best": [[column._replace(images=column.images[:1]) for column in columns]]},
        curves={"gan": {"g_loss": [(step, 1 / (step + 1)) for step in range(50)]}},
        settings={"Command": "feat2img compare " + "path/without/spaces/" * 20},
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_report(report_data()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def open_report(report, show_page):
    """`open_report(width=1280, scheme="light")`: the report in the browser."""
    return lambda width=1280, scheme="light": show_page(report, width, scheme)


def zoomed(browser) -> list[str]:
    """Sources of the photos in the open dialog, none when it is closed."""
    return browser.execute_script(
        "return [...document.querySelectorAll('dialog[open] .zoomed img')].map((image) => image.src)"
    )


def sources(browser, group: str, photo: int) -> list[str]:
    selector = f"button[data-set='{group}'][data-photo='{photo}'] img"
    return [image.get_attribute("src") for image in browser.find_elements(By.CSS_SELECTOR, selector)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_report_fits_and_the_console_stays_silent(browser, open_report, width, scheme):
    open_report(width, scheme)
    assert browser.execute_script("return document.documentElement.clientWidth") <= width
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(overflow) == 0
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == PAPERS[scheme]
    browser.execute_script("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert browser.execute_script(overflow) == 0
    browser.find_elements(By.CSS_SELECTOR, "button[data-set]")[0].click()
    assert len(zoomed(browser)) == 5
    assert (
        browser.execute_script("const d = document.querySelector('.zoomed'); return d.scrollWidth - d.clientWidth")
        == 0
    )
    browser.find_element(By.CSS_SELECTOR, "dialog .close").click()
    assert zoomed(browser) == []
    assert browser.get_log("browser") == []


def test_photos_are_shown_at_their_size_and_links_lead_to_their_parts(browser, open_report):
    open_report()
    sizes = "return [...document.images].map((image) => [image.naturalWidth, image.naturalHeight])"
    assert set(map(tuple, browser.execute_script(sizes))) == {(160, 160)}
    for link in browser.find_elements(By.CSS_SELECTOR, "nav a"):
        title = link.text
        link.click()
        part = browser.find_element(By.CSS_SELECTOR, ":target")
        assert part.find_element(By.TAG_NAME, "h2").text == title
    assert browser.get_log("browser") == []


def test_headings_within_a_table_stay_in_view_on_a_phone(browser, open_report):
    open_report(390)
    table = browser.find_element(By.CSS_SELECTOR, "#scores .scroll")
    browser.execute_script("arguments[0].scrollLeft = 200", table)
    assert browser.execute_script("return arguments[0].scrollLeft", table) == 200
    for selector in ("tr.group span", "tr.baseline th"):
        place = table.find_element(By.CSS_SELECTOR, selector).rect
        assert place["x"] >= 0 and place["x"] + place["width"] <= 390


def test_zoom_shows_one_photo_of_all_and_goes_through_them(browser, open_report):
    open_report()
    browser.find_elements(By.CSS_SELECTOR, "button[data-set='the first'][data-photo='1']")[2].click()
    assert zoomed(browser) == sources(browser, "the first", 1)
    title = browser.find_element(By.ID, "zoom-title")
    assert title.text == "Photo 2 of 3"
    browser.find_element(By.CSS_SELECTOR, "dialog .next").click()
    assert zoomed(browser) == sources(browser, "the first", 2)
    browser.find_element(By.CSS_SELECTOR, "dialog .next").click()
    assert zoomed(browser) == sources(browser, "the first", 0) and title.text == "Photo 1 of 3"
    browser.find_element(By.CSS_SELECTOR, "dialog .previous").click()
    assert title.text == "Photo 3 of 3"
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert zoomed(browser) == []


def test_zoom_works_from_the_keyboard_and_gives_the_focus_back(browser, open_report):
    open_report()
    tile = browser.find_elements(By.CSS_SELECTOR, "button[data-set='the first']")[0]
    browser.execute_script("arguments[0].focus()", tile)
    tile.send_keys(Keys.ENTER)
    assert len(zoomed(browser)) == 5
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert zoomed(browser) == sources(browser, "the first", 1)
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert zoomed(browser) == [] and browser.switch_to.active_element == tile


def test_cases_open_with_their_own_photos_alone(browser, open_report):
    open_report()
    browser.find_elements(By.CSS_SELECTOR, "button[data-set='best']")[0].click()
    assert zoomed(browser) == sources(browser, "best", 0)
    assert browser.find_element(By.ID, "zoom-title").text == "Photo 1 of 1"
