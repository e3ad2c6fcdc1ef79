"""Feature map => image by denoising, the features as condition."""

import inspect
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.schedulers import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from ..features.encoder import TimmFeatureEncoder
from ..models.generator import FeatureGenerator
from ..models.projector import FeatureProjector, ProjectedFeatures
from .base import Feat2ImgPipeline, Feat2ImgPipelineOutput

CONDITIONINGS = ("cross_attention", "concat", "both")


class Feat2ImgDiffusionPipeline(Feat2ImgPipeline):
    """Reconstruct images from features with a conditional diffusion model in (patched) pixel space.

    The denoiser sees an image as patches: `patch_size` p turns (3, S, S) into (3 p p, S / p, S / p) by pixel unshuffle
    and loses nothing. "concat" conditioning joins the projector's spatial map to the noisy patches,
    "cross_attention" hands its tokens to the attention blocks, "both" does both. With a decoder that makes a first
    guess of the image, diffusion runs on what the guess lacks: image = guess + residual_scale * residual (after
    deblurring by stochastic refinement, Whang et al. 2022, arXiv:2112.02475). The denoiser sees the guess beside the
    noisy patches, guided or not.

    Args:
        encoder: the network that the features come from; None for users who bring features.
        projector: features => spatial map and tokens.
        unet: the denoiser.
        scheduler: any diffusers scheduler with the training's `prediction_type` and betas.
        image_size, resize_size: centre crop and short side in pixels for `images=...`.
        patch_size: p above.
        conditioning: "cross_attention", "concat" or "both".
        residual_scale: pixels per unit of the residual; brings it to about the variance of an image.
        num_inference_steps: denoising steps of a call that names none.
        guess_projector, guess_generator: the decoder of a first guess, as in `Feat2ImgGANPipeline`, or None.
    """

    kind = "diffusion"
    model_cpu_offload_seq = "encoder->guess_projector->guess_generator->projector->unet"
    _optional_components = ["encoder", "guess_projector", "guess_generator"]
    _callback_tensor_inputs = ["latents"]

    def __init__(
        self,
        encoder: TimmFeatureEncoder | None,
        projector: FeatureProjector,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        image_size: int = 224,
        resize_size: int = 256,
        patch_size: int = 4,
        conditioning: str = "both",
        residual_scale: float = 0.25,
        num_inference_steps: int = 25,
        guess_projector: FeatureProjector | None = None,
        guess_generator: FeatureGenerator | None = None,
    ):
        super().__init__()
        if (guess_projector is None) != (guess_generator is None):
            raise ValueError("a first guess needs both guess_projector and guess_generator; give both or neither")
        if conditioning not in CONDITIONINGS:
            raise ValueError(f"conditioning is {conditioning!r}; choose one of {', '.join(CONDITIONINGS)}")
        self.check_encoder(encoder, projector)
        if guess_projector is not None:
            self.check_encoder(encoder, guess_projector)
        self.register_modules(
            encoder=encoder,
            projector=projector,
            unet=unet,
            scheduler=scheduler,
            guess_projector=guess_projector,
            guess_generator=guess_generator,
        )
        self.register_to_config(
            image_size=image_size,
            resize_size=resize_size,
            patch_size=patch_size,
            conditioning=conditioning,
            residual_scale=residual_scale,
            num_inference_steps=num_inference_steps,
        )

    @torch.no_grad()
    def __call__(
        self,
        images: Image.Image | list[Image.Image] | torch.Tensor | None = None,
        features: torch.Tensor | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float = 1.0,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_images_per_feature: int = 1,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable | None = None,
    ) -> Feat2ImgPipelineOutput | tuple:
        """Reconstruct.

        Args:
            images: photos to encode and reconstruct, see `encode`.
            features: or the features themselves, (B, C, h, w).
            num_inference_steps: denoising steps, one call of the denoiser each; None: the pipeline's own number.
            guidance_scale: classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598); 1 is off, more doubles
                the cost of a step.
            eta: DDIM's eta (Song et al. 2021, arXiv:2010.02502, eq. 16), 0 to 1, for schedulers that know it.
            generator: one for the batch, or one per image.
            num_images_per_feature: samples per feature map, next to each other, at most 1,000.
            output_type: "pil", "np" or "pt".
            return_dict: False returns a plain tuple.
            callback_on_step_end: called as `callback(pipe, step, timestep, {"latents": ...})` after each step; what it
                returns under "latents" replaces them.
        """
        self.check_inputs(images, features, num_images_per_feature, output_type, generator)
        if num_inference_steps is None:
            num_inference_steps = self.config.num_inference_steps
        if not isinstance(num_inference_steps, int) or num_inference_steps < 1:
            raise ValueError(f"num_inference_steps is {num_inference_steps}; expected a whole number from 1")
        for name, value, most in (("eta", eta, 1.0), ("guidance_scale", guidance_scale, sys.float_info.max)):
            if not isinstance(value, int | float) or not 0 <= value <= most:
                raise ValueError(f"{name} is {value!r}; expected a number from 0{' to 1' if most == 1 else ''}")
        features = self.prepare_features(images, features)
        condition = self.prepare_condition(features, guidance_scale, num_images_per_feature)
        guess = self.prepare_guess(features, num_images_per_feature)

        self.scheduler.set_timesteps(num_inference_steps, device=self._execution_device)
        latents = self.prepare_latents(len(features) * num_images_per_feature, condition.map.dtype, generator)
        step_options = self.prepare_step_options(generator, eta)
        timesteps = self.scheduler.timesteps
        with self.progress_bar(total=len(timesteps)) as progress:
            for index, timestep in enumerate(timesteps):
                prediction = self.predict(latents, timestep, condition, guidance_scale, guess)
                latents = self.scheduler.step(prediction, timestep, latents, **step_options).prev_sample
                if callback_on_step_end is not None:
                    returned = callback_on_step_end(self, index, timestep, {"latents": latents})
                    latents = (returned or {}).get("latents", latents)
                progress.update()
        if guess is not None:
            latents = guess + self.config.residual_scale * latents
        return self.output(F.pixel_shuffle(latents, self.config.patch_size), output_type, return_dict)

    def prepare_condition(self, features, guidance_scale: float, num_images_per_feature: int) -> ProjectedFeatures:
        """Project once per feature map; with guidance, the null condition's half follows the conditional half."""
        parts = [self.projector(features)]
        if guidance_scale != 1.0:
            drop = torch.ones(len(features), dtype=torch.bool, device=features.device)
            parts.append(self.projector(features, drop=drop))

        def join(tensors):
            return torch.cat([tensor.repeat_interleave(num_images_per_feature, dim=0) for tensor in tensors])

        tokens = None if parts[0].tokens is None else join([part.tokens for part in parts])
        return ProjectedFeatures(join([part.map for part in parts]), tokens)

    def prepare_guess(self, features: torch.Tensor, num_images_per_feature: int) -> torch.Tensor | None:
        """The first guess as patches (B, 3 p p, s, s), one for each image, or None."""
        if self.guess_generator is None:
            return None
        pixels = self.guess_generator(self.guess_projector(features).map)
        return F.pixel_unshuffle(pixels, self.config.patch_size).repeat_interleave(num_images_per_feature, dim=0)

    def prepare_latents(self, batch_size: int, dtype: torch.dtype, generator) -> torch.Tensor:
        side = self.image_size // self.config.patch_size
        shape = (batch_size, 3 * self.config.patch_size**2, side, side)
        # in float32, because older versions of torch draw other numbers in half precision
        latents = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=torch.float32)
        return latents.to(dtype) * self.scheduler.init_noise_sigma

    def prepare_step_options(self, generator, eta: float) -> dict:
        accepted = inspect.signature(self.scheduler.step).parameters
        # Where the noisiest step holds no signal at all, eta 1 leaves sqrt(0), which rounding turns into sqrt(-1e-8).
        options = {"generator": generator, "eta": min(eta, 1 - 1e-5)}
        return {name: value for name, value in options.items() if name in accepted}

    def predict(self, latents, timestep, condition: ProjectedFeatures, guidance_scale: float, guess) -> torch.Tensor:
        """The denoiser's prediction for noisy patches (B, 3 p p, s, s), guided when `guidance_scale` is not 1."""
        guided = guidance_scale != 1.0
        if guided:
            latents, guess = torch.cat([latents, latents]), None if guess is None else torch.cat([guess, guess])
        noisy = self.scheduler.scale_model_input(latents, timestep)
        prediction = denoise(self.unet, noisy, timestep, condition, self.config.conditioning, guess)
        if not guided:
            return prediction
        conditional, unconditional = prediction.chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)


def denoise(unet, noisy, timestep, condition: ProjectedFeatures, conditioning: str, guess=None) -> torch.Tensor:
    """One call of the denoiser, in training and in sampling: (B, 3 p p, s, s) => the same shape."""
    inputs = [noisy]
    if conditioning != "cross_attention":
        inputs.append(condition.map)
    if guess is not None:
        inputs.append(guess)
    joined = torch.cat([tensor.to(noisy.dtype) for tensor in inputs], dim=1)
    return unet(joined, timestep, encoder_hidden_states=condition.tokens).sample
