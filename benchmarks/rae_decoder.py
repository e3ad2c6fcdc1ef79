"""Our decoders against diffusers' own ViT decoder of its representation autoencoder, at one budget of processor time.

python -m benchmarks.rae_decoder --dataset DATA --minutes 30 --image_size 112 --work_dir out/rae

The rival is `RAEDecoder` at that class's default size with the loss and the optimiser settings of diffusers'
`train_autoencoder_rae.py` (L1, AdamW 1e-4, batches of 8, cosine with warm-up), on the same cached features, images,
resolution and precision. Ours are the quickstart preset, the GAN with a smaller generator that so few minutes can
teach. Two thirds of the diffusion decoder's minutes go to the GAN that is its first guess.
"""

import argparse
import itertools
import json
import math
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_rae import RAEDecoder
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from feat2img.data import ImageTransform, PhotoDataset, load_photos, pixels_to_uint8
from feat2img.evaluation.intervals import bootstrap_mean, paired_difference
from feat2img.features import CachedPhotoDataset, TimmFeatureEncoder, build_feature_cache
from feat2img.memory import keep_freed_memory
from feat2img.training.examples import EndlessBatches, endless_loader
from feat2img.training.presets import GAN_PRESETS

from .ablations import NOTHING, SMALL, Row, interval, train
from .measure import machine, parser, table
from .quality import FAST_DTYPE, METRICS, Judge, fast_arithmetic, resize_size

BATCH, LEARNING_RATE, WARM_UP = 8, 1e-4, 500
# each decoder's trainings with their shares of the minutes; the last makes the pipeline
OURS = {
    "ours, GAN": {Row("gan", "gan", SMALL): 1},
    "ours, diffusion": {
        Row("guess", "gan", NOTHING): 2 / 3,
        Row("diffusion", "diffusion", "--first_guess {work}/guess"): 1 / 3,
    },
}


class ViTRival(torch.nn.Module):
    """`RAEDecoder` on standardised features: (B, C, side, side) => pixels (B, 3, S, S) in about [0, 1]."""

    def __init__(self, channels: int, side: int, image_size: int, mean: torch.Tensor, std: torch.Tensor):
        super().__init__()
        self.register_buffer("mean", mean[:, None, None].clone())
        self.register_buffer("std", (std.square() + 1e-5).sqrt()[:, None, None])
        self.decoder = RAEDecoder(
            channels, num_patches=side * side, patch_size=image_size // side, image_size=image_size
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        tokens = ((features - self.mean) / self.std).flatten(2).transpose(1, 2)
        return self.decoder.unpatchify(self.decoder(tokens).logits)


def train_rival(model: ViTRival, examples: CachedPhotoDataset, minutes: float, path: Path) -> int:
    """Train for so many minutes, or load what an earlier run left; returns the images seen."""
    if path.is_file():
        model.load_state_dict(load_file(path))
        return json.loads(path.with_suffix(".json").read_text())["images_seen"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.999), weight_decay=1e-2)
    began, steps = time.monotonic(), 0
    loader = endless_loader(examples, EndlessBatches(len(examples), BATCH, seed=0), num_workers=0)
    bar = tqdm(loader, desc="RAEDecoder", unit="step", disable=None)
    for batch in bar:
        share = (time.monotonic() - began) / 60 / minutes
        if share >= 1:
            break
        rate = min(1.0, (steps + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * share))
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate
        with fast_arithmetic():
            decoded = model(batch["features"].float())
        loss = F.l1_loss(decoded.float(), (batch["pixel_values"] + 1) / 2)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
        bar.set_postfix(loss=f"{loss.item():.3f}")
    save_file(model.state_dict(), path)
    path.with_suffix(".json").write_text(json.dumps({"images_seen": steps * BATCH}))
    return steps * BATCH


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--minutes", type=float, default=30.0, help="budget of each decoder")
    options.add_argument("--image_size", type=int, default=224, help="crop, pixels; a multiple of 16")
    options.add_argument("--num_images", type=int, default=1000, help="validation photos that judge")
    options.add_argument("--work_dir", default="out/rae", help="trained decoders and the feature cache")
    options = options.parse_args()
    if not options.dataset:
        raise SystemExit("this benchmark needs --dataset, a folder or Hub name with photos to train on")
    options.parallel = 1
    keep_freed_memory()  # as `train` does for ours
    work = Path(options.work_dir)
    for row, share in itertools.chain(*(trainings.items() for trainings in OURS.values())):
        train(row, argparse.Namespace(**{**vars(options), "minutes": options.minutes * share}), work)

    preset = GAN_PRESETS["quickstart"]
    encoder = TimmFeatureEncoder.from_timm(preset.encoder, preset.encoder_layers, options.image_size)
    transform = ImageTransform(options.image_size, resize_size(options.image_size))
    photos = PhotoDataset(load_photos(options.dataset, "train", size="320px"), transform)
    autocast_dtype = None if FAST_DTYPE == torch.float32 else FAST_DTYPE
    cache = build_feature_cache(encoder, photos, work / "cache", flips=True, autocast_dtype=autocast_dtype)
    examples = CachedPhotoDataset(photos, cache, random_flip=True)
    torch.manual_seed(0)
    rival = ViTRival(*cache.feature_shape[:2], options.image_size, cache.mean, cache.std)
    seen = train_rival(rival, examples, options.minutes, work / "rae.safetensors")

    def decode_rival(features: torch.Tensor, indices: list[int]) -> torch.Tensor:
        with fast_arithmetic():
            return pixels_to_uint8(rival(features).float() * 2 - 1)

    judge = Judge(options.dataset, options.num_images, encoder)
    scores = {"RAEDecoder, L1": judge.score(torch.no_grad()(decode_rival), "RAEDecoder")}
    images = {"RAEDecoder, L1": seen}
    for name, trainings in OURS.items():
        folders = [work / row.folder for row in trainings]
        scores[name] = judge.score_pipeline(folders[-1])
        images[name] = sum(json.loads((folder / "training.json").read_text())["images_seen"] for folder in folders)
    sys.stdout.write(report(scores, images, options))


def report(scores: dict[str, dict], images: dict[str, int], options) -> str:
    """Markdown: means with 95 % intervals, and paired differences to the rival."""
    rival = next(iter(scores))
    rows, differences = [], []
    for name, own in scores.items():
        rows.append([name, images[name], *(interval(bootstrap_mean(own[metric])) for metric in METRICS)])
        if name != rival:
            paired = (paired_difference(own[metric], scores[rival][metric]) for metric in METRICS)
            differences.append([f"{name} - {rival}", *(interval(value, signed=True) for value in paired)])
    return (
        f"{options.minutes:g} minutes each, {options.image_size} px, {options.num_images:,} validation photos. "
        f"{machine()}.\n\n"
        + table(["decoder", "images seen", *METRICS.values()], rows)
        + "\n"
        + table(["paired difference", *METRICS.values()], differences)
    )


if __name__ == "__main__":
    main()
