"""Training the diffusion decoder: this library's loop against a plain one in the manner of diffusers' examples."""

import argparse
import copy
import dataclasses
import statistics
import tempfile
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.training_utils import EMAModel
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from tqdm.auto import tqdm

from feat2img.data import ImageTransform, PhotoDataset, load_photos
from feat2img.training import DiffusionConfig, TrainingConfig
from feat2img.training.diffusion import DiffusionDecoder
from feat2img.training.examples import EndlessBatches, ExampleNoise, endless_loader
from feat2img.training.loop import TrainingRun, make_run

from .measure import Section, main, race, ratio, table
from .photos import write_photos

MODEL, LAYER, PHOTOS, CURVE_BATCH = "resnet101.a1h_in1k", "layer3", 64, 4
CURVE = Path(__file__).parent / "loss_curves.png"
# Both loops minimise the plain mean squared error of the clean image: no perceptual term.
SAME_LOSS = dict(
    encoder=MODEL, encoder_layers=(LAYER,), perceptual_weight=0.0, loss_weighting="none",
    condition_dropout=0.0, random_flip=False, report_to="none", validation_split=None, num_validation_images=1,
    max_train_minutes=None, max_train_steps=1_000_000, lr_scheduler="constant", lr_warmup_steps=0,
)  # fmt: skip
UNETS = {
    "without attention": DiffusionConfig(
        **SAME_LOSS, patch_size=8, conditioning="concat", map_channels=32, unet_block_out_channels=(96, 160),
        unet_layers_per_block=1, projector_channels=192, projector_blocks=3,
        train_batch_size=8, mixed_precision="bf16", feature_cache_dir="feature-cache",
    ),
    "with attention": DiffusionConfig(
        **SAME_LOSS, unet_block_out_channels=(64, 128, 192), unet_layers_per_block=1, token_dim=192,
        train_batch_size=8, mixed_precision="bf16", feature_cache_dir="feature-cache",
    ),
}  # fmt: skip


class OurLoop:
    """The library's own run, one optimiser step a call."""

    def __init__(self, config: TrainingConfig):
        self.run: TrainingRun = make_run(config)
        self.run.compute_statistics()
        self.batches = iter(self.run.loader(0))
        self.bar = tqdm(disable=True)
        self.losses: list[float] = []
        self._step = self.run.task.step
        self.run.task.step = self._noted

    def _noted(self, *args) -> dict:
        logs = self._step(*args)
        self.losses.append(float(logs["loss"] if "loss" in logs else logs["g_loss"]))
        return logs

    def step(self) -> None:
        """One optimiser step, and what the loop does around it."""
        self.run.over()
        self.run.optimise(next(self.batches))
        self.run.after_step(self.bar)


