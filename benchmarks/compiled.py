"""Does torch.compile pay for the decoders on this machine, and which memory format is the faster one?"""

import argparse
import statistics
import time

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from feat2img.evaluation.decoding import load_pipeline
from feat2img.training.config import DiffusionConfig
from feat2img.training.diffusion import make_unet

from .measure import Section, main, race, ratio, table
from .sampling import PIPELINE

BATCH = 8
DTYPE = torch.bfloat16


def run(options: argparse.Namespace) -> Section:
    rounds = 2 if options.quick else 8
    rows, figures = [], {}
    for name, call_of in {"generator": generator_call, "denoiser": denoiser_call}.items():
        began = time.perf_counter()
        compiled = call_of(compile=True)
        compiled()
        seconds = time.perf_counter() - began
        rivals = {
            "as it is": call_of(),
            "channels last": call_of(memory_format=torch.channels_last),
            "torch.compile": compiled,
        }
        times = race(rivals, rounds)
        for way, values in times.items():
            took = f"{seconds:.0f}" if way == "torch.compile" else "-"
            cost = 1000 * statistics.median(values) / BATCH
            rows.append([f"quickstart {name}", way, cost, *ratio(times, "as it is", way), took])
            figures[f"{name}, {way}"] = ratio(times, "as it is", way)[0]
    calls = {"fused": attention_step(AttnProcessor2_0()), "matrix products": attention_step(AttnProcessor())}
    times = race(calls, rounds)
    for way, values in times.items():
        cost = 1000 * statistics.median(values) / BATCH
        rows.append(["training step with attention", way, cost, *ratio(times, "fused", way), "-"])
        figures[f"attention, {way}"] = ratio(times, "fused", way)[0]
    header = ["module", "way", "ms / image", "times as fast", "smallest", "largest", "seconds to compile"]
    text = (
        f"bfloat16, batch {BATCH}; the last two rows are forward and backward of a denoiser with cross-attention. "
        "What Inductor has compiled before it takes from its cache, which shortens the last column.\n\n"
    )
    return Section("Compilation, memory format, attention", text + table(header, rows), figures)


def generator_call(memory_format=torch.contiguous_format, compile: bool = False):
    """A forward pass of the quickstart GAN's generator."""
    pipeline = load_pipeline(str(PIPELINE.parent / "gan"), torch.device("cpu"), "bfloat16")
    module = pipeline.generator.to(memory_format=memory_format)
    shape = (BATCH, module.config.in_channels, *module.config.map_size)
    hidden = torch.randn(shape, dtype=DTYPE).contiguous(memory_format=memory_format)
    module = torch.compile(module) if compile else module
    return torch.no_grad()(lambda: module(hidden))


def denoiser_call(memory_format=torch.contiguous_format, compile: bool = False):
    """A forward pass of the quickstart denoiser."""
    module = load_pipeline(str(PIPELINE), torch.device("cpu"), "bfloat16").unet.to(memory_format=memory_format)
    side, timestep = module.config.sample_size, torch.tensor(500)
    noisy = torch.randn(BATCH, module.config.in_channels, side, side, dtype=DTYPE)
    noisy = noisy.contiguous(memory_format=memory_format)
    module = torch.compile(module) if compile else module
    return torch.no_grad()(lambda: module(noisy, timestep, None))


def attention_step(processor):
    """Forward and backward of a small denoiser with cross-attention, under autocast as in training."""
    torch.manual_seed(0)
    config = DiffusionConfig(patch_size=8, unet_block_out_channels=(128, 256), unet_layers_per_block=1, token_dim=192)
    unet = make_unet(config).train()
    unet.set_attn_processor(processor)
    side = config.image_size // config.patch_size
    noisy, tokens = torch.randn(BATCH, unet.config.in_channels, side, side), torch.randn(BATCH, 196, 192)

    def step() -> None:
        with torch.autocast("cpu", DTYPE):
            prediction = unet(noisy, torch.full((BATCH,), 500), encoder_hidden_states=tokens).sample
        prediction.float().square().mean().backward()

    return step


if __name__ == "__main__":
    main(run, __doc__)
