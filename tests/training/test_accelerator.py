"""What launchers and trackers a run can use, and what reaches the trackers."""

import sqlite3

import numpy as np
import pytest
from PIL import Image

from feat2img.training import train
from feat2img.training.accelerator import TRACKERS, check_tracker, make_accelerator

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
