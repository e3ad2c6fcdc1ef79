"""What the shared loop expects of a decoder's training."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from ..features import ChannelStatistics, TimmFeatureEncoder
from ..models import FeatureProjector, Stitching
from ..pipelines import Feat2ImgPipeline
from .adversary import Adversary, shifted
from .config import TrainingConfig
from .examples import ExampleNoise
from .perceptual import EncoderPerceptualLoss, FeatureMaps


class TrainingTask(ABC):
    """Models, optimisers and one step of a decoder's training.

    A subclass builds `decoder`, the module that images come from, in its `__init__`; the loop calls `prepare` once
    and `step` for every batch.
    """

    def __init__(self, config: TrainingConfig, encoder: TimmFeatureEncoder, accelerator: Accelerator):
        self.config = config
        self.encoder = encoder
        self.accelerator = accelerator
        self.decoder: torch.nn.Module
        self.ema: EMAModel | None = None
        self.stitching: Stitching | None = None  # of a projector that comes from another network
        self.perceptual = self.make_perceptual_loss()
        self.adversary = Adversary(config, self.perceptual, accelerator) if config.adversarial_weight else None

    @abstractmethod
    def step(self, pixels: torch.Tensor, features: torch.Tensor, noise: ExampleNoise, progress: float) -> dict:
        """One micro-batch: losses, backward, optimiser. Returns scalars (tensors or floats) to log.

        Args:
            pixels: (B, 3, S, S) in [-1, 1].
            features: (B, C, h, w) of the encoder.
            noise: the batch's random numbers.
            progress: share of the run that is done, in [0, 1).
        """

    @abstractmethod
    def pipeline(self) -> Feat2ImgPipeline:
        """A pipeline on the current weights (not copies)."""

    def optimizers(self) -> dict[str, tuple[torch.optim.Optimizer, float]]:
        """Name => optimiser and its base learning rate."""
        optimizers = {"optimizer": (self.optimizer, self.config.learning_rate)}
        if self.adversary is not None:
            rate = self.config.discriminator_learning_rate
            optimizers["discriminator_optimizer"] = (self.discriminator_optimizer, rate)
        return optimizers

    def models(self) -> dict[str, torch.nn.Module]:
        """Name => module whose weights a checkpoint holds."""
        models = {"decoder": self.decoder}
        if self.adversary is not None:
            models["discriminator"] = self.adversary.discriminator
        return {n: self.accelerator.unwrap_model(m, keep_torch_compile=False) for n, m in models.items()}

    def wrapped_models(self) -> list[torch.nn.Module]:
        """The modules that accelerate wrapped, for gradient accumulation."""
        return [self.decoder] if self.adversary is None else [self.decoder, self.adversary.discriminator]

    def prepare(self) -> None:
        """First weights, optimiser, EMA and accelerate's wrappers around `decoder`."""
        if self.config.init_from:
            self.load_weights(self.config.init_from)
        self.optimizer = self.make_optimizer(self.decoder, self.config.learning_rate)
        self.decoder.to(self.accelerator.device)
        if self.config.use_ema:
            self.ema = self.make_ema()
        self.decoder, self.optimizer = self.accelerator.prepare(self.decoder, self.optimizer)
        if self.adversary is not None:
            discriminator = self.adversary.discriminator
            optimizer = self.make_optimizer(discriminator, self.config.discriminator_learning_rate)
            prepared = self.accelerator.prepare(discriminator, optimizer)
            self.adversary.discriminator, self.discriminator_optimizer = prepared

    def load_weights(self, path: str) -> None:
        """Take the decoder's weights from a pipeline of the same kind and shapes.

        Where that one reads another network or other layers, its projector's first layer waits for `set_statistics`.
        """
        pipeline = Feat2ImgPipeline.from_pretrained(path)
        for name, module in self.decoder.named_children():
            if name == "first_guess":  # which comes from a pipeline of its own
                continue
            given = getattr(pipeline, name, None)
            if given is None:
                raise ValueError(f"{path} is a {pipeline.kind} pipeline without {name}; init_from wants the same kind")
            stitched = name == "projector" and self.reads_other_features(pipeline)
            if name == "projector":
                self.check_same_features(path, module.config, given.config, stitched)
            try:
                if stitched:
                    self.stitching = Stitching(pipeline.encoder, given, module)
                else:
                    module.load_state_dict(given.state_dict())
            except RuntimeError as error:
                reason = str(error).splitlines()[1].strip()
                raise ValueError(f"{name} of {path} has other shapes than this run's settings ({reason})") from error

    def reads_other_features(self, pipeline: Feat2ImgPipeline) -> bool:
        """Whether a pipeline reads another network or other layers than this run does."""
        if pipeline.encoder is None:
            return False
        own, given = self.encoder.config, pipeline.encoder.config
        return (own.model_name, list(own.layers)) != (given.model_name, list(given.layers))

    @staticmethod
    def check_same_features(path: str, own: dict, given: dict, stitched: bool) -> None:
        """Raises ValueError where weights would fit and yet mean something else."""
        for option, flag in (("normalization", "feature_normalization"), ("use_positions", "feature_positions")):
            if stitched and option == "normalization":  # a fitted first layer follows either
                continue
            if own[option] != given[option]:
                raise ValueError(
                    f"{path} was trained with {flag} {given[option]}, this run has {own[option]}; set {flag} to "
                    f"{given[option]} to go on from it"
                )

    def make_perceptual_loss(self) -> EncoderPerceptualLoss:
        """On the encoder, or on a deeper one where a layer of the perceptual term lies behind the hooked one."""
        config, layers = self.config, self.config.perceptual_layers or self.encoder.feature_levels
        deeper = tuple(layer for layer in layers if not self.encoder.has_layer(layer))
        encoder = self.encoder
        if deeper:
            encoder = TimmFeatureEncoder.from_timm(
                config.encoder, deeper, config.image_size, config.encoder_weights, not config.encoder_random_weights
            ).to(self.accelerator.device)
        return EncoderPerceptualLoss(encoder.fused(layers), layers)

    def make_optimizer(self, module: torch.nn.Module, learning_rate: float) -> torch.optim.AdamW:
        config = self.config
        return torch.optim.AdamW(
            [parameter for parameter in module.parameters() if parameter.requires_grad],
            lr=learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
            weight_decay=config.adam_weight_decay,
        )

    def perceptual_maps(
        self, generated: torch.Tensor, pixels: torch.Tensor, progress: float
    ) -> tuple[FeatureMaps, FeatureMaps] | None:
        """What the perceptual term and a "feature" discriminator read, of both images; None if nothing reads it."""
        config = self.config
        judged = self.adversary and config.discriminator == "feature" and progress >= config.discriminator_start
        if not (config.perceptual_weight or judged):
            return None
        with self.accelerator.autocast():
            return self.perceptual.maps(generated, pixels)

    def discriminator_step(
        self,
        pixels: torch.Tensor,
        generated: torch.Tensor,
        maps: tuple[FeatureMaps, FeatureMaps] | None,
        shift: torch.Tensor,
        progress: float,
    ) -> dict:
        """Update the discriminator once its part of the run has come; the decoder stays as it is."""
        if self.adversary is None or progress < self.config.discriminator_start:
            return {}
        d_loss, logs = self.adversary.discriminator_loss(shifted(pixels, shift), shifted(generated, shift), maps)
        self.update(d_loss, self.adversary.discriminator, self.discriminator_optimizer)
        return logs

    def image_terms(
        self,
        pixels: torch.Tensor,
        generated: torch.Tensor,
        maps: tuple[FeatureMaps, FeatureMaps] | None,
        shift: torch.Tensor,
        progress: float,
        logs: dict,
    ) -> torch.Tensor | float:
        """Weighted perceptual and adversarial terms of generated images, each of which joins `logs`.

        Args:
            shift: (B, 2), of `random_shift`; the same for both sides of the adversary.
        """
        config, total = self.config, 0.0
        if config.perceptual_weight:
            logs["perceptual_loss"] = self.perceptual.distance(*maps).mean()
            total = total + config.perceptual_weight * logs["perceptual_loss"]
        if self.adversary is not None and progress >= config.adversarial_start:
            pair = shifted(pixels, shift), shifted(generated, shift)
            logs["adversarial_loss"] = self.adversary.generator_loss(*pair, maps)
            total = total + config.adversarial_weight * logs["adversarial_loss"]
        return total

    def update(self, loss: torch.Tensor, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Backward, clipped, one optimiser step where gradients are complete."""
        self.accelerator.backward(loss)
        if self.accelerator.sync_gradients:
            self.accelerator.clip_grad_norm_(module.parameters(), self.config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    def update_ema(self) -> None:
        if self.ema is not None:
            self.ema.step(self.accelerator.unwrap_model(self.decoder).parameters())

    def make_projector(self, **options) -> FeatureProjector:
        """A projector for this run's encoder."""
        channels, *size = self.encoder.feature_shape
        return FeatureProjector(
            feature_channels=channels,
            feature_size=tuple(size),
            hidden_channels=self.config.projector_channels,
            num_blocks=self.config.projector_blocks,
            use_positions=self.config.feature_positions,
            normalization=self.config.feature_normalization,
            encoder_fingerprint=self.encoder.fingerprint(),
            **options,
        )

    def set_statistics(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Give the projector the mean and standard deviation of each channel, and its first layer if it needs one.

        Args:
            batches: features (B, C, h, w) with their pixels (B, 3, S, S).
        """
        if self.stitching is not None:
            source = self.config.init_from
            self.accelerator.print(f"{source} reads other features: fitting its projector's first layer", flush=True)
        decoder = self.accelerator.unwrap_model(self.decoder)
        statistics = ChannelStatistics()
        for features, pixels in batches:
            statistics.update(decoder.projector.compress(features.float()))
            if self.stitching is not None:
                self.stitching.update(features, pixels)
        decoder.projector.set_statistics(statistics.mean, statistics.std)
        if self.stitching is not None:
            self.stitching.finish()
            self.stitching = None  # and with it the other network
            if self.ema is not None:
                self.ema = self.make_ema()

    def make_ema(self) -> EMAModel:
        return EMAModel(self.accelerator.unwrap_model(self.decoder).parameters(), decay=self.config.ema_decay)
