import dataclasses

import pytest
from accelerate.state import AcceleratorState, GradientState

from feat2img.training import DIFFUSION_PRESETS, GAN_PRESETS


@pytest.fixture(autouse=True)
def fresh_accelerate(monkeypatch):
    """On the CPU, where results repeat bit for bit, and without what accelerate keeps from one test to the next."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture
def make_config(tmp_path):
    """`make_config(kind, **changes)`: the debug preset at 32 pixels with its output in `tmp_path / "out"`."""

    def make(kind: str, **changes):
        preset = (GAN_PRESETS if kind == "gan" else DIFFUSION_PRESETS)["debug"]
        small = {"image_size": 32, "resize_size": 36, "encoder_layers": ("layer2",), "train_batch_size": 2}
        settings = {"output_dir": str(tmp_path / "out"), **small, **changes}
        return dataclasses.replace(preset, **settings)

    return make
