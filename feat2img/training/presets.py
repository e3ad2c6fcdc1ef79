"""Named settings, and the command line made of a configuration."""

import difflib
import sys
from typing import TypeVar

from .config import DiffusionConfig, GANConfig, TrainingConfig

Config = TypeVar("Config", bound=TrainingConfig)

_DEBUG = dict(
    encoder="test_resnet.r160_in1k", encoder_layers=("layer3",), encoder_random_weights=True,
    image_size=64, resize_size=64, max_train_samples=64, train_batch_size=4, max_train_steps=4, projector_channels=32,
    projector_blocks=1, lr_warmup_steps=1, logging_steps=1, validation_steps=4, num_validation_images=2,
    checkpointing_steps=2,
)  # fmt: skip

_TO_THE_HOOK = ("blocks.0", "blocks.1", "blocks.2", "blocks.4")  # the hooked layer is the last
_BEHIND_IT = (*_TO_THE_HOOK, "blocks.6", "bn2")  # for a decoder that has learnt the others: from nothing they delay it

_QUICKSTART = dict(
    encoder="tf_efficientnet_lite0.in1k", encoder_layers=("blocks.4",), feature_cache_dir="feature-cache",
    mixed_precision="auto", max_train_minutes=60, train_batch_size=8, lr_warmup_steps=50, ema_decay=0.998,
    discriminator="feature", discriminator_learning_rate=6e-4, adversarial_weight=0.1, projector_blocks=1,
    export_dtype="float16", checkpointing_steps=500, validation_steps=500,
)  # fmt: skip

# The reference recipe is the defaults: ResNet-101 layer3, 224 px, 50 epochs.
GAN_PRESETS = {
    "imagenette-resnet101": GANConfig(),
    "imagenette-resnet50": GANConfig(encoder="resnet50.a1_in1k"),
    "quickstart": GANConfig(
        **_QUICKSTART, learning_rate=6e-4, perceptual_layers=_TO_THE_HOOK, discriminator_start=0.6,
        adversarial_start=0.65,
    ),
    "debug": GANConfig(
        **_DEBUG, block_out_channels=(32, 16), layers_per_block=1, head_channels=8, discriminator_channels=(8, 16),
        discriminator_start=0.0, adversarial_start=0.0,
    ),
}  # fmt: skip

DIFFUSION_PRESETS = {
    "imagenette-resnet101": DiffusionConfig(),
    "imagenette-resnet50": DiffusionConfig(encoder="resnet50.a1_in1k"),
    "quickstart": DiffusionConfig(
        **_QUICKSTART, learning_rate=1e-3, perceptual_layers=_BEHIND_IT, discriminator_start=0.0,
        adversarial_start=0.02, projector_channels=128, patch_size=4, conditioning="concat", map_channels=32,
        unet_block_out_channels=(64, 96, 96), unet_layers_per_block=1, condition_dropout=0.0, denoising_weight=0.1,
        perceptual_weight=1.0, perceptual_max_timestep=1000, few_steps=2, num_inference_steps=2,
    ),
    "debug": DiffusionConfig(
        **_DEBUG, map_channels=8, token_dim=32, unet_block_out_channels=(32, 64), unet_layers_per_block=1,
        num_attention_heads=4, num_inference_steps=2,
    ),
}  # fmt: skip


def parse_config(presets: dict[str, Config], description: str, args: list[str] | None = None) -> Config:
    """The configuration that a command line names: `--preset NAME`, then any field as a flag over it."""
    import tyro

    args = list(sys.argv[1:] if args is None else args)
    name, args = _take_preset(args, next(iter(presets)))
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=1)
        question = f", did you mean {near[0]}?" if near else ""
        raise ValueError(f"unknown --preset {name}; choose one of {', '.join(presets)}{question}")
    about = f"{description} Presets (--preset NAME, flags override): {', '.join(presets)}; now: {name}."
    default = presets[name]
    return tyro.cli(type(default), args=args, default=default, description=about, use_underscores=True)


def _take_preset(args: list[str], default: str) -> tuple[str, list[str]]:
    for index, arg in enumerate(args):
        if arg.startswith("--preset="):
            return arg.split("=", 1)[1], args[:index] + args[index + 1 :]
        if arg == "--preset":
            if index + 1 == len(args):
                raise ValueError("--preset needs a name")
            return args[index + 1], args[:index] + args[index + 2 :]
    return default, args
