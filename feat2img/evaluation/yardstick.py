"""A measure that anyone understands: the originals shrunk to a few pixels and enlarged again."""

import bisect
import math

import torch
import torch.nn.functional as F
from torch import Tensor

YARDSTICK_SIZES = (14, 28, 40, 56, 80, 112)


def shrunk(images: Tensor, size: int) -> Tensor:
    """uint8 (B, 3, S, S) shrunk to `size` pixels and enlarged again, both bicubic and antialiased, both rounded."""
    if not 1 <= size <= images.shape[-1]:
        raise ValueError(f"images of {images.shape[-1]} pixels cannot be shrunk to {size}: choose a smaller size")
    for side in (size, images.shape[-1]):
        pixels = F.interpolate(images.float(), (side, side), mode="bicubic", antialias=True)
        images = pixels.round().clamp(0, 255).to(torch.uint8)
    return images


def equivalent_resolution(
    score: float | None, sizes: list[int], scores: list[float], higher_is_better: bool
) -> tuple[float | None, str | None]:
    """The size at which a shrunk original scores as a reconstruction does.

    The yardstick's scores are made monotone (a larger size counts as at least as good as any smaller one) and
    interpolated in log(size).

    Args:
        score: mean of the reconstructions.
        sizes: of the yardstick in pixels, ascending.
        scores: its means at these sizes.

    Returns:
        The size in pixels and None; outside the yardstick None and "<14" or ">112" with its ends; None twice where
        nothing was measured.
    """
    if score is None or not sizes or not math.isfinite(score):
        return None, None
    sign = 1 if higher_is_better else -1
    wanted, best, curve = sign * score, -math.inf, []
    for value in scores:
        best = max(best, sign * value)
        curve.append(best)
    if wanted < curve[0]:
        return None, f"<{sizes[0]}"
    if wanted > curve[-1]:
        return None, f">{sizes[-1]}"
    place = bisect.bisect_left(curve, wanted)
    if curve[place] == wanted:
        return float(sizes[place]), None
    share = (wanted - curve[place - 1]) / (curve[place] - curve[place - 1])
    return sizes[place - 1] * (sizes[place] / sizes[place - 1]) ** share, None
