"""The diffusion decoder's models and training step."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.training_utils import compute_snr
from torch import nn

from ..features import TimmFeatureEncoder
from ..models import FeatureProjector
from ..pipelines import Feat2ImgDiffusionPipeline
from ..pipelines.diffusion import denoise
from .adversary import random_shift
from .config import DiffusionConfig
from .direct import DirectDecoder, load_direct_decoder
from .examples import ExampleNoise
from .losses import clean_image, snr_weight
from .task import TrainingTask


class DenoisingOutput(NamedTuple):
    """One training forward pass; all tensors are patches (B, 3 p p, s, s), float32.

    Attributes:
        prediction: of the denoiser, in the scheduler's `prediction_type`.
        signal: what diffusion ran on: the clean image, or what the first guess lacks of it, scaled.
        noisy: the signal with noise.
        guess: the first guess of the clean image, or None.
    """

    prediction: torch.Tensor
    signal: torch.Tensor
    noisy: torch.Tensor
    guess: torch.Tensor | None


class DiffusionDecoder(nn.Module):
    """Projector and denoiser as one module, with the noise between them, and the frozen decoder of a first guess."""

    def __init__(
        self,
        projector: FeatureProjector,
        unet: UNet2DConditionModel,
        scheduler,
        config: DiffusionConfig,
        first_guess: DirectDecoder | None = None,
    ):
        super().__init__()
        self.projector = projector
        self.unet = unet
        self.first_guess = first_guess
        self.scheduler = scheduler
        self.conditioning = config.conditioning
        self.patch_size = config.patch_size
        self.residual_scale = config.residual_scale

    def forward(self, clean, gaussian, timesteps, features, drop=None) -> DenoisingOutput:
        """Clean patches and Gaussian noise (B, 3 p p, s, s), timesteps (B,), features (B, C, h, w), drop (B,)."""
        condition = self.projector(features, drop)
        guess = self.guess(features)
        signal = clean if guess is None else (clean - guess) / self.residual_scale
        noisy = self.scheduler.add_noise(signal, gaussian, timesteps)
        prediction = denoise(self.unet, noisy, timesteps, condition, self.conditioning, guess).float()
        return DenoisingOutput(prediction, signal, noisy, guess)

    @torch.no_grad()
    def guess(self, features: torch.Tensor) -> torch.Tensor | None:
        """The first guess as patches, in float32."""
        if self.first_guess is None:
            return None
        return F.pixel_unshuffle(self.first_guess(features), self.patch_size).float()

    def pixels(self, patches: torch.Tensor, guess: torch.Tensor | None) -> torch.Tensor:
        """What diffusion runs on, as patches => the image (B, 3, S, S)."""
        if guess is not None:
            patches = guess + self.residual_scale * patches
        return F.pixel_shuffle(patches, self.patch_size)


class DiffusionTask(TrainingTask):
    """Denoising loss weighted by signal-to-noise ratio, with optional image terms on the clean image it implies."""

    config: DiffusionConfig

    def __init__(self, config: DiffusionConfig, encoder: TimmFeatureEncoder, accelerator: Accelerator):
        super().__init__(config, encoder, accelerator)
        side = config.image_size // config.patch_size
        attends = config.conditioning != "concat"
        projector = self.make_projector(
            map_channels=config.map_channels, map_size=(side, side), token_dim=config.token_dim if attends else None
        )
        # what this run never uses would make DistributedDataParallel wait for its gradient
        projector.null_feature.requires_grad_(config.condition_dropout > 0)
        projector.to_map.requires_grad_(config.conditioning != "cross_attention")
        unet = make_unet(config)
        if accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16":
            # faster in its bfloat16 backward pass than PyTorch's fused attention (benchmarks/compiled.py)
            unet.set_attn_processor(AttnProcessor())
        if config.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        self.scheduler = make_noise_scheduler(config)
        first_guess = load_direct_decoder(config.first_guess) if config.first_guess else None
        self.decoder = DiffusionDecoder(projector, unet, self.scheduler, config, first_guess)
        self.timesteps = make_timesteps(config)

    def step(self, pixels: torch.Tensor, features: torch.Tensor, noise: ExampleNoise, progress: float) -> dict:
        config = self.config
        clean = F.pixel_unshuffle(pixels, config.patch_size)
        gaussian = noise.normal(clean.shape[1:])
        timesteps = self.timesteps.to(pixels.device)[noise.integers(len(self.timesteps))]
        drop = noise.uniform() < config.condition_dropout
        with self.accelerator.autocast():
            output = self.decoder(clean, gaussian, timesteps, features, drop if config.condition_dropout else None)

        is_v = config.prediction_type == "v_prediction"
        target = self.scheduler.get_velocity(output.signal, gaussian, timesteps) if is_v else output.signal
        weight = snr_weight(
            compute_snr(self.scheduler, timesteps), config.prediction_type, config.loss_weighting, config.snr_gamma
        )
        error = (output.prediction - target).square().mean(dim=(1, 2, 3))
        logs = {"denoising_loss": (weight * error).mean(), "error": error.mean()}
        loss = config.denoising_weight * logs["denoising_loss"]
        judged = config.perceptual_weight or self.adversary is not None
        if judged:
            chosen = self.counting(timesteps, drop)
            generated, real = self.implied_image(output, timesteps)[chosen], pixels[chosen]
            maps, shift = self.perceptual_maps(generated, real, progress), random_shift(noise)[chosen]
            loss = loss + self.image_terms(real, generated, maps, shift, progress, logs)
        self.update(loss, self.decoder, self.optimizer)
        judge_logs = self.discriminator_step(real, generated, maps, shift, progress) if judged else {}
        return {"loss": loss.detach(), **{name: value.detach() for name, value in logs.items()}, **judge_logs}

    def counting(self, timesteps: torch.Tensor, drop: torch.Tensor) -> torch.Tensor:
        """Indices of the examples that the image terms judge: those with their condition and with little noise.

        At high noise a perceptual term alone would teach the denoiser to make texture of the noise it is given. Where
        no example counts, the first stands in, so that every process takes the same steps.
        """
        counts = ~drop & (timesteps < self.config.perceptual_max_timestep)
        return counts.nonzero().flatten() if counts.any() else torch.zeros(1, dtype=torch.long, device=drop.device)

    def implied_image(self, output: DenoisingOutput, timesteps: torch.Tensor) -> torch.Tensor:
        """The clean image (B, 3, S, S) that the prediction implies."""
        alphas = self.scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
        patches = clean_image(output.prediction, output.noisy, alphas, self.config.prediction_type)
        return self.accelerator.unwrap_model(self.decoder).pixels(patches, output.guess)

    def pipeline(self) -> Feat2ImgDiffusionPipeline:
        config, decoder = self.config, self.accelerator.unwrap_model(self.decoder)
        guess = decoder.first_guess
        return Feat2ImgDiffusionPipeline(
            self.encoder,
            decoder.projector,
            decoder.unet,
            self.sampler(),
            config.image_size,
            config.resize_size,
            config.patch_size,
            config.conditioning,
            config.residual_scale,
            config.num_inference_steps,
            **{"guess_" + name: part for name, part in (guess.named_children() if guess else ())},
        )

    def sampler(self) -> DDIMScheduler:
        """DDIM on the training's noise schedule; clips what it predicts at the largest signal there can be."""
        largest = 1 / self.config.residual_scale if self.config.first_guess else 1.0
        return DDIMScheduler.from_config(self.scheduler.config, clip_sample=True, clip_sample_range=largest)


