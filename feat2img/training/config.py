"""What a training run is: one frozen dataclass per decoder, the flags of the scripts."""

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin

from ..data.fields import check_fields

Precision = Literal["auto", "no", "fp16", "bf16"]


@dataclass(frozen=True)
class TrainingConfig:
    """What both trainings share; names as in diffusers' own example scripts."""

    output_dir: str = "feat2img-model"  # finished pipeline, checkpoints, samples and logs

    # data
    dataset_name: str = "frgfm/imagenette"  # Hub name, parquet folder or image folder
    dataset_size: str = "320px"  # ImageNette on the Hub: full_size, 320px or 160px
    train_split: str = "train"
    validation_split: str | None = "validation"  # photos of the sample grid; None takes them from the training split
    max_train_samples: int | None = None
    streaming: bool = False  # read the data set while training instead of downloading it first
    image_size: int = 224  # crop, pixels
    resize_size: int = 256  # short side before the crop, pixels
    random_crop: bool = False  # instead of the centre crop; not with a cache
    random_flip: bool = True
    max_skipped_share: float = 0.05  # more unreadable photos than this stop the run
    feature_cache_dir: str | None = None  # compute features once and keep them here; None computes them on the fly
    dataloader_num_workers: int = 0

    # features
    encoder: str = "resnet101.a1h_in1k"  # timm name with tag
    encoder_layers: tuple[str, ...] = ("layer3",)
    encoder_weights: str | None = None  # local safetensors file instead of the Hub's weights
    encoder_random_weights: bool = False  # no pretrained weights at all: to try a run without a download
    feature_normalization: Literal["channel", "log1p", "none"] = "channel"
    feature_positions: bool = True  # the projector adds 2-D sine-cosine positions
    projector_channels: int = 256
    projector_blocks: int = 2

    # optimisation
    train_batch_size: int = 16  # per process
    gradient_accumulation_steps: int = 1
    num_train_epochs: int = 50
    max_train_steps: int | None = None  # optimiser steps; overrides num_train_epochs; 0 exports what a run begins with
    max_train_minutes: float | None = None  # ends the run, and the learning-rate schedule with it
    learning_rate: float = 2e-4
    lr_scheduler: Literal["cosine", "constant"] = "cosine"
    lr_warmup_steps: int = 200
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    adam_weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    mixed_precision: Precision | None = None  # auto: bf16 if the device computes in it; None: as accelerate is set up
    gradient_checkpointing: bool = False
    use_ema: bool = True
    ema_decay: float = 0.999
    perceptual_weight: float = 0.0  # relative L1 of feature maps
    perceptual_layers: tuple[str, ...] = ()  # of the encoder's network, also behind the hook; empty: levels up to it
    adversarial_weight: float = 0.0  # 0: without a discriminator
    discriminator: Literal["patch", "feature"] = "patch"  # judges pixels, or the maps of the perceptual term
    adversarial_loss: Literal["hinge", "relativistic"] = "hinge"
    gradient_penalty: float = 0.0  # R1 on real and R2 on generated examples, in what the discriminator reads
    discriminator_channels: tuple[int, ...] = (64, 128, 256)  # of "patch"
    discriminator_width: int = 64  # of "feature"
    discriminator_learning_rate: float = 4e-4  # ahead of the decoder, which otherwise outruns its judge
    discriminator_start: float = 0.4  # share of the run after which the discriminator learns
    adversarial_start: float = 0.5  # share of the run after which the decoder hears it
    init_from: str | None = None  # a pipeline, also on another encoder, whose weights the decoder begins with
    seed: int = 0

    # output
    logging_steps: int = 10
    validation_steps: int = 1000  # a sample grid every so many steps
    num_validation_images: int = 8
    checkpointing_steps: int = 1000
    checkpoints_total_limit: int | None = 2
    resume_from_checkpoint: str | None = None  # a checkpoint folder or "latest"
    export_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    report_to: str = "tensorboard"
    push_to_hub: bool = False
    hub_model_id: str | None = None  # default: the name of output_dir, under your own name
    hub_private: bool = False
    hub_license: str | None = None  # of the model card, for example apache-2.0

    def __post_init__(self):
        check_fields(self)
        for name in (
            "image_size", "resize_size", "train_batch_size", "gradient_accumulation_steps", "num_train_epochs",
            "logging_steps", "validation_steps", "checkpointing_steps", "num_validation_images",
        ):  # fmt: skip
            _require(getattr(self, name) >= 1, self, name, "at least 1")
        for name in ("dataloader_num_workers", "projector_blocks", "lr_warmup_steps", "adam_weight_decay", "seed"):
            _require(getattr(self, name) >= 0, self, name, "at least 0")
        for field in fields(self):
            choices = _choices(field.type)
            _require(not choices or getattr(self, field.name) in choices, self, field.name, f"one of {choices}")
        for name in ("max_train_samples", "checkpoints_total_limit"):
            _require(getattr(self, name) is None or getattr(self, name) >= 1, self, name, "at least 1")
        _require(self.max_train_steps is None or self.max_train_steps >= 0, self, "max_train_steps", "at least 0")
        _require(self.max_train_minutes is None or self.max_train_minutes > 0, self, "max_train_minutes", "above 0")
        _require(self.learning_rate > 0, self, "learning_rate", "above 0")
        _require(self.max_grad_norm > 0, self, "max_grad_norm", "above 0")
        _require(0 <= self.max_skipped_share <= 1, self, "max_skipped_share", "a share in [0, 1]")
        _require(0 <= self.ema_decay < 1, self, "ema_decay", "in [0, 1)")
        for name in ("perceptual_weight", "adversarial_weight", "gradient_penalty"):
            _require(getattr(self, name) >= 0, self, name, "at least 0")
        for name in ("discriminator_start", "adversarial_start"):
            _require(0 <= getattr(self, name) <= 1, self, name, "a share in [0, 1]")
        _require(self.adversarial_start >= self.discriminator_start, self, "adversarial_start",
                 f"at least discriminator_start {self.discriminator_start}")  # fmt: skip
        _require(self.resize_size >= self.image_size, self, "resize_size", f"at least image_size {self.image_size}")
        if self.feature_cache_dir and (self.random_crop or self.streaming):
            raise ValueError("a feature cache holds neither random crops nor streams; leave out --feature_cache_dir")
        if self.streaming and self.max_train_steps is None and self.max_train_minutes is None:
            raise ValueError("a streaming data set has no length; give --max_train_steps or --max_train_minutes")


