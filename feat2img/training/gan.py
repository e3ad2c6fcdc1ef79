"""The adversarial decoder's models and training step."""

import torch
from accelerate import Accelerator

from ..features import TimmFeatureEncoder
from ..models import FeatureGenerator
from ..pipelines import Feat2ImgGANPipeline
from .adversary import random_shift
from .config import GANConfig
from .direct import DirectDecoder
from .examples import ExampleNoise
from .perceptual import FeatureMaps
from .task import TrainingTask


class GANTask(TrainingTask):
    """Generator: pixel L1 + perceptual + adversarial term; discriminator: hinge loss."""

    config: GANConfig

    def __init__(self, config: GANConfig, encoder: TimmFeatureEncoder, accelerator: Accelerator):
        super().__init__(config, encoder, accelerator)
        size = encoder.feature_shape[1:]
        width = config.block_out_channels[0]
        generator = FeatureGenerator(
            width, size, config.image_size, config.block_out_channels, config.layers_per_block, config.head_channels
        )
        self.decoder = DirectDecoder(self.make_projector(map_channels=width, map_size=size), generator)

    def step(self, pixels: torch.Tensor, features: torch.Tensor, noise: ExampleNoise, progress: float) -> dict:
        with self.accelerator.autocast():
            generated = self.decoder(features).float()
        maps = self.perceptual_maps(generated, pixels, progress)
        # the generator first: accumulated micro-batches then meet one discriminator, as a large batch does
        shift = random_shift(noise)
        logs = self.generator_step(pixels, generated, maps, shift, progress)
        return logs | self.discriminator_step(pixels, generated, maps, shift, progress)

    def generator_step(
        self,
        pixels: torch.Tensor,
        generated: torch.Tensor,
        maps: tuple[FeatureMaps, FeatureMaps] | None,
        shift: torch.Tensor,
        progress: float,
    ) -> dict:
        """Update the generator; the discriminator only judges."""
        logs = {"pixel_loss": (generated - pixels).abs().mean()}
        g_loss = self.config.pixel_weight * logs["pixel_loss"]
        g_loss = g_loss + self.image_terms(pixels, generated, maps, shift, progress, logs)
        self.update(g_loss, self.decoder, self.optimizer)
        return {"g_loss": g_loss.detach(), **{name: value.detach() for name, value in logs.items()}}

    def pipeline(self) -> Feat2ImgGANPipeline:
        decoder = self.accelerator.unwrap_model(self.decoder)
        return Feat2ImgGANPipeline(
            self.encoder, decoder.projector, decoder.generator, self.config.image_size, self.config.resize_size
        )