def make_unet(config: DiffusionConfig) -> UNet2DConditionModel:
    """The denoiser; with "concat" alone it has no attention, since there are no tokens to attend to."""
    channels = 3 * config.patch_size**2
    levels = len(config.unet_block_out_channels)
    attends = config.conditioning != "concat"
    attention = {level % levels for level in config.cross_attention_levels} if attends else set()
    map_channels = config.map_channels if config.conditioning != "cross_attention" else 0
    unet = UNet2DConditionModel(
        sample_size=config.image_size // config.patch_size,
        in_channels=channels + map_channels + (channels if config.first_guess else 0),
        out_channels=channels,
        block_out_channels=config.unet_block_out_channels,
        layers_per_block=config.unet_layers_per_block,
        down_block_types=tuple("CrossAttnDownBlock2D" if i in attention else "DownBlock2D" for i in range(levels)),
        mid_block_type="UNetMidBlock2DCrossAttn" if attends else "UNetMidBlock2D",
        up_block_types=tuple("CrossAttnUpBlock2D" if i in attention else "UpBlock2D" for i in reversed(range(levels))),
        cross_attention_dim=config.token_dim,
        attention_head_dim=config.num_attention_heads,  # diffusers' name for the number of heads
    )
    if config.first_guess:  # start from the guess alone
        torch.nn.init.zeros_(unet.conv_out.weight)
        torch.nn.init.zeros_(unet.conv_out.bias)
    return unet


def make_noise_scheduler(config: DiffusionConfig) -> DDPMScheduler:
    """Zero signal at the last timestep, so that sampling may start from pure noise (Lin et al. 2023, 2305.08891)."""
    return DDPMScheduler(
        num_train_timesteps=config.num_train_timesteps,
        beta_schedule=config.beta_schedule,
        prediction_type=config.prediction_type,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def make_timesteps(config: DiffusionConfig) -> torch.Tensor:
    """The timesteps that training draws from: all, or those of a sampler with `few_steps` steps, spaced alike."""
    steps = config.few_steps or config.num_train_timesteps
    return (torch.arange(1, steps + 1) * config.num_train_timesteps / steps).round().long() - 1
