"""Feature extraction from JPEG files: the cache of this library against timm's full forward pass with a hook."""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torchvision import transforms

from feat2img.data import ImageTransform, PhotoDataset, load_photos
from feat2img.features import TimmFeatureEncoder, build_feature_cache

from .measure import Section, main, race, ratio, seconds_of, table
from .photos import write_photos

MODEL, LAYER, SIZE, BATCH = "resnet101.a1h_in1k", "layer3", 224, 16


def plain_extraction(network: torch.nn.Module, files: list[Path], output: Path) -> None:
    """The plain way: one process, float32, contiguous, the whole network, a hook that keeps what it is after."""
    cfg = timm.data.resolve_model_data_config(network)
    transform = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(SIZE),
            transforms.ToTensor(),
            transforms.Normalize(cfg["mean"], cfg["std"]),
        ]
    )
    kept: list[torch.Tensor] = []
    handle = network.get_submodule(LAYER).register_forward_hook(lambda module, args, out: kept.append(out))
    with torch.no_grad():
        for start in range(0, len(files), BATCH):
            batch = [transform(Image.open(file).convert("RGB")) for file in files[start : start + BATCH]]
            network(torch.stack(batch))
    handle.remove()
    np.save(output, torch.cat(kept).half().numpy())


def run(options: argparse.Namespace) -> Section:
    count, rounds = (16, 1) if options.quick else (256, 2)
    torch.manual_seed(0)
    network = timm.create_model(MODEL, pretrained=False).eval().requires_grad_(False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(options, folder / "photos", count)
        weights = folder / "weights.safetensors"
        encoder = _encoder_with(network, weights)
        files = sorted((folder / "photos" / "train").iterdir())
        photos = PhotoDataset(load_photos(str(folder / "photos"), "train"), ImageTransform(SIZE, 256))
        turns = iter(range(1000))

        def ours():
            target = folder / f"cache{next(turns)}"
            return build_feature_cache(encoder, photos, target, batch_size=BATCH, autocast_dtype=torch.bfloat16)

        rivals = {
            "plain": lambda: plain_extraction(network, files, folder / "plain.npy"),
            "ours, bfloat16": ours,
        }
        times = race(rivals, rounds, warm_up=0 if options.quick else 1)
        decoding = seconds_of(lambda: [photos[index] for index in range(count)])
        exact, half = _differences(network, encoder, photos[0]["pixel_values"][None])
    rows = [
        [name, count / float(np.median(seconds)), *(f"{r:.2f}" for r in ratio(times, "plain", name))]
        for name, seconds in times.items()
    ]
    speed, low, high = ratio(times, "plain", "ours, bfloat16")
    share = decoding / float(np.median(times["ours, bfloat16"]))
    text = (
        f"{MODEL}, `{LAYER}`, {SIZE} px, random weights, {count} JPEG files to float16 features on disk, batches of "
        f"{BATCH}, {rounds} rounds in turns. Plain: Pillow and torchvision transforms, the whole network in float32 "
        "with a hook, one process.\n\n"
        + table(["way", "photos / s", "times plain (median)", "smallest", "largest"], rows)
        + f"\nFeatures against the plain way's: float32 differs by at most {exact:.1e}, bfloat16 by {half:.2%} "
        "(relative L2). "
        f"Decoding takes {share:.1%} of the bfloat16 time: {count / decoding:.0f} photos / s, one process.\n"
    )
    return Section(
        "Feature extraction",
        text,
        {"speedup": speed, "low": low, "high": high, "bf16_error": half, "decoded_per_second": count / decoding},
    )


def _encoder_with(network: torch.nn.Module, path: Path) -> TimmFeatureEncoder:
    from safetensors.torch import save_file

    save_file(network.state_dict(), path)
    return TimmFeatureEncoder.from_timm(MODEL, (LAYER,), SIZE, weights=path)


@torch.no_grad()
def _differences(network, encoder, pixels: torch.Tensor) -> tuple[float, float]:
    """Largest difference in float32, and relative L2 of bfloat16, against the plain way."""
    cfg = timm.data.resolve_model_data_config(network)
    mean, std = (torch.tensor(cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    kept: list[torch.Tensor] = []
    handle = network.get_submodule(LAYER).register_forward_hook(lambda module, args, out: kept.append(out))
    network(((pixels + 1) / 2 - mean) / std)
    handle.remove()
    exact = (encoder(pixels) - kept[0]).abs().max()
    with torch.autocast("cpu", torch.bfloat16):
        half = encoder.fused()(pixels).float()
    return float(exact), float((half - kept[0]).norm() / kept[0].norm())


if __name__ == "__main__":
    main(run, __doc__)
