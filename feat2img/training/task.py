"""What the shared loop expects of a decoder's training."""

from abc import ABC, abstractmethod

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from ..features import ChannelStatistics, TimmFeatureEncoder
from ..models import FeatureProjector
from ..pipelines import Feat2ImgPipeline
from .config import TrainingConfig
from .examples import ExampleNoise


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
        return {"optimizer": (self.optimizer, self.config.learning_rate)}

    def models(self) -> dict[str, torch.nn.Module]:
        """Name => module whose weights a checkpoint holds."""
        return {"decoder": self.accelerator.unwrap_model(self.decoder, keep_torch_compile=False)}

    def wrapped_models(self) -> list[torch.nn.Module]:
        """The modules that accelerate wrapped, for gradient accumulation."""
        return [self.decoder]

    def prepare(self) -> None:
        """Optimiser, EMA and accelerate's wrappers around `decoder`."""
        self.optimizer = self.make_optimizer(self.decoder, self.config.learning_rate)
        self.decoder.to(self.accelerator.device)
        if self.config.use_ema:
            self.ema = EMAModel(self.decoder.parameters(), decay=self.config.ema_decay)
        self.decoder, self.optimizer = self.accelerator.prepare(self.decoder, self.optimizer)

    def make_optimizer(self, module: torch.nn.Module, learning_rate: float) -> torch.optim.AdamW:
        config = self.config
        return torch.optim.AdamW(
            [parameter for parameter in module.parameters() if parameter.requires_grad],
            lr=learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
            weight_decay=config.adam_weight_decay,
        )

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
            normalization=self.config.feature_normalization,
            encoder_fingerprint=self.encoder.fingerprint(),
            **options,
        )

    def set_statistics(self, feature_batches) -> None:
        """Per-channel mean and standard deviation for the projector from an iterable of features (B, C, h, w)."""
        statistics = ChannelStatistics()
        for features in feature_batches:
            features = features.float()
            log1p = self.config.feature_normalization == "log1p"
            statistics.update(torch.log1p(features.relu()) if log1p else features)
        self.accelerator.unwrap_model(self.decoder).projector.set_statistics(statistics.mean, statistics.std)
