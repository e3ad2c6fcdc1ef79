import dataclasses
import json

import pytest

from feat2img.training import DiffusionConfig, GANConfig
from feat2img.training.config import changed_fields

BAD = {
    "image_size": 0, "resize_size": 100, "train_batch_size": 0, "gradient_accumulation_steps": 0,
    "num_train_epochs": 0, "logging_steps": 0, "validation_steps": -1, "checkpointing_steps": 0,
    "num_validation_images": 0, "max_train_samples": 0, "max_train_steps": -2, "checkpoints_total_limit": 0,
    "max_train_minutes": 0,
    "learning_rate": 0, "ema_decay": 1.0, "seed": -1, "lr_warmup_steps": -1, "max_grad_norm": 0,
    "max_skipped_share": 1.5, "dataloader_num_workers": -1, "lr_scheduler": "linear", "mixed_precision": "fp32",
    "feature_normalization": "batch", "export_dtype": "int8",
}  # fmt: skip
BAD_GAN = {
    "discriminator_start": -0.1, "adversarial_start": 1.1, "perceptual_weight": -1.0, "adversarial_weight": -0.5,
    "gradient_penalty": -2.0, "discriminator": "image", "adversarial_loss": "least_squares",
}  # fmt: skip
BAD_DIFFUSION = {
    "conditioning": "tokens", "condition_dropout": 1.0, "prediction_type": "epsilon", "loss_weighting": "snr",
    "few_steps": 0, "denoising_weight": -1.0,
    "beta_schedule": "cosine", "num_train_timesteps": 0, "num_inference_steps": 0, "patch_size": 0,
}  # fmt: skip


ALL_BAD = [(GANConfig, *bad) for bad in (BAD | BAD_GAN).items()]
ALL_BAD += [(DiffusionConfig, *bad) for bad in (BAD | BAD_DIFFUSION).items()]


@pytest.mark.parametrize("kind, name, value", ALL_BAD)
def test_bad_values_are_refused_by_name(kind, name, value):
    with pytest.raises(ValueError, match=rf"\b{name}\b.*{value}") as error:
        kind(**{name: value})
    assert "\n" not in str(error.value)


def test_contradictions_are_refused():
    with pytest.raises(ValueError, match="adversarial_start is 0.2; expected at least discriminator_start 0.3"):
        GANConfig(discriminator_start=0.3, adversarial_start=0.2)
    for other in ({"random_crop": True}, {"streaming": True, "max_train_steps": 5}):
        with pytest.raises(ValueError, match="--feature_cache_dir"):
            GANConfig(feature_cache_dir="cache", **other)
    with pytest.raises(ValueError, match="--max_train_steps or --max_train_minutes"):
        GANConfig(streaming=True)
    with pytest.raises(ValueError, match="image_size 200 is no multiple of 32 .patch_size 8 and 3 levels"):
        DiffusionConfig(image_size=200, patch_size=8)
    with pytest.raises(ValueError, match="few_steps is 1001; expected 1 to num_train_timesteps 1000"):
        DiffusionConfig(few_steps=1001)


def test_good_values_are_kept():
    GANConfig(max_train_minutes=0.5, mixed_precision=None, checkpoints_total_limit=None, seed=0, resize_size=224)
    GANConfig(streaming=True, max_train_minutes=1)
    DiffusionConfig(prediction_type="v_prediction", loss_weighting="min_snr", condition_dropout=0.0)


def saved(config) -> dict:
    """As a checkpoint holds it: through JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def test_what_a_resumed_run_may_change():
    before = GANConfig(max_train_steps=4, block_out_channels=(8, 4))
    after = dataclasses.replace(
        before, max_train_steps=8, logging_steps=3, output_dir="elsewhere", resume_from_checkpoint="latest",
        export_dtype="float16", dataloader_num_workers=2,
    )  # fmt: skip
    assert changed_fields(before, saved(before)) == ([], [])
    assert changed_fields(after, saved(before)) == ([], [])


def test_what_a_resumed_run_must_not_change():
    before = GANConfig()
    after = dataclasses.replace(before, learning_rate=0.5, block_out_channels=(8, 4), seed=3)
    refused, told = changed_fields(after, saved(before))
    assert refused == ["seed: 0 => 3", "block_out_channels: [256, 128, 64] => [8, 4]"]
    assert told == ["learning_rate: 0.0002 => 0.5"]  # what a run that diverged needs


def test_a_checkpoint_of_the_other_decoder_differs():
    changes, _ = changed_fields(DiffusionConfig(), saved(GANConfig()))
    assert "adversarial_weight: 0.02 => 0.0" in changes
    changes, _ = changed_fields(GANConfig(), saved(DiffusionConfig()))
    assert "adversarial_weight: 0.0 => 0.02" in changes
