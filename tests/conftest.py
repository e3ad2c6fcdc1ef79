"""Tiny real components that the tests of models, pipelines and training share; each is made by a seeded factory."""

import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from PIL import Image

from feat2img.features import TimmFeatureEncoder, precision
from feat2img.models import FeatureGenerator, FeatureProjector
from feat2img.pipelines import Feat2ImgDiffusionPipeline, Feat2ImgGANPipeline

SIZE = 32
MUST_RUN = os.environ.get("FEAT2IMG_BROWSER") == "1"  # as in `make test-browser`: what is missing fails, not skips
BROWSER_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    "--disable-dev-shm-usage",  # containers give /dev/shm little room
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def _encoder(seed: int = 0, layers: tuple[str, ...] = ("layer2",), image_size: int = SIZE) -> TimmFeatureEncoder:
    torch.manual_seed(seed)
    return TimmFeatureEncoder.from_timm("test_resnet", layers, image_size, pretrained=False)


def _projector(encoder: TimmFeatureEncoder, **options) -> FeatureProjector:
    """With statistics and a null condition that are not zero, so that leaving them out shows."""
    channels, *grid = encoder.feature_shape
    options = {"hidden_channels": 16, "num_blocks": 1, "map_channels": 8, "map_size": tuple(grid), **options}
    projector = FeatureProjector(channels, tuple(grid), encoder_fingerprint=encoder.fingerprint(), **options)
    projector.set_statistics(torch.rand(channels), torch.rand(channels) + 0.5)
    torch.nn.init.normal_(projector.null_feature)
    return projector


def _gan(encoder: TimmFeatureEncoder | None = None) -> Feat2ImgGANPipeline:
    encoder = encoder or _encoder()
    torch.manual_seed(0)
    projector = _projector(encoder)
    generator = FeatureGenerator(8, projector.config.map_size, SIZE, (8, 4), layers_per_block=1, head_channels=4)
    return Feat2ImgGANPipeline(encoder, projector, generator, SIZE, SIZE)


def _diffusion(
    conditioning: str = "both",
    prediction_type: str = "v_prediction",
    first_guess: bool = False,
    encoder: TimmFeatureEncoder | None = None,
) -> Feat2ImgDiffusionPipeline:
    encoder = encoder or _encoder()
    torch.manual_seed(0)
    attends = conditioning != "concat"
    guess = _gan(encoder) if first_guess else None
    torch.manual_seed(0)
    tokens = {"token_dim": 16} if attends else {}
    projector = _projector(encoder, map_size=(8, 8), **tokens)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=48 + (8 if conditioning != "cross_attention" else 0) + (48 if first_guess else 0),
        out_channels=48,
        block_out_channels=(16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D" if attends else "DownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn" if attends else "UNetMidBlock2D",
        up_block_types=("CrossAttnUpBlock2D" if attends else "UpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
    )
    scheduler = DDIMScheduler(
        prediction_type=prediction_type,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=True,
    )
    guess_parts = {"guess_projector": guess.projector, "guess_generator": guess.generator} if guess else {}
    pipeline = Feat2ImgDiffusionPipeline(
        encoder, projector, unet, scheduler, SIZE, SIZE, 4, conditioning, **guess_parts
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def make_encoder():
    """`make_encoder(seed=0, layers=("layer2",), image_size=32)`: test_resnet with random weights."""
    return _encoder


@pytest.fixture(scope="session")
def make_gan():
    """`make_gan(encoder=None)`: a GAN pipeline of 32 pixels with random weights."""
    return _gan


@pytest.fixture(scope="session")
def make_diffusion():
    """`make_diffusion(conditioning="both", prediction_type="v_prediction", first_guess=False, encoder=None)`."""
    return _diffusion


def save_photos(folder: Path, count: int, seed: int, size: tuple[int, int] = (80, 72)) -> None:
    """Write PNG photos of coarse coloured shapes."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"photo{number:02}.png")


@pytest.fixture
def photo_folder(tmp_path, monkeypatch) -> Path:
    """An image folder with 12 training and 3 validation photos; `datasets` keeps its files in `tmp_path` too."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")
    # datasets 5 sleeps for five seconds when a stream is left early
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)
    save_photos(tmp_path / "photos" / "train", 12, seed=1)
    save_photos(tmp_path / "photos" / "validation", 3, seed=2)
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def save_some_photos():
    """`save_some_photos(folder, count)`: write PNG photos of coarse coloured shapes."""
    return lambda folder, count: save_photos(folder, count, seed=3, size=(96, 80))


@pytest.fixture
def photos() -> list[Image.Image]:
    """Two PIL images of different sizes."""
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
        for size in ((48, 40), (32, 36))
    ]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium without a window. Its console and its requests are in `get_log("browser")` and `("performance")`."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not (chromium and chromedriver):
        message = "needs chromium and chromedriver (Debian: chromium, chromium-driver)"
        pytest.fail(message) if MUST_RUN else pytest.skip(message)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*BROWSER_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def show_page(browser):
    """`show_page(url, width=1280, scheme="light")`: open a page at a width in pixels, light or dark."""

    def show(url: str, width: int = 1280, scheme: str = "light") -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get(url)

    return show


FILE_EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")


def _killed_before_event(number: int, action) -> bool:
    """The kill comes from an audit hook: Python reports each change of files just before it is made."""
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL)
        return status != 0
    count = 0

    def kill(event, arguments):
        nonlocal count
        count += event in FILE_EVENTS
        if event in FILE_EVENTS and count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(kill)
        action()
        os._exit(0)
    finally:
        os._exit(1)


@pytest.fixture(scope="session")
def killed_before_event():
    """`killed_before_event(number, action)`: run in a process that is killed before its change `number` of files;
    whether it got that far."""
    return _killed_before_event


@pytest.fixture(params=[True, False], ids=["native", "emulated"])
def native_bfloat16(request, monkeypatch) -> bool:
    """Whether the CPU that the test pretends to run on has instructions for bfloat16."""
    found = {"avx2", "avx512_bf16"} if request.param else {"avx2", "avx512_f"}
    monkeypatch.setattr(precision, "cpu_instruction_sets", lambda: found)
    return request.param
