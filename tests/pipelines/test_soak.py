"""A pipeline that serves for long: its memory stays what it was."""

import ctypes
import gc
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from feat2img import Feat2ImgPipeline

CALLS = 2000
ALLOWED_MEGABYTES = 12  # one float32 image of 32 pixels, kept by each of 1,600 calls, would be 19


def resident() -> float:
    """Megabytes of this process's memory, once what was freed is given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


def serve(pipe, calls: int) -> None:
    """Calls with one to five photos of sizes that vary, as an app or a server gets them."""
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(rng.integers(0, 256, (30 + i, 50 - i, 3), dtype=np.uint8)) for i in range(16)]
    steps = {"num_inference_steps": 1} if pipe.kind == "diffusion" else {}
    for call in range(calls):
        chosen = [photos[int(index)] for index in rng.integers(0, 16, 1 + call % 5)]
        kind = ("pil", "np", "pt")[call % 3]
        images = pipe(images=chosen, generator=torch.Generator().manual_seed(call), output_type=kind, **steps).images
        assert len(images) == len(chosen)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "kind, calls",
    [
        ("gan", 200),
        pytest.param("gan", CALLS, marks=pytest.mark.slow),
        pytest.param("diffusion", CALLS, marks=pytest.mark.slow),
    ],
)
def test_memory_stays_flat(make_gan, make_diffusion, tmp_path, kind, calls):
    (make_gan if kind == "gan" else make_diffusion)().save_pretrained(tmp_path)
    pipe = Feat2ImgPipeline.from_pretrained(tmp_path)
    pipe.set_progress_bar_config(disable=True)
    serve(pipe, calls // 5)
    before = resident()
    serve(pipe, calls - calls // 5)
    assert resident() - before < ALLOWED_MEGABYTES


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_measure_sees_a_leak():
    before, kept = resident(), [torch.ones(3, 32, 32) for _ in range(1600)]
    assert resident() - before > ALLOWED_MEGABYTES and kept
