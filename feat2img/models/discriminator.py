"""The adversary: judges overlapping patches, not whole images."""

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
