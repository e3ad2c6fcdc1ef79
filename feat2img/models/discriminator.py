"""The adversaries: both judge overlapping patches, one from pixels, one from a frozen network's feature maps."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(ModelMixin, ConfigMixin):
    """PatchGAN (Isola et al. 2017, arXiv:1611.07004) with spectral normalisation (Miyato et al. 2018, 1802.05957).

    Args:
        block_out_channels: width after each stride-2 convolution.
    """

    @register_to_config
    def __init__(self, block_out_channels: tuple[int, ...] = (64, 128, 256)):
        super().__init__()
        widths = (3, *block_out_channels)
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [spectral_norm(nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(
            *layers,
            spectral_norm(nn.Conv2d(widths[-1], widths[-1], kernel_size=3, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(widths[-1], 1, kernel_size=3, padding=1)),
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) in [-1, 1] => one logit per patch (B, 1, s, s); positive means "real"."""
        return self.layers(pixels)


class FeatureDiscriminator(ModelMixin, ConfigMixin):
    """Small judges on several levels of a frozen network (Projected GAN, Sauer et al. 2021, arXiv:2111.01007).

    Each level is mixed by a frozen random 1 x 1 convolution, which keeps a judge from resting on a few channels, and
    is brought to at most 14 x 14 logits by stride-2 convolutions, all with spectral normalisation.

    Args:
        level_shapes: (C, h, w) of each level's map.
        width: channels of every judge.
    """

    @register_to_config
    def __init__(self, level_shapes: list[tuple[int, int, int]], width: int = 64):
        super().__init__()
        self.mixers = nn.ModuleList(nn.Conv2d(channels, width, kernel_size=1) for channels, _, _ in level_shapes)
        self.mixers.requires_grad_(False)
        self.judges = nn.ModuleList(self.judge(max(height, side), width) for _, height, side in level_shapes)

    @staticmethod
    def judge(side: int, width: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        while side > 14 or not layers:
            stride = 2 if side > 14 else 1
            layers += [spectral_norm(nn.Conv2d(width, width, 3, stride, padding=1)), nn.LeakyReLU(0.2)]
            side //= 2
        return nn.Sequential(*layers, spectral_norm(nn.Conv2d(width, 1, kernel_size=3, padding=1)))

    def forward(self, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, C, h, w) in the order of `level_shapes` => logits (B, 1, s, s) each; positive means "real"."""
        return [judge(mixer(level)) for level, mixer, judge in zip(levels, self.mixers, self.judges, strict=True)]
