"""Wall-clock time of decoding, and what a decoder weighs."""

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


def median_seconds(
    call: Callable, device: str | torch.device, *, min_repeats: int = 3, max_repeats: int = 20, budget_s: float = 3.0
) -> float:
    """Median wall time of a call in seconds, after one call to warm up.

    Repeats until `max_repeats` or until `budget_s` seconds are spent, but at least `min_repeats` times.
    """
    if not 1 <= min_repeats <= max_repeats:
        raise ValueError(f"expected 1 <= min_repeats <= max_repeats, got {min_repeats} and {max_repeats}")
    call()
    seconds: list[float] = []
    while len(seconds) < min_repeats or (len(seconds) < max_repeats and sum(seconds) < budget_s):
        seconds.append(timed(call, device)[1])
    return statistics.median(seconds)


def median_batch_seconds(batches: list[tuple[int, float]]) -> tuple[int, float]:
    """From (images, seconds) per decoded batch: the largest batch's size and its median seconds per image.

    The first batch warms up and counts only where it is the only one of its size.
    """
    if not batches:
        raise ValueError("no batch was timed: decode at least one")
    size = max(images for images, _ in batches)
    later = [seconds for images, seconds in batches[1:] if images == size]
    return size, statistics.median(later or [batches[0][1]]) / size


def count_decoder_parameters(components: dict[str, object]) -> int:
    """Number of parameters of a pipeline's modules other than `encoder`; shared ones count once."""
    modules = [part for name, part in components.items() if name != "encoder" and isinstance(part, nn.Module)]
    return sum(p.numel() for p in {id(p): p for module in modules for p in module.parameters()}.values())
