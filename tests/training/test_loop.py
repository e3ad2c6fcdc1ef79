"""The whole run: data to exported pipeline, interruption and resumption, and what stops it."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from feat2img import Feat2ImgPipeline
from feat2img.training import loop, train
from feat2img.training.checkpoints import list_checkpoints, load_checkpoint

KINDS = ["gan", "diffusion"]


@pytest.fixture
def run(make_config, photo_folder, tmp_path):
    """`run(kind, name="out", **changes)` trains on the tiny image folder and returns the output folder."""

    def start(kind, name="out", **changes):
        settings = {"dataset_name": str(photo_folder), "report_to": "none", "max_train_steps": 2, **changes}
        return train(make_config(kind, output_dir=str(tmp_path / name), **settings))

    return start


def exported_weights(folder):
    files = sorted(folder.glob("*/diffusion_pytorch_model.safetensors"))
    assert len(files) == 3  # encoder, projector, and generator or denoiser
    return {(file.parent.name, name): value for file in files for name, value in load_file(file).items()}


def assert_equal_exports(first, second):
    one, other = exported_weights(first), exported_weights(second)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def read_losses(folder):
    """Scalar => its values step by step, but for the speed, and for accuracies, where a sign counts."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(next((folder / "logs").rglob("events.out.tfevents.*")).parent))
    events.Reload()
    names = [name for name in events.Tags()["scalars"] if name != "images_per_second" and "accuracy" not in name]
    return {name: [event.value for event in events.Scalars(name)] for name in names}


def reconstruct(folder):
    pipe = Feat2ImgPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 2} if pipe.kind == "diffusion" else {}
    pixels = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)
    return pipe(images=pixels, generator=torch.Generator().manual_seed(0), output_type="pt", **options).images


def test_a_run_that_begins_with_a_pipeline_keeps_its_statistics(run, photo_folder):
    """The weights were trained on features standardised by those."""
    first = run("gan", "first", max_train_samples=2, max_train_steps=1)
    second = run("gan", "second", init_from=str(first), max_train_steps=1)
    for name in ("feature_mean", "feature_std"):
        key = ("projector", name)
        torch.testing.assert_close(exported_weights(second)[key], exported_weights(first)[key])