class PlainLoop:
    """The plain way: float32, contiguous, the whole network for features in every step, PyTorch's own attention.

    Examples and noise are those of the library's loop, so that the losses can be compared step by step.

    Args:
        remembers: keep the features of a photo instead of computing them again.
    """

    def __init__(self, config: DiffusionConfig, decoder: torch.nn.Module, network: torch.nn.Module, remembers: bool):
        self.config, self.network = config, network
        # new around copies of its parts: accelerate has wrapped the decoder's own forward pass in bfloat16
        parts = copy.deepcopy((decoder.projector, decoder.unet))
        self.decoder = DiffusionDecoder(*parts, decoder.scheduler, config)
        if config.conditioning != "concat":
            self.decoder.unet.set_attn_processor(AttnProcessor2_0())
        self.optimizer = torch.optim.AdamW(
            [parameter for parameter in self.decoder.parameters() if parameter.requires_grad],
            lr=config.learning_rate, betas=(config.adam_beta1, config.adam_beta2),
            weight_decay=config.adam_weight_decay,
        )  # fmt: skip
        self.ema = EMAModel(self.decoder.parameters(), decay=config.ema_decay)
        photos = PhotoDataset(
            load_photos(config.dataset_name, "train"), ImageTransform(config.image_size, config.resize_size)
        )
        self.batches = iter(
            endless_loader(photos, EndlessBatches(len(photos), config.train_batch_size, config.seed), 0)
        )
        cfg = timm.data.resolve_model_data_config(network)
        self.mean, self.std = (torch.tensor(cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        self.memory: dict[int, torch.Tensor] | None = {} if remembers else None
        self.losses: list[float] = []

    @torch.no_grad()
    def features(self, batch: dict) -> torch.Tensor:
        indices = batch["indices"].tolist()
        if self.memory is not None and all(index in self.memory for index in indices):
            return torch.stack([self.memory[index] for index in indices])
        kept: list[torch.Tensor] = []
        handle = self.network.get_submodule(LAYER).register_forward_hook(lambda module, args, out: kept.append(out))
        self.network(((batch["pixel_values"] + 1) / 2 - self.mean) / self.std)
        handle.remove()
        if self.memory is not None:
            self.memory.update(zip(indices, kept[0], strict=True))
        return kept[0]

    def step(self) -> None:
        config, batch = self.config, next(self.batches)
        size = len(batch["indices"])
        noise = ExampleNoise(config.seed, len(self.losses) * size, size, torch.device("cpu"))
        clean = F.pixel_unshuffle(batch["pixel_values"], config.patch_size)
        gaussian, timesteps = noise.normal(clean.shape[1:]), noise.integers(config.num_train_timesteps)
        output = self.decoder(clean, gaussian, timesteps, self.features(batch))
        loss = F.mse_loss(output.prediction, clean)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.decoder.parameters())
        self.losses.append(float(loss.detach()))


def run(options: argparse.Namespace) -> Section:
    rounds, steps, curve_steps = (1, 1, 6) if options.quick else (3, 2, 300)
    rows, figures = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(options, folder / "photos", PHOTOS)
        torch.manual_seed(0)
        network = timm.create_model(MODEL, pretrained=False).eval().requires_grad_(False)
        save_file(network.state_dict(), folder / "weights.safetensors")
        for unet, preset in UNETS.items():
            config = dataclasses.replace(
                preset, dataset_name=str(folder / "photos"), encoder_weights=str(folder / "weights.safetensors"),
                output_dir=str(folder / unet), feature_cache_dir=str(folder / "cache"),
            )  # fmt: skip
            ours = OurLoop(config)
            start = ours.run.accelerator.unwrap_model(ours.run.task.decoder)
            if unet == "without attention":
                curves = loss_curves(config, start, network, folder / "curve", curve_steps)
            rivals = {
                "plain": PlainLoop(config, start, network, remembers=False),
                "plain, features given": PlainLoop(config, start, network, remembers=True),
                "ours": ours,
            }
            for _ in range(-(-PHOTOS // config.train_batch_size)):  # the plain loop's memory fills
                rivals["plain, features given"].features(next(rivals["plain, features given"].batches))
            calls = {name: lambda loop=loop: [loop.step() for _ in range(steps)] for name, loop in rivals.items()}
            times = race(calls, rounds)
            per_second = config.train_batch_size * steps
            for name, seconds in times.items():
                median, low, high = ratio(times, name, "ours")
                rows.append([unet, name, per_second / statistics.median(seconds), median, low, high])
            figures[unet] = {name: ratio(times, name, "ours")[0] for name in ("plain", "plain, features given")}
    plain, ours_curve = (smoothed(losses) for losses in curves)
    draw_curves(plain, ours_curve).save(CURVE)
    apart = abs(ours_curve[-1] - plain[-1]) / plain[-1]
    figures["curves apart"] = apart
    text = (
        f"{MODEL} `{LAYER}` (random weights), 224 px, batch {config.train_batch_size}, mean squared error of clean "
        "images. Plain: float32, contiguous, the whole network run for features in every step. Ours: cached features, "
        "bfloat16. `without attention` has two levels at patch 8 and the spatial map alone as its condition; `with "
        "attention` has three levels at patch 4 and cross-attention.\n\n"
        + table(["denoiser", "loop", "images / s", "ours is times as fast", "smallest", "largest"], rows)
        + f"\nLosses of both loops over the same {curve_steps} steps of {CURVE_BATCH} images (same first weights, "
        f"examples, noise; running mean): plain {plain[-1]:.4f}, ours {ours_curve[-1]:.4f}, {apart:.2%} apart.\n\n"
        f"![Loss curves of both loops]({CURVE.name})\n"
    )
    return Section("Training step", text, figures)


def loss_curves(config: DiffusionConfig, start, network, folder: Path, steps: int) -> tuple[list[float], list[float]]:
    """Losses of the plain loop and of ours from the same weights."""
    config = dataclasses.replace(config, output_dir=str(folder), train_batch_size=CURVE_BATCH)
    ours = OurLoop(config)
    plain = PlainLoop(config, ours.run.task.decoder, network, remembers=True)
    for _ in tqdm(range(steps), desc="loss curves", disable=None, leave=False):
        plain.step()
        ours.step()
    return plain.losses, ours.losses


def smoothed(values: list[float], window: int = 25) -> list[float]:
    """Running mean over the last `window` values."""
    return [statistics.fmean(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))]


def draw_curves(plain: list[float], ours: list[float], width: int = 720, height: int = 360) -> Image.Image:
    """Both curves in one picture."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    left, right, top, bottom = 60, width - 20, 20, height - 40
    low, high = 0.0, max(max(plain), max(ours))

    def point(index: int, value: float, count: int) -> tuple[float, float]:
        return left + (right - left) * index / max(1, count - 1), bottom - (bottom - top) * (value - low) / (
            high - low
        )

    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - (bottom - top) * share
        draw.line((left, y, right, y), fill="#dddddd")
        draw.text((left - 8, y), f"{low + share * (high - low):.3f}", fill="#444444", anchor="rm")
    for values, colour, width_ in ((plain, "#d1495b", 5), (ours, "#00798c", 2)):
        draw.line([point(i, v, len(values)) for i, v in enumerate(values)], fill=colour, width=width_)
    draw.text((left, bottom + 12), f"step 1 to {len(plain)}", fill="#444444")
    draw.text((right - 190, top + 6), "plain, float32", fill="#d1495b")
    draw.text((right - 190, top + 24), "ours, bfloat16 from the cache", fill="#00798c")
    return image


if __name__ == "__main__":
    main(run, __doc__)
