"""Train the decoders; `train(config)` runs from data to a saved pipeline."""

from .config import DiffusionConfig, GANConfig, TrainingConfig
from .loop import train
from .presets import DIFFUSION_PRESETS, GAN_PRESETS, parse_config

__all__ = [
    "DIFFUSION_PRESETS",
    "GAN_PRESETS",
    "DiffusionConfig",
    "GANConfig",
    "TrainingConfig",
    "parse_config",
    "train",
]
