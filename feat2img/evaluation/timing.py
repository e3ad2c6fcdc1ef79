"""What decoding costs: wall-clock time, memory, parameters, calls of the denoiser."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn


def synchronize(device: str | torch.device) -> None:
    """Wait for the device's queued work; CUDA and MPS return from a call before it is done."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()


def timed(call: Callable, device: str | torch.device) -> tuple[object, float]:
    """Return the call's result and its wall time in seconds, synchronised on both sides."""
    synchronize(device)
    start = time.perf_counter()
    result = call()
    synchronize(device)
    return result, time.perf_counter() - start


def repeat_seconds(
    call: Callable, device: str | torch.device, *, min_repeats: int = 3, max_repeats: int = 20, budget_s: float = 3.0
) -> list[float]:
    """Wall times of a call in seconds, after one call to warm up.

    Repeats until `max_repeats` or until `budget_s` seconds are spent, but at least `min_repeats` times.
    """
    if not 1 <= min_repeats <= max_repeats:
        raise ValueError(f"expected 1 <= min_repeats <= max_repeats, got {min_repeats} and {max_repeats}")
    call()
    seconds: list[float] = []
    while len(seconds) < min_repeats or (len(seconds) < max_repeats and sum(seconds) < budget_s):
        seconds.append(timed(call, device)[1])
    return seconds


def percentile_90(values: list[float]) -> float:
    """The smallest of the values that at least nine in ten do not exceed."""
    if not values:
        raise ValueError("no time was measured: repeat the call at least once")
    return sorted(values)[-(-9 * len(values) // 10) - 1]


def measure_cost(
    decode: Callable[[int], object],
    encode_and_decode: Callable[[], object],
    device: str | torch.device,
    batch_size: int,
    weights_bytes: int = 0,
) -> dict[str, float | int | None]:
    """What it costs to decode one photo and a batch of them, after warm-up.

    Args:
        decode: decodes so many photos whose features are there.
        encode_and_decode: encodes and decodes one photo.
        batch_size: of the larger batch.
        weights_bytes: of the decoder, counted in its peak memory.

    Returns:
        latency_ms and latency_p90_ms (batch 1: median, 90th percentile), latency_with_encoder_ms (median),
        latency_ms_batch (median, per image), latency_batch_size, images_per_second, and peak_memory_mb (MiB: weights
        and what the larger batch needs beside them; None where the device cannot tell, as a CPU).
    """
    single = repeat_seconds(lambda: decode(1), device)
    with_encoder = repeat_seconds(encode_and_decode, device)
    is_cuda = torch.device(device).type == "cuda"
    if is_cuda:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    batch = statistics.median(repeat_seconds(lambda: decode(batch_size), device, min_repeats=2, budget_s=5.0))
    peak = torch.cuda.max_memory_allocated(device) - before + weights_bytes if is_cuda else None
    return {
        "latency_ms": statistics.median(single) * 1000,
        "latency_p90_ms": percentile_90(single) * 1000,
        "latency_with_encoder_ms": statistics.median(with_encoder) * 1000,
        "latency_ms_batch": batch / batch_size * 1000,
        "latency_batch_size": batch_size,
        "images_per_second": batch_size / batch,
        "peak_memory_mb": None if peak is None else peak / 2**20,
    }


def count_calls(module: nn.Module | None, call: Callable) -> int:
    """How many images pass through a module during a call; 0 without a module."""
    if module is None:
        return 0
    counts: list[int] = []
    handle = module.register_forward_pre_hook(lambda module, args: counts.append(len(args[0])))
    try:
        call()
    finally:
        handle.remove()
    return sum(counts)


def decoder_parameters(components: dict[str, object]) -> list[nn.Parameter]:
    """Parameters of a pipeline's modules other than `encoder`; shared ones once."""
    modules = [part for name, part in components.items() if name != "encoder" and isinstance(part, nn.Module)]
    return list({id(p): p for module in modules for p in module.parameters()}.values())


def count_decoder_parameters(components: dict[str, object]) -> int:
    """Number of parameters of a pipeline's modules other than `encoder`; shared ones count once."""
    return sum(p.numel() for p in decoder_parameters(components))
