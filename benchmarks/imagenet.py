"""What ImageNet-1k would take on 1, 8 and 64 GPUs: arithmetic counted, decoding measured, GPU speed assumed."""

import argparse
import io
import statistics

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from feat2img.data import ImageTransform
from feat2img.data.photos import _open_photo
from feat2img.evaluation.photos import scikit_image_photos
from feat2img.models import FeatureGenerator, FeatureProjector, PatchDiscriminator
from feat2img.training import DiffusionConfig, GANConfig
from feat2img.training.diffusion import make_unet

from .measure import Section, main, seconds_of, table

PHOTOS, EPOCHS = 1_281_167, 50
PEAK, SHARE = 989e12, 0.3  # bfloat16 FLOP/s in NVIDIA's data sheet of the H100 SXM, and the assumed share of it
PHOTO_SIZE = (500, 375)  # pixels, about ImageNet's mean
BYTES_PER_PARAMETER = 20  # weights, gradients, two moments of Adam, EMA, float32


def run(options: argparse.Namespace) -> Section:
    decoded = photos_decoded_per_second(repeats=5 if options.quick else 40)
    rows, more = [], []
    for size in (224, 256):
        costs, parameters = step_costs(size)
        for name, flops in costs.items():
            rate = PEAK * SHARE / flops
            hours = PHOTOS * EPOCHS / rate / 3600
            rows.append([f"{name}, {size} px", flops / 1e9, rate, hours, hours / 8, hours / 64, rate / decoded])
        feature_bytes = 2 * 1024 * (size // 16) ** 2
        read = PEAK * SHARE / costs["diffusion"] * feature_bytes / 1e6
        memory = {name: count * BYTES_PER_PARAMETER / 1e9 for name, count in parameters.items()}
        more.append(
            [
                f"{size} px",
                feature_bytes / 1e3,
                PHOTOS * feature_bytes / 1e12,
                read,
                memory["diffusion"],
                memory["GAN"],
            ]
        )
    header = ["training", "GFLOP / image", "images / s on a GPU", "hours, 1 GPU", "8", "64", "cores to decode, a GPU"]
    header_more = [
        *("size", "features of a photo, kB", "all photos, TB", "MB / s to read for a GPU"),
        *("diffusion: weights and optimiser, GB", "GAN, GB"),
    ]
    text = (
        f"The reference recipe (ResNet-101 `layer3`, the defaults) on {PHOTOS:,} photos, {EPOCHS} epochs, features "
        f"computed while training. Arithmetic is counted; a GPU is taken to run at {SHARE:.0%} of {PEAK / 1e12:.0f} "
        "TFLOP/s (H100, bfloat16); a first run reached less (docs/source/scaling.md). Several GPUs are taken to lose "
        f"nothing. One core here decodes and crops {decoded:.0f} JPEG photos of {PHOTO_SIZE[0]} x {PHOTO_SIZE[1]} a "
        "second (measured).\n\n"
        + table(header, rows)
        + "\nA cache of features (float16, one view; mirrored photos double it):\n\n"
        + table(header_more, more)
    )
    return Section("ImageNet-1k, computed", text, {"decoded_per_second": decoded})


def step_costs(size: int) -> tuple[dict[str, float], dict[str, int]]:
    """FLOP per image of a training step with feature extraction, and the parameters that are trained."""
    diffusion, gan = DiffusionConfig(image_size=size, resize_size=size), GANConfig(image_size=size, resize_size=size)
    grid, patches = size // 16, size // diffusion.patch_size
    channels = 3 * diffusion.patch_size**2
    with torch.device("meta"):
        network = timm.create_model("resnet101", pretrained=False).eval().requires_grad_(False)
        shape = dict(feature_channels=1024, feature_size=(grid, grid), hidden_channels=diffusion.projector_channels)
        projector = FeatureProjector(
            **shape, map_channels=diffusion.map_channels, map_size=(patches, patches),
            token_dim=diffusion.token_dim,
        )  # fmt: skip
        unet = make_unet(diffusion)
        width = gan.block_out_channels[0]
        gan_projector = FeatureProjector(**shape, map_channels=width, map_size=(grid, grid))
        generator = FeatureGenerator(width, (grid, grid), size, gan.block_out_channels, gan.layers_per_block)
        discriminator = PatchDiscriminator(gan.discriminator_channels)
        pixels, features = torch.zeros(1, 3, size, size), torch.zeros(1, 1024, grid, grid)

        def encode(x):
            hidden = network.maxpool(network.act1(network.bn1(network.conv1(x))))
            return network.layer3(network.layer2(network.layer1(hidden)))

        def denoise():
            projected = projector(features)
            noisy = torch.cat([torch.zeros(1, channels, patches, patches), projected.map], dim=1)
            unet(noisy, torch.zeros(1), encoder_hidden_states=projected.tokens).sample.sum().backward()

        def judge_and_generate():
            discriminator(torch.cat([pixels, pixels])).sum().backward()  # its own step
            encode(pixels)  # the perceptual term's target
            image = generator(gan_projector(features).map)
            (encode(image).sum() + discriminator(image).sum()).backward()

        extraction = flops_of(lambda: encode(pixels))
        costs = {"diffusion": extraction + flops_of(denoise), "GAN": extraction + flops_of(judge_and_generate)}
    modules = {"diffusion": (projector, unet), "GAN": (gan_projector, generator, discriminator)}
    return costs, {name: sum(p.numel() for m in parts for p in m.parameters()) for name, parts in modules.items()}


def flops_of(call) -> float:
    """Counted on the meta device, where nothing is computed."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def photos_decoded_per_second(repeats: int) -> float:
    """JPEG to cropped pixels, one core."""
    photo = _open_photo(scikit_image_photos(1)[0]["image"]).convert("RGB").resize(PHOTO_SIZE)
    content = io.BytesIO()
    photo.save(content, "jpeg", quality=90)
    row, transform = {"bytes": content.getvalue(), "path": None}, ImageTransform(224, 256)
    return 1 / statistics.median(seconds_of(lambda: transform(_open_photo(row))) for _ in range(repeats))


if __name__ == "__main__":
    main(run, __doc__)
