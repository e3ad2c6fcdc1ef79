"""What launchers and trackers a run can use, and what reaches the trackers."""

import sqlite3
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from feat2img.training import DIFFUSION_PRESETS, GAN_PRESETS, train
from feat2img.training.accelerator import (
    TRACKERS,
    check_tracker,
    make_accelerator,
    precision_notice,
    settle_precision,
)

LOSSES = {"g_loss", "d_loss", "learning_rate"}


@pytest.fixture
def tracked(make_config, photo_folder, tmp_path):
    """`tracked(tracker)` trains two steps and returns the output folder."""

    def start(tracker):
        options = {"report_to": tracker, "max_train_steps": 2, "validation_steps": 2, "logging_steps": 1}
        return train(make_config("gan", dataset_name=str(photo_folder), **options))

    return start


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_launchers_that_split_the_weights_are_refused(make_config, tmp_path, monkeypatch, name):
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ValueError, match=f"configured for {name}, .*examples/accelerate_configs") as error:
        make_accelerator(make_config("gan"), tmp_path)
    assert "\n" not in str(error.value)


def test_trackers_that_are_not_there_are_named(monkeypatch):
    with pytest.raises(ValueError, match="report_to is wandbe; choose one of none, all, .*did you mean wandb"):
        check_tracker("wandbe")
    monkeypatch.setitem(TRACKERS, "wandb", "no_such_package")
    with pytest.raises(ValueError, match="--report_to wandb needs the package no_such_package: pip install"):
        check_tracker("wandb")


def test_tensorboard_gets_the_samples(tracked):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tracked("tensorboard")
    events = EventAccumulator(str(next((folder / "logs").rglob("events.out.tfevents.*")).parent))
    events.Reload()
    assert LOSSES <= set(events.Tags()["scalars"])
    image = events.Images("samples")[-1]
    assert (image.step, image.width, image.height) == (2, *Image.open(folder / "samples" / "step-000002.png").size)


@pytest.mark.slow
def test_wandb_offline_gets_losses_and_samples(tracked, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tracked("wandb")
    (run,) = (folder / "logs" / "wandb").glob("offline-run-*")
    (image,) = (run / "files" / "media" / "images").glob("samples_2_*.png")
    np.testing.assert_array_equal(Image.open(image), Image.open(folder / "samples" / "step-000002.png"))
    (log,) = run.glob("*.wandb")
    assert all(name.encode() in log.read_bytes() for name in LOSSES)


@pytest.mark.slow
def test_trackio_gets_losses_and_samples(tracked, monkeypatch, tmp_path):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # trackio reads it when it is imported
    pytest.importorskip("trackio")
    folder = tracked("trackio")
    samples = Image.open(folder / "samples" / "step-000002.png")
    for path in (images := list((tmp_path / "trackio").rglob("*.png"))):
        np.testing.assert_array_equal(Image.open(path).convert("RGB"), samples)
    assert images
    (database,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        rows = str(connection.execute("SELECT * FROM metrics").fetchall())
    assert all(name in rows for name in LOSSES)


def test_auto_is_settled_before_the_run_and_recorded(native_bfloat16, make_config):
    config = settle_precision(make_config("gan", mixed_precision="auto"))
    assert config.mixed_precision == ("bf16" if native_bfloat16 else "no")
    for chosen in (None, "no", "bf16", "fp16"):
        assert settle_precision(make_config("gan", mixed_precision=chosen)).mixed_precision == chosen
    assert GAN_PRESETS["quickstart"].mixed_precision == DIFFUSION_PRESETS["quickstart"].mixed_precision == "auto"


def test_a_notice_where_bfloat16_was_asked_for_and_is_emulated(native_bfloat16):
    notice = precision_notice(SimpleNamespace(mixed_precision="bf16", device=torch.device("cpu")))
    assert notice is None if native_bfloat16 else "--mixed_precision no" in notice
    assert precision_notice(SimpleNamespace(mixed_precision="no", device=torch.device("cpu"))) is None
    assert precision_notice(Accelerator()) is None


def test_training_tells_of_emulated_bfloat16(make_config, photo_folder, native_bfloat16, capsys):
    config = make_config("gan", dataset_name=str(photo_folder), mixed_precision="bf16", max_train_steps=1)
    train(config)
    assert ("only emulates bfloat16" in capsys.readouterr().out) is not native_bfloat16
