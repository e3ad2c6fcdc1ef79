"""The adversarial side's decoder: one forward pass from a spatial map to an image."""

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from .blocks import ResidualStack, ShuffleUpsample, check_sizes, group_count


class FeatureGenerator(ModelMixin, ConfigMixin):
    """Residual stages that double the resolution, then a pixel shuffle to full size and one convolution over pixels.

    Args:
        in_channels: channels of the spatial map that `FeatureProjector` gives.
        map_size: (height, width) of that map.
        image_size: height and width of the image in pixels, a whole multiple of `map_size * 2 ** (stages - 1)`.
        block_out_channels: width of each stage; the first runs at `map_size`, each further one at twice the size.
        layers_per_block: residual blocks in a stage.
        head_channels: channels at full resolution, before the last convolution.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 256,
        map_size: tuple[int, int] = (14, 14),
        image_size: int = 224,
        block_out_channels: tuple[int, ...] = (256, 128, 64),
        layers_per_block: int = 2,
        head_channels: int = 16,
    ):
        super().__init__()
        check_sizes(in_channels=in_channels, map_size=map_size, image_size=image_size, head_channels=head_channels)
        check_sizes(block_out_channels=block_out_channels)
        check_sizes(0, layers_per_block=layers_per_block)
        height, width = (side * 2 ** (len(block_out_channels) - 1) for side in map_size)
        if height != width or image_size % height:
            raise ValueError(
                f"image_size {image_size} is not a whole multiple of {height} x {width}, the size after "
                f"{len(block_out_channels)} stages from a {map_size[0]} x {map_size[1]} map; "
                "change block_out_channels or image_size"
            )
        widths = (in_channels, *block_out_channels)
        self.entries = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, padding=1)
            for before, after in zip(widths, widths[1:], strict=False)
        )
        self.stages = nn.ModuleList(ResidualStack(width, layers_per_block) for width in block_out_channels)
        last = block_out_channels[-1]
        self.norm = nn.GroupNorm(group_count(last), last)
        self.to_pixels = ShuffleUpsample(last, head_channels, image_size // height)
        self.last = nn.Conv2d(head_channels, 3, kernel_size=3, padding=1)

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, h, w) => (B, 3, image_size, image_size), about [-1, 1], not clamped."""
        hidden = feature_map
        for index, (entry, stage) in enumerate(zip(self.entries, self.stages, strict=True)):
            if index:
                hidden = F.interpolate(hidden, scale_factor=2, mode="nearest")
            hidden = stage(entry(hidden))
        hidden = F.silu(self.to_pixels(F.silu(self.norm(hidden))))
        return self.last(hidden)