# resuming


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", ["on the fly", "cached", "accumulated"])
def test_two_steps_and_two_more_equal_four(run, tmp_path, kind, variant):
    options = {
        "on the fly": {"lr_scheduler": "constant"},
        "cached": {"lr_scheduler": "constant", "feature_cache_dir": str(tmp_path / "cache")},
        "accumulated": {"lr_scheduler": "constant", "gradient_accumulation_steps": 2, "random_crop": True},
    }[variant]
    straight = run(kind, "straight", max_train_steps=4, **options)
    resumed = run(kind, "resumed", max_train_steps=2, **options)
    two_steps = exported_weights(resumed)
    run(kind, "resumed", max_train_steps=4, resume_from_checkpoint="latest", **options)
    assert_equal_exports(straight, resumed)
    four_steps = exported_weights(straight)
    moved = {part for (part, name), value in four_steps.items() if not torch.equal(value, two_steps[part, name])}
    assert moved == {"projector", "generator" if kind == "gan" else "unet"}
    for folder in (straight, resumed):
        summary = json.loads((folder / "training.json").read_text())
        assert summary["steps"] == 4 and summary["images_seen"] == 8 * options.get("gradient_accumulation_steps", 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_run_can_be_resumed_without_compiling(run, kind, monkeypatch):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")  # traces as Inductor does, and compiles nothing
    folder = run(kind)
    monkeypatch.delenv("ACCELERATE_DYNAMO_BACKEND")
    _, states, _ = load_checkpoint(folder / "checkpoint-2")
    assert not [key for state in states.values() for key in state if "_orig_mod" in str(key)]
    run(kind, max_train_steps=3, resume_from_checkpoint="latest")
    assert json.loads((folder / "training.json").read_text())["steps"] == 3


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_with_a_schedule_goes_on_as_if_nothing_happened(run, kind):
    straight = run(kind, "straight", max_train_steps=4)
    assert [path.name for path in list_checkpoints(straight)] == ["checkpoint-2", "checkpoint-4"]
    resumed = run(kind, "resumed", max_train_steps=4, resume_from_checkpoint=str(straight / "checkpoint-2"))
    assert_equal_exports(straight, resumed)


@pytest.mark.parametrize("kind", KINDS)
def test_accumulated_batches_equal_the_large_batch(run, kind):
    """The same examples, flips and noise; only rounding differs, which Adam's first steps can enlarge."""
    options = {"report_to": "tensorboard", "max_train_steps": 4, "use_ema": False, "adam_weight_decay": 0.0}
    large = run(kind, "large", train_batch_size=4, **options)
    small = run(kind, "small", train_batch_size=2, gradient_accumulation_steps=2, **options)
    first, second = read_losses(large), read_losses(small)
    assert first.keys() == second.keys() and len(first) >= 2
    for name, values in first.items():
        assert second[name] == pytest.approx(values, rel=1e-2, abs=1e-3), name
    one, other = exported_weights(large), exported_weights(small)
    moved = torch.cat([(one[name] - other[name]).abs().flatten().float() for name in one if name[0] != "encoder"])
    assert moved.max() < 2e-3 and (moved > 1e-5).float().mean() < 0.02


def test_a_complete_run_resumed_exports_the_same_again(run):
    folder = run("gan")
    before = exported_weights(folder)
    run("gan", resume_from_checkpoint="latest")
    after = exported_weights(folder)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_resuming_latest_without_a_checkpoint_starts_anew(run):
    assert_equal_exports(run("gan", "first"), run("gan", "second", resume_from_checkpoint="latest"))


def test_resuming_with_other_settings_is_refused(run):
    folder = run("gan")
    with pytest.raises(ValueError, match="seed: 0 => 1.*resume with the same"):
        run("gan", seed=1, learning_rate=0.1, resume_from_checkpoint="latest")
    with pytest.raises(ValueError, match="block_out_channels"):
        run("diffusion", resume_from_checkpoint="latest")
    with pytest.raises(ValueError, match="no checkpoint checkpoint-7 .*checkpoint-2"):
        run("gan", resume_from_checkpoint="checkpoint-7")
    weights = folder / "checkpoint-2" / "decoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="checkpoint-2 is no complete checkpoint"):
        run("gan", resume_from_checkpoint="latest")


def test_another_seed_gives_another_model(run):
    first, second = exported_weights(run("gan", "first")), exported_weights(run("gan", "second", seed=1))
    assert any(not torch.equal(first[name], second[name]) for name in first)


# what a run writes


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_run_writes(run, kind):
    folder = run(kind, report_to="tensorboard", max_train_steps=4, validation_steps=2)
    pipe = Feat2ImgPipeline.from_pretrained(folder)
    assert pipe.kind == kind and pipe.image_size == 32 and pipe.resize_size == 36
    images = reconstruct(folder)
    assert images.shape == (1, 3, 32, 32) and torch.isfinite(images).all()
    assert sorted(path.name for path in (folder / "samples").iterdir()) == ["step-000002.png", "step-000004.png"]
    grid = np.asarray(Image.open(folder / "samples" / "step-000004.png"))
    assert grid.shape == (2 * 32 + 3 * 4, 2 * 32 + 3 * 4, 3)  # two photos above, two reconstructions below
    assert list((folder / "logs").rglob("events.out.tfevents.*"))
    summary = json.loads((folder / "training.json").read_text())
    assert summary["steps"] == 4 and summary["num_processes"] == 1 and summary["device"] == "cpu"
    assert summary["config"]["max_train_steps"] == 4 and summary["config"]["encoder_layers"] == ["layer2"]
    assert {path.suffix for path in folder.rglob("checkpoint-*/*")} == {".json", ".safetensors"}
    assert Image.open(folder / "samples.jpg").size == Image.open(folder / "samples" / "step-000004.png").size
    card = (folder / "README.md").read_text()
    assert "| steps | 4 |" in card and "(samples.jpg)" in card and "It holds weights" not in card  # random ones


def test_the_sample_grid_shows_photos_and_reconstructions(run, photo_folder):
    """The last grid is made with the weights that are exported."""
    folder = run("gan", num_validation_images=2, resize_size=32, use_ema=True, learning_rate=1e-2)
    grid = np.asarray(Image.open(folder / "samples" / "step-000002.png")).astype(int)
    from feat2img.data import ImageTransform

    files = sorted((photo_folder / "validation").glob("*.png"))
    cells = [grid[y : y + 32, x : x + 32] for y in (4, 40) for x in (4, 40)]
    crops = [(ImageTransform(32, 32)(Image.open(file)).permute(1, 2, 0).numpy() + 1) * 127.5 for file in files]
    found = [min(range(3), key=lambda index: np.abs(crops[index] - cell).mean()) for cell in cells[:2]]
    assert len(set(found)) == 2 and all(np.abs(crops[i] - c).max() < 1 for i, c in zip(found, cells, strict=False))
    pipe = Feat2ImgPipeline.from_pretrained(folder)
    made = pipe(images=[Image.open(files[index]) for index in found], output_type="np").images * 255
    for image, cell in zip(made, cells[2:], strict=True):
        assert np.abs(image - cell).max() < 1.5


@pytest.mark.parametrize("kind", KINDS)
def test_sample_grids_leave_the_training_alone(run, kind):
    often = run(kind, "often", max_train_steps=3, validation_steps=1, learning_rate=1e-2)
    assert len(list((often / "samples").iterdir())) == 3
    assert_equal_exports(often, run(kind, "once", max_train_steps=3, validation_steps=100, learning_rate=1e-2))


def test_tensorboard_holds_every_loss(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = run("gan", report_to="tensorboard")
    events = EventAccumulator(str(next((folder / "logs").rglob("events.out.tfevents.*")).parent))
    events.Reload()
    names = {"g_loss", "pixel_loss", "perceptual_loss", "adversarial_loss", "d_loss", "d_accuracy_real"}
    assert names | {"d_accuracy_fake", "d_accuracy", "learning_rate"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("g_loss")] == [1, 2]
    assert "samples" in events.Tags()["images"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_export_in_half_precision(run, dtype):
    folder = run("gan", export_dtype=dtype)
    assert {value.dtype for value in exported_weights(folder).values()} <= {getattr(torch, dtype), torch.int64}
    assert torch.isfinite(reconstruct(folder)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_training(run, kind):
    assert torch.isfinite(reconstruct(run(kind, mixed_precision="bf16"))).all()


def test_checkpoints_hold_the_live_weights_and_the_export_the_ema(run):
    folder = run("gan", learning_rate=1e-2, max_train_steps=4)
    _, states, _ = load_checkpoint(folder / "checkpoint-4")
    live, exported = states["decoder"], exported_weights(folder)
    name = "generator.last.weight"
    assert not torch.equal(live[name], exported["generator", "last.weight"])
    assert any(torch.equal(shadow, exported["generator", "last.weight"]) for shadow in states["ema"]["shadow_params"])
    plain = run("gan", "plain", use_ema=False, max_train_steps=4)
    _, states, _ = load_checkpoint(plain / "checkpoint-4")
    assert torch.equal(states["decoder"][name], exported_weights(plain)["generator", "last.weight"])
    assert "ema" not in states


# other ways to the data


def test_cached_features_train_nearly_the_same_model(run, tmp_path):
    """Cached features are rounded to float16; with the same flips nothing else may differ."""
    options = {"random_flip": False, "learning_rate": 1e-6, "use_ema": False}
    first = exported_weights(run("gan", "fly", **options))
    second = exported_weights(run("gan", "cached", feature_cache_dir=str(tmp_path / "cache"), **options))
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=1e-3, rtol=1e-2)
    assert list((tmp_path / "cache").glob("*/features.npy"))


@pytest.mark.parametrize("kind", KINDS)
def test_streaming(run, kind, monkeypatch):
    monkeypatch.setattr(loop, "STATISTICS_IMAGES", 8)
    folder = run(kind, streaming=True, max_train_steps=3)
    assert torch.isfinite(reconstruct(folder)).all()
    assert json.loads((folder / "training.json").read_text())["images_seen"] == 6


def test_photos_of_the_grid_from_the_training_split(run):
    assert (run("gan", validation_split=None) / "samples" / "step-000002.png").is_file()


def test_epochs_decide_where_no_steps_are_given(run):
    folder = run("gan", max_train_steps=None, num_train_epochs=3, max_train_samples=5)
    assert json.loads((folder / "training.json").read_text())["steps"] == 6  # 2 batches of 2 in an epoch of 5


def test_a_text_file_among_the_photos_is_skipped_and_named(run, photo_folder, capsys):
    (photo_folder / "train" / "notes.jpg").write_text("not a photo")
    run("gan", max_train_steps=13, max_skipped_share=0.3)
    assert re.search(r"skipped 1 of 13 photos: \S*notes.jpg", capsys.readouterr().out)  # met once in every epoch


# what ends a run early


@pytest.mark.parametrize("kind", KINDS)
def test_minutes_end_the_run_and_export(run, kind, capsys):
    folder = run(kind, max_train_steps=None, max_train_minutes=1e-6)
    assert torch.isfinite(reconstruct(folder)).all()
    assert f"pipeline saved to {folder}" in capsys.readouterr().out


def test_minutes_end_a_run_among_its_steps(run, monkeypatch):
    monkeypatch.setattr(loop, "STATISTICS_IMAGES", 2)
    folder = run("gan", max_train_steps=10**6, max_train_minutes=0.03, checkpointing_steps=10**6)
    summary = json.loads((folder / "training.json").read_text())
    assert 0.03 <= summary["minutes"] < 2 and summary["images_seen"] == 2 * summary["steps"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("logging_steps", [1, 100])
def test_a_loss_that_is_not_finite_stops_the_run_without_export(run, tmp_path, kind, logging_steps):
    options = {"max_train_steps": 6, "checkpointing_steps": 100, "logging_steps": logging_steps}
    with pytest.raises(ValueError, match=r"loss.* not finite at step \d.*--learning_rate"):
        run(kind, learning_rate=1e30, max_grad_norm=1e30, **options)
    assert not (tmp_path / "out" / "model_index.json").exists()
    assert list_checkpoints(tmp_path / "out") == []


def test_bad_data_are_refused(run, tmp_path, photo_folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no photos in .*empty"):
        run("gan", dataset_name=str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="there is no data set at"):
        run("gan", dataset_name=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="no split 'test'"):
        run("gan", validation_split="test")
    with pytest.raises(ValueError, match="12 training images for a batch of 13.*--train_batch_size"):
        run("gan", train_batch_size=13)
    for file in (photo_folder / "train").iterdir():
        file.write_text("not a photo")
    with pytest.raises(ValueError, match="none of the 12 photos can be read"):
        run("gan")


def test_bad_streams_are_refused(run, photo_folder):
    options = {"streaming": True, "max_train_steps": 2}
    with pytest.raises(ValueError, match="streams fewer readable images than --train_batch_size"):
        run("gan", train_batch_size=13, **options)
    for file in (photo_folder / "train").iterdir():
        file.write_text("not a photo")
    with pytest.raises(ValueError, match="12 cannot be read, the first: .*photo"):
        run("gan", **options)


def test_too_many_unreadable_photos_stop_the_run(run, photo_folder):
    for number in range(8):
        (photo_folder / "train" / f"photo{number:02}.png").write_text("not a photo")
    with pytest.raises(ValueError, match="skipped .* of .* photos.*at most 5%"):
        run("gan", max_train_steps=4)


def test_bad_output_and_encoder_are_refused(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="output_dir .*file is a file; give a folder"):
        run("gan", "file")
    with pytest.raises(ValueError, match="layer9"):
        run("gan", encoder_layers=("layer9",))
    with pytest.raises(ValueError, match="timm has no model 'resnet999'"):
        run("gan", encoder="resnet999")
    with pytest.raises(ValueError, match="is not a whole multiple"):
        run("gan", block_out_channels=(8, 8, 8, 8, 8))
