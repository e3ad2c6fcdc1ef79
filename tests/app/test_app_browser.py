"""The app in a real browser, served by the command line as a user starts it."""

import importlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

if os.environ.get("FEAT2IMG_BROWSER") != "1":  # in `make test-browser` what is missing fails, not skips
    pytest.importorskip("selenium", reason="needs the package selenium")
    pytest.importorskip("gradio", reason="needs the package gradio")
By = importlib.import_module("selenium.webdriver.common.by").By
Wait = importlib.import_module("selenium.webdriver.support.ui").WebDriverWait

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
START_SECONDS = 120


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory, make_gan, make_diffusion) -> list[str]:
    folder = tmp_path_factory.mktemp("pipelines")
    make_gan().save_pretrained(folder / "gan")
    make_diffusion().save_pretrained(folder / "diffusion")
    return [str(folder / "gan"), str(folder / "diffusion")]


@pytest.fixture(scope="module")
def server(pipelines, tmp_path_factory):
    """The address of a running app; the process must not have printed a traceback when the tests are through."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("app") / "log.txt"
    command = [sys.executable, "-m", "feat2img.cli", "app", *pipelines, "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "https_proxy": "http://127.0.0.1:9"}
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    url = f"http://127.0.0.1:{port}/"
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
    yield url
    process.terminate()
    process.wait(30)
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
def page(browser, show_page, server):
    """`page(width=1280)`: the app, ready for a photo."""

    def show(width: int = 1280) -> None:
        show_page(server, width)
        Wait(browser, 60).until(lambda browser: browser.find_elements(By.CSS_SELECTOR, "#f2i-photo input[type=file]"))

    return show


def upload(browser, path: Path) -> None:
    browser.find_element(By.CSS_SELECTOR, "#f2i-photo input[type=file]").send_keys(str(path))


def cards(browser) -> list[str]:
    """The captions of the cards, once there are some."""
    Wait(browser, 60).until(lambda browser: browser.find_elements(By.CSS_SELECTOR, ".f2i-card"))
    return [card.text for card in browser.find_elements(By.CSS_SELECTOR, ".f2i-card figcaption")]


def message(browser) -> str:
    """The text of the message that popped up."""
    return Wait(browser, 60).until(lambda browser: browser.find_element(By.CSS_SELECTOR, ".toast-body").text)


def shown_sizes(browser, selector: str) -> list[list[int]]:
    script = "return [...document.querySelectorAll(arguments[0])].map((i) => [i.naturalWidth, i.naturalHeight])"
    return browser.execute_script(script, selector)


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8))
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    coarse.resize((80, 60)).save(path)
    return path


@pytest.mark.parametrize("width", [1280, 390])
def test_an_uploaded_photo_is_reconstructed_and_everything_fits(browser, page, photo, width):
    page(width)
    upload(browser, photo)
    assert [text.split()[0] for text in cards(browser)] == ["original", "gan", "diffusion"]
    assert shown_sizes(browser, ".f2i-card img") == [[32, 32]] * 3
    figures = browser.find_elements(By.CSS_SELECTOR, ".f2i-card dl")[1].text
    assert re.search(r"PSNR ↑\s+[\d.]+ dB", figures) and re.search(r"decode\s+[\d.]+ m?s", figures)
    assert browser.execute_script(OVERFLOW) == 0
    wiped = Wait(browser, 30).until(lambda browser: shown_sizes(browser, "#f2i-wipe img"))
    assert wiped == [[32, 32]] * 2


def test_the_wipe_changes_with_its_choice_and_the_button_runs_again(browser, page, photo):
    page()
    upload(browser, photo)
    cards(browser)
    find = "return [...document.querySelectorAll('#f2i-wipe img')].map((image) => image.src)"
    before = Wait(browser, 30).until(lambda browser: browser.execute_script(find))
    browser.find_elements(By.CSS_SELECTOR, "#f2i-choice input")[1].click()
    Wait(browser, 30).until(lambda browser: browser.execute_script(find) not in ([], before))
    after = browser.execute_script(find)
    assert after[0] == before[0] and after[1] != before[1]

    browser.find_elements(By.CSS_SELECTOR, "#f2i-decoders input")[0].click()  # without the GAN
    browser.find_element(By.ID, "f2i-run").click()
    Wait(browser, 60).until(lambda browser: len(browser.find_elements(By.CSS_SELECTOR, ".f2i-card")) == 2)
    assert cards(browser)[1].startswith("diffusion")


def test_what_goes_wrong_is_a_message(browser, page, tmp_path, photo):
    page()
    browser.find_element(By.ID, "f2i-run").click()
    assert "drop in a photo" in message(browser)

    page()
    (tmp_path / "broken.jpg").write_bytes(b"this is no photo")
    upload(browser, tmp_path / "broken.jpg")
    assert "broken.jpg cannot be read: not an image file of a known kind" in message(browser)
    assert browser.find_elements(By.CSS_SELECTOR, ".f2i-card") == []

    page()
    for box in browser.find_elements(By.CSS_SELECTOR, "#f2i-decoders input"):
        box.click()
    upload(browser, photo)
    assert "choose at least one decoder" in message(browser)


def test_an_example_is_reconstructed(browser, page):
    pytest.importorskip("skimage", reason="the examples are scikit-image's photos")
    page()
    browser.find_element(By.CSS_SELECTOR, "#f2i-examples button").click()
    assert len(cards(browser)) == 3


def test_nothing_is_fetched_from_elsewhere_and_the_console_stays_silent(browser, page, photo, server):
    browser.get_log("performance"), browser.get_log("browser")
    page()
    upload(browser, photo)
    cards(browser)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert sent and [url for url in sent if not url.startswith((server, "data:", "blob:"))] == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
