"""The adversary of a training: its discriminator and the losses of both sides."""

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from ..data import pixels_to_uint8, uint8_to_pixels
from ..models import FeatureDiscriminator, PatchDiscriminator
from .config import TrainingConfig
from .examples import ExampleNoise
from .losses import (
    discriminator_accuracy,
    discriminator_hinge_loss,
    generator_hinge_loss,
    relativistic_loss,
    squared_gradient,
)
from .perceptual import EncoderPerceptualLoss, FeatureMaps

PATCH_SIZE = 4  # side of the pixel patches that a "feature" discriminator reads


class Adversary:
    """Hinge or relativistic losses on patches of pixels ("patch") or on the perceptual term's maps too ("feature").

    Args:
        perceptual: whose maps "feature" judges.
    """

    def __init__(self, config: TrainingConfig, perceptual: EncoderPerceptualLoss, accelerator: Accelerator):
        self.config, self.accelerator = config, accelerator
        self.discriminator: nn.Module
        if config.discriminator == "patch":
            self.discriminator = PatchDiscriminator(config.discriminator_channels)
            return
        example = torch.zeros(1, 3, config.image_size, config.image_size, device=accelerator.device)
        levels = self.inputs(example, perceptual.maps(example, example)[0])
        shapes = [tuple(level.shape[1:]) for level in levels]
        self.discriminator = FeatureDiscriminator(shapes, config.discriminator_width)

    def inputs(self, pixels: torch.Tensor, maps: FeatureMaps | None) -> list[torch.Tensor]:
        """What the discriminator reads of images: the pixels, or patches of 4 x 4 pixels and the perceptual maps."""
        if self.config.discriminator == "patch":
            return [pixels]
        return [F.pixel_unshuffle(pixels, PATCH_SIZE), *maps.values()]

    def judge(self, discriminator: nn.Module, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """The discriminator's logits (B, 1, s, s), one map or one for each level."""
        with self.accelerator.autocast():
            if self.config.discriminator == "patch":
                return [discriminator(*inputs).float()]
            return [logits.float() for logits in discriminator(inputs)]

    def discriminator_loss(
        self, pixels: torch.Tensor, generated: torch.Tensor, maps: tuple[FeatureMaps, FeatureMaps] | None
    ) -> tuple[torch.Tensor, dict]:
        """Loss of the discriminator and its accuracies, on real images and generated ones, these rounded to 8 bit.

        Args:
            pixels, generated: (B, 3, S, S).
            maps: what the perceptual loss's `maps` gave for generated and real images; only "feature" needs them.
        """
        penalty = self.config.gradient_penalty
        fakes, reals = maps or (None, None)
        real_inputs = self.inputs(pixels, reals)
        fake_inputs = self.inputs(uint8_to_pixels(pixels_to_uint8(generated.detach())), fakes)
        both = [torch.cat(pair).detach() for pair in zip(real_inputs, fake_inputs, strict=True)]
        if penalty:
            both = [level.requires_grad_() for level in both]
        logits = self.judge(self.discriminator, both)
        levels = [level.chunk(2) for level in logits]
        relativistic = self.config.adversarial_loss == "relativistic"
        loss_of = relativistic_loss if relativistic else discriminator_hinge_loss
        d_loss = torch.stack([loss_of(real, fake) for real, fake in levels]).mean()
        if relativistic:  # which knows no zero: real and generated ones are compared with each other
            levels = [(real - fake, fake - real) for real, fake in levels]
        accuracies = torch.stack([torch.stack(discriminator_accuracy(real, fake)) for real, fake in levels])
        real, fake = accuracies.mean(dim=0)
        logs = {"d_loss": d_loss.detach(), "d_accuracy_real": real, "d_accuracy_fake": fake}
        logs["d_accuracy"] = (real + fake) / 2
        if penalty:
            # over both halves of the batch: the mean of R1 and R2, so that gamma times it is their sum's half
            squared = squared_gradient(logits, both)
            d_loss, logs["squared_gradient"] = d_loss + penalty * squared, squared.detach()
        return d_loss, logs

    def generator_loss(
        self, pixels: torch.Tensor, generated: torch.Tensor, maps: tuple[FeatureMaps, FeatureMaps] | None
    ) -> torch.Tensor:
        """Loss of the generator, whose gradient passes through the discriminator and leaves it alone."""
        discriminator = self.accelerator.unwrap_model(self.discriminator).eval()
        learning = [parameter for parameter in discriminator.parameters() if parameter.requires_grad]
        for parameter in learning:
            parameter.requires_grad_(False)
        fakes, reals = maps or (None, None)
        fake_logits = self.judge(discriminator, self.inputs(generated, fakes))
        if self.config.adversarial_loss == "relativistic":
            with torch.no_grad():
                real_logits = self.judge(discriminator, self.inputs(pixels, reals))
            losses = [relativistic_loss(fake, real) for fake, real in zip(fake_logits, real_logits, strict=True)]
        else:
            losses = [generator_hinge_loss(fake) for fake in fake_logits]
        for parameter in learning:
            parameter.requires_grad_(True)
        discriminator.train()
        return torch.stack(losses).mean()


def random_shift(noise: ExampleNoise) -> torch.Tensor:
    """Rows and columns (B, 2), each in [0, PATCH_SIZE), that `shifted` leaves out at the top and the left."""
    return torch.stack([noise.integers(PATCH_SIZE), noise.integers(PATCH_SIZE)], dim=1)


def shifted(images: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """(B, 3, S, S) and (B, 2) => (B, 3, S - PATCH_SIZE, S - PATCH_SIZE).

    What the discriminator reads is shifted (Zhao et al. 2020, arXiv:2006.10738, "translation"), real and generated
    image alike: patches that always lie on one grid let the generator repeat a texture on that grid unseen.
    """
    size = images.shape[-1] - PATCH_SIZE
    return torch.stack(
        [image[:, y : y + size, x : x + size] for image, (y, x) in zip(images, shift.tolist(), strict=True)]
    )
