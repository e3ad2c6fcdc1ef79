"""The adversarial decoder's models and training step."""

import torch
from accelerate import Accelerator
from torch import nn

from ..data import pixels_to_uint8, uint8_to_pixels
from ..features import TimmFeatureEncoder
from ..models import FeatureGenerator, FeatureProjector, PatchDiscriminator
from ..pipelines import Feat2ImgGANPipeline
from .config import GANConfig
from .examples import ExampleNoise
from .losses import discriminator_accuracy, discriminator_hinge_loss, generator_hinge_loss
from .perceptual import EncoderPerceptualLoss
from .task import TrainingTask


class GANDecoder(nn.Module):
    """Projector and generator as one module: features (B, C, h, w) => pixels (B, 3, S, S), about [-1, 1]."""

    def __init__(self, projector: FeatureProjector, generator: FeatureGenerator):
        super().__init__()
        self.projector = projector
        self.generator = generator

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.generator(self.projector(features).map)


class GANTask(TrainingTask):
    """Generator: pixel L1 + perceptual + adversarial term; discriminator: hinge loss on patches."""

    config: GANConfig

    def __init__(self, config: GANConfig, encoder: TimmFeatureEncoder, accelerator: Accelerator):
        super().__init__(config, encoder, accelerator)
        size = encoder.feature_shape[1:]
        width = config.block_out_channels[0]
        generator = FeatureGenerator(
            width, size, config.image_size, config.block_out_channels, config.layers_per_block, config.head_channels
        )
        projector = self.make_projector(map_channels=width, map_size=size)
        projector.null_feature.requires_grad_(False)  # no condition dropout here
        self.decoder = GANDecoder(projector, generator)
        self.discriminator = PatchDiscriminator(config.discriminator_channels)
        self.perceptual = EncoderPerceptualLoss(encoder, config.perceptual_layers)

    def prepare(self) -> None:
        super().prepare()
        optimizer = self.make_optimizer(self.discriminator, self.config.discriminator_learning_rate)
        self.discriminator, self.discriminator_optimizer = self.accelerator.prepare(self.discriminator, optimizer)

    def optimizers(self):
        discriminator = (self.discriminator_optimizer, self.config.discriminator_learning_rate)
        return {**super().optimizers(), "discriminator_optimizer": discriminator}

    def models(self):
        return {
            **super().models(),
            "discriminator": self.accelerator.unwrap_model(self.discriminator, keep_torch_compile=False),
        }

    def wrapped_models(self):
        return [self.decoder, self.discriminator]

    def step(self, pixels: torch.Tensor, features: torch.Tensor, noise: ExampleNoise, progress: float) -> dict:
        with self.accelerator.autocast():
            generated = self.decoder(features).float()
        # the generator first: accumulated micro-batches then meet one discriminator, as a large batch does
        logs = self.generator_step(pixels, generated, adversarial=progress >= self.config.adversarial_start)
        if progress >= self.config.discriminator_start:
            logs |= self.discriminator_step(pixels, generated.detach())
        return logs

    def discriminator_step(self, pixels: torch.Tensor, generated: torch.Tensor) -> dict:
        """Update the discriminator on real images and on generated ones, rounded to 8 bit as photos are."""
        generated = uint8_to_pixels(pixels_to_uint8(generated))
        with self.accelerator.autocast():
            real_logits, fake_logits = self.discriminator(torch.cat([pixels, generated])).float().chunk(2)
        d_loss = discriminator_hinge_loss(real_logits, fake_logits)
        self.update(d_loss, self.discriminator, self.discriminator_optimizer)
        accuracy_real, accuracy_fake = discriminator_accuracy(real_logits, fake_logits)
        return {
            "d_loss": d_loss.detach(),
            "d_accuracy_real": accuracy_real,
            "d_accuracy_fake": accuracy_fake,
            "d_accuracy": (accuracy_real + accuracy_fake) / 2,
        }

    def generator_step(self, pixels: torch.Tensor, generated: torch.Tensor, adversarial: bool) -> dict:
        """Update the generator; the discriminator only judges."""
        config = self.config
        logs = {"pixel_loss": (generated - pixels).abs().mean()}
        g_loss = config.pixel_weight * logs["pixel_loss"]
        if config.perceptual_weight:
            with self.accelerator.autocast():
                logs["perceptual_loss"] = self.perceptual(generated, pixels).mean()
            g_loss = g_loss + config.perceptual_weight * logs["perceptual_loss"]
        if adversarial and config.adversarial_weight:
            judge = self.accelerator.unwrap_model(self.discriminator).eval().requires_grad_(False)
            with self.accelerator.autocast():
                logs["adversarial_loss"] = generator_hinge_loss(judge(generated).float())
            judge.train().requires_grad_(True)
            g_loss = g_loss + config.adversarial_weight * logs["adversarial_loss"]
        self.update(g_loss, self.decoder, self.optimizer)
        return {"g_loss": g_loss.detach(), **{name: value.detach() for name, value in logs.items()}}

    def pipeline(self) -> Feat2ImgGANPipeline:
        decoder = self.accelerator.unwrap_model(self.decoder)
        return Feat2ImgGANPipeline(
            self.encoder, decoder.projector, decoder.generator, self.config.image_size, self.config.resize_size
        )
