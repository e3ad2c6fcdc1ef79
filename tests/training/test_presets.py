import dataclasses

import pytest
from accelerate import Accelerator

from feat2img.training import DIFFUSION_PRESETS, GAN_PRESETS, DiffusionConfig, GANConfig, parse_config
from feat2img.training.diffusion import DiffusionTask
from feat2img.training.gan import GANTask
from feat2img.training.loop import make_encoder

PRESETS = {"gan": GAN_PRESETS, "diffusion": DIFFUSION_PRESETS}


def parse(*args, presets=GAN_PRESETS):
    return parse_config(presets, "Train.", list(args))


def test_the_default_is_the_reference_recipe():
    assert parse() == GANConfig() and parse(presets=DIFFUSION_PRESETS) == DiffusionConfig()
    config = parse()
    assert (config.encoder, config.encoder_layers) == ("resnet101.a1h_in1k", ("layer3",))
    assert (config.image_size, config.resize_size, config.num_train_epochs) == (224, 256, 50)


def test_flags_override_the_preset():
    for args in (["--preset", "debug", "--seed", "7"], ["--seed", "7", "--preset=debug"]):
        assert parse(*args) == dataclasses.replace(GAN_PRESETS["debug"], seed=7)


def test_flags_have_the_names_of_diffusers_scripts():
    config = parse(
        "--preset", "debug", "--output_dir", "out", "--resume_from_checkpoint", "latest", "--checkpointing_steps", "5",
        "--checkpoints_total_limit", "3", "--mixed_precision", "bf16", "--gradient_accumulation_steps", "2",
        "--report_to", "none", "--seed", "1", "--max_train_steps", "9", "--num_train_epochs", "2", "--no-use_ema",
        "--push_to_hub", "--hub_model_id", "me/it", "--block_out_channels", "16", "8", "--validation_split", "None",
        "--train_batch_size", "2", "--learning_rate", "1e-3", "--lr_scheduler", "constant", "--dataset_name", "x",
        presets=GAN_PRESETS,
    )  # fmt: skip
    expected = dict(
        output_dir="out", resume_from_checkpoint="latest", checkpointing_steps=5, checkpoints_total_limit=3,
        mixed_precision="bf16", gradient_accumulation_steps=2, report_to="none", seed=1, max_train_steps=9,
        num_train_epochs=2, use_ema=False, push_to_hub=True, hub_model_id="me/it", block_out_channels=(16, 8),
        validation_split=None, train_batch_size=2, learning_rate=1e-3, lr_scheduler="constant", dataset_name="x",
    )  # fmt: skip
    assert config == dataclasses.replace(GAN_PRESETS["debug"], **expected)


def test_bad_command_lines_are_refused(capsys):
    with pytest.raises(ValueError, match="unknown --preset tiny; choose one of imagenette-resnet101, .*debug"):
        parse("--preset", "tiny")
    with pytest.raises(ValueError, match="debug, did you mean quickstart?"):
        parse("--preset", "quikstart")
    with pytest.raises(ValueError, match="--preset needs a name"):
        parse("--preset")
    with pytest.raises(SystemExit):
        parse("--preset", "debug", "--learning_rat", "1")
    shown = capsys.readouterr().err
    assert "Perhaps you meant" in shown and "--learning_rate" in shown
    for args in (["--learning-speed", "1"], ["--seed", "x"], ["--lr_scheduler", "linear"]):
        with pytest.raises(SystemExit) as stop:
            parse("--preset", "debug", *args)
        assert stop.value.code not in (0, None)
        assert args[0].lstrip("-") in capsys.readouterr().err


def test_bad_values_are_refused_with_the_configurations_words(capsys):
    with pytest.raises(SystemExit) as stop:
        parse("--preset", "debug", "--train_batch_size", "0")
    assert stop.value.code == 2 and "train_batch_size is 0; expected at least 1" in capsys.readouterr().err


def test_help_names_flags_and_presets(capsys):
    with pytest.raises(SystemExit) as stop:
        parse("--preset", "debug", "--help")
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert "--resume_from_checkpoint" in shown and "quickstart" in shown and "--max_train_minutes" in shown


@pytest.mark.parametrize("kind, name", [(kind, name) for kind, presets in PRESETS.items() for name in presets])
def test_every_preset_builds_its_models(kind, name):
    config = dataclasses.replace(PRESETS[kind][name], encoder_random_weights=True, mixed_precision="no")
    encoder = make_encoder(config)
    task = (GANTask if kind == "gan" else DiffusionTask)(config, encoder, Accelerator())
    pipe = task.pipeline()
    assert pipe.kind == kind and pipe.image_size == config.image_size
    assert pipe.projector.config.feature_channels == encoder.feature_shape[0]
    assert encoder.config.model_name == config.encoder  # with its tag, so that it names its weights
