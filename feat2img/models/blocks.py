"""Convolutional pieces that projector and generator share."""

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn


def check_sizes(minimum: int = 1, **sizes: int | tuple[int, ...] | list[int]) -> None:
    """Raises ValueError for the first size, or tuple of sizes, with one that is no whole number from `minimum`."""
    for name, value in sizes.items():
        values = value if isinstance(value, tuple | list) else [value]
        if not values or not all(type(one) is int and one >= minimum for one in values):
            raise ValueError(f"{name} is {value!r}; expected whole numbers from {minimum}")


class ResidualStack(nn.Module):
    """`num_blocks` of diffusers' `ResnetBlock2D` without a time embedding; (B, C, h, w) => the same shape."""

    def __init__(self, channels: int, num_blocks: int):
        super().__init__()
        groups = group_count(channels)
        self.blocks = nn.ModuleList(
            ResnetBlock2D(in_channels=channels, temb_channels=None, groups=groups) for _ in range(num_blocks)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            hidden = block(hidden, None)
        return hidden


class ShuffleUpsample(nn.Module):
    """Convolution and pixel shuffle: (B, C, h, w) => (B, out_channels, h * factor, w * factor).

    The convolution starts as nearest-neighbour upsampling (ICNR, Aitken et al. 2017, arXiv:1707.02937), which keeps
    the grid out that a freshly initialised pixel shuffle paints.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int):
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels * factor**2, kernel_size=3, padding=1)
        self.shuffle = nn.PixelShuffle(factor)
        with torch.no_grad():
            weight, bias = self.convolution.weight, self.convolution.bias
            weight.copy_(weight[:: factor**2].repeat_interleave(factor**2, dim=0))
            bias.copy_(bias[:: factor**2].repeat_interleave(factor**2, dim=0))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.shuffle(self.convolution(hidden))


def group_count(channels: int) -> int:
    """The largest group count up to 32 that divides `channels`, for group normalisation."""
    return max(groups for groups in range(1, min(32, channels) + 1) if channels % groups == 0)