@dataclass(frozen=True)
class GANConfig(TrainingConfig):
    """The adversarial decoder."""

    block_out_channels: tuple[int, ...] = (256, 128, 64)  # from the feature grid, each stage twice the size
    layers_per_block: int = 2
    head_channels: int = 16
    pixel_weight: float = 1.0  # L1
    perceptual_weight: float = 1.0
    adversarial_weight: float = 0.02


@dataclass(frozen=True)
class DiffusionConfig(TrainingConfig):
    """The diffusion decoder."""

    patch_size: int = 4  # pixel unshuffle before the denoiser: 224 px and 4 make 48 x 56 x 56
    conditioning: Literal["cross_attention", "concat", "both"] = "both"
    map_channels: int = 64  # channels of the spatial map that joins the noisy patches
    token_dim: int = 256
    unet_block_out_channels: tuple[int, ...] = (128, 256, 384)
    unet_layers_per_block: int = 2
    cross_attention_levels: tuple[int, ...] = (-1,)  # indices into unet_block_out_channels; the middle block follows
    num_attention_heads: int = 8
    num_train_timesteps: int = 1000
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    prediction_type: Literal["sample", "v_prediction"] = "sample"
    first_guess: str | None = None  # a GAN pipeline that guesses the image; diffusion runs on what the guess lacks
    residual_scale: float = 0.25  # pixels per unit of what diffusion runs on, where there is a first guess
    denoising_weight: float = 1.0
    loss_weighting: Literal["none", "min_snr", "clamped"] = "clamped"
    snr_gamma: float = 5.0
    condition_dropout: float = 0.1  # share of examples that train the null condition, for guidance
    perceptual_max_timestep: int = 300  # the perceptual and adversarial terms count below it, that is at low noise
    few_steps: int | None = None  # train only the timesteps that a sampler with so many steps takes; None: all
    num_inference_steps: int = 25  # of the sample grids, and the pipeline's default

    def __post_init__(self):
        super().__post_init__()
        for name in ("num_train_timesteps", "num_inference_steps", "map_channels", "token_dim"):
            _require(getattr(self, name) >= 1, self, name, "at least 1")
        few, most = self.few_steps, self.num_train_timesteps
        _require(few is None or 1 <= few <= most, self, "few_steps", f"1 to num_train_timesteps {most}")
        _require(self.denoising_weight >= 0, self, "denoising_weight", "at least 0")
        _require(self.residual_scale > 0, self, "residual_scale", "above 0")
        _require(0 <= self.condition_dropout < 1, self, "condition_dropout", "a share in [0, 1)")
        levels = len(self.unet_block_out_channels)
        divisor = self.patch_size * 2 ** (levels - 1)
        if self.patch_size < 1 or self.image_size % divisor:
            raise ValueError(
                f"image_size {self.image_size} is no multiple of {divisor} (patch_size {self.patch_size} and {levels} "
                "levels of the denoiser); change one of them"
            )


def _choices(kind: Any) -> tuple:
    """What a type of the form `Literal[...]` or `Literal[...] | None` allows; () for any other type."""
    literals = [part for part in (kind, *get_args(kind)) if get_origin(part) is Literal]
    return (*get_args(literals[0]), *([None] if kind is not literals[0] else [])) if literals else ()


def _require(condition: bool, config: TrainingConfig, name: str, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {getattr(config, name)}; expected {expected}")


# What a resumed run may change; everything else must be as in the checkpoint.
_FREE_TO_CHANGE = {
    "output_dir", "feature_cache_dir", "dataloader_num_workers", "max_train_steps", "max_train_minutes",
    "num_train_epochs", "logging_steps", "validation_steps", "num_validation_images", "checkpointing_steps",
    "checkpoints_total_limit", "resume_from_checkpoint", "export_dtype", "report_to", "push_to_hub", "hub_model_id",
    "hub_private", "hub_license", "gradient_checkpointing", "validation_split", "dataset_name", "encoder_weights",
    "max_skipped_share",
}  # fmt: skip
# What helps a run that diverged; it may change too, but is told.
_TOLD_OF_CHANGE = {"learning_rate", "discriminator_learning_rate", "max_grad_norm", "mixed_precision"}


def changed_fields(config: TrainingConfig, saved: dict) -> tuple[list[str], list[str]]:
    """ "name: saved => now" for each field that a resumed run changes but must not, and for each to be told of."""
    changes: tuple[list[str], list[str]] = [], []
    for field in fields(config):
        now, before = getattr(config, field.name), saved.get(field.name, field.default)
        now = list(now) if isinstance(now, tuple) else now
        before = list(before) if isinstance(before, tuple) else before
        if field.name not in _FREE_TO_CHANGE and now != before:
            changes[field.name in _TOLD_OF_CHANGE].append(f"{field.name}: {before} => {now}")
    return changes
