"""Feature map => what a decoder reads: a spatial map and, for cross-attention, tokens with positions."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch import nn

from .blocks import ResidualStack, ShuffleUpsample, check_sizes

NORMALIZATIONS = ("channel", "log1p", "none")


@dataclass
class ProjectedFeatures:
    """What a decoder reads.

    Attributes:
        map: (B, map_channels, height, width) of `map_size`.
        tokens: (B, h * w, token_dim), or None without them.
    """

    map: torch.Tensor
    tokens: torch.Tensor | None = None


class FeatureProjector(ModelMixin, ConfigMixin):
    """Standardise a feature map, mix it, and hand it on as a spatial map and as cross-attention tokens.

    Args:
        feature_channels, feature_size: C and (h, w) of the features, as `TimmFeatureEncoder.feature_shape` gives them.
        hidden_channels: width of the residual blocks that run on the feature grid.
        num_blocks: how many of them.
        map_channels: channels of the spatial map.
        map_size: (height, width) of the spatial map; a whole multiple of `feature_size` is reached by a learned pixel
            shuffle, any other size by bilinear interpolation.
        token_dim: width of the tokens; None leaves them out. Cross-attention knows no order but by their positions.
        use_positions: add 2-D sine-cosine positions to the features and to the tokens.
        normalization: "channel" (x - mean) / sqrt(var + 1e-5) per channel, "log1p" (log(1 + relu(x)) and then the
            same with its own statistics), or "none". The statistics are buffers, saved with the weights.
        encoder_fingerprint: what `TimmFeatureEncoder.fingerprint` returned for the encoder this was trained with;
            pipelines compare it when they are put together.
    """

    @register_to_config
    def __init__(
        self,
        feature_channels: int = 1024,
        feature_size: tuple[int, int] = (14, 14),
        hidden_channels: int = 256,
        num_blocks: int = 2,
        map_channels: int = 128,
        map_size: tuple[int, int] = (14, 14),
        token_dim: int | None = None,
        use_positions: bool = True,
        normalization: str = "channel",
        encoder_fingerprint: list[float] | None = None,
    ):
        super().__init__()
        check_sizes(feature_channels=feature_channels, feature_size=feature_size, hidden_channels=hidden_channels)
        check_sizes(map_channels=map_channels, map_size=map_size, token_dim=1 if token_dim is None else token_dim)
        check_sizes(0, num_blocks=num_blocks)
        if normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization is {normalization!r}; choose one of {', '.join(NORMALIZATIONS)}")
        for name, width in (("hidden_channels", hidden_channels), ("token_dim", token_dim or 4)):
            if width % 4:
                raise ValueError(f"{name} is {width}; 2-D sine-cosine positions need a multiple of 4")
        self.register_buffer("feature_mean", torch.zeros(feature_channels))
        self.register_buffer("feature_std", torch.ones(feature_channels))

        self.stem = nn.Conv2d(feature_channels, hidden_channels, kernel_size=1)
        self.null_feature = nn.Parameter(torch.zeros(hidden_channels))
        self.blocks = ResidualStack(hidden_channels, num_blocks)
        self.to_tokens = None if token_dim is None else nn.Linear(hidden_channels, token_dim)
        self.to_map = _head(hidden_channels, map_channels, feature_size, map_size)

    def set_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Take the per-channel mean and standard deviation (C,) of the training features."""
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(std)

    def compress(self, features: torch.Tensor) -> torch.Tensor:
        """Raw features => what the statistics are of: log(1 + relu(x)) for "log1p", else the features themselves."""
        return torch.log1p(features.relu()) if self.config.normalization == "log1p" else features

    def normalizer(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(C,) each: what `normalize` subtracts from compressed features, and what it then multiplies them with."""
        if self.config.normalization == "none":
            return torch.zeros_like(self.feature_mean), torch.ones_like(self.feature_std)
        return self.feature_mean, (self.feature_std.square() + 1e-5).rsqrt()

    def normalize(self, features: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) raw features => the same shape, standardised as `normalization` says."""
        if self.config.normalization == "none":
            return features
        mean, scale = self.normalizer()
        return (self.compress(features) - mean[:, None, None]) * scale[:, None, None]

    def forward(self, features: torch.Tensor, drop: torch.Tensor | None = None) -> ProjectedFeatures:
        """Project features.

        Args:
            features: (B, C, h, w), raw as the encoder gives them.
            drop: bool (B,); where True map and tokens are those of the learned null condition.

        Raises:
            ValueError: the features do not have the shape this projector was made for.
        """
        expected = (self.config.feature_channels, *self.config.feature_size)
        if features.ndim != 4 or tuple(features.shape[1:]) != expected:
            raise ValueError(
                f"features have shape {tuple(features.shape)}, expected (batch, {', '.join(map(str, expected))}); "
                "use the features of the encoder this decoder was trained with (`pipe.encode(images)`)"
            )
        return self.project(self.stem(self.normalize(features.to(self.feature_mean.dtype))), drop)

    def project(self, hidden: torch.Tensor, drop: torch.Tensor | None = None) -> ProjectedFeatures:
        """All that follows the first layer, of which `hidden` (B, hidden_channels, h, w) is the output."""
        if self.config.use_positions:
            hidden = hidden + self.positions(hidden.shape[1]).to(hidden)
        hidden = self.blocks(hidden)
        if drop is not None:
            hidden = torch.where(drop[:, None, None, None], self.null_feature[:, None, None].to(hidden.dtype), hidden)
        tokens = None if self.to_tokens is None else self.tokens(hidden)
        return ProjectedFeatures(self.resize(self.to_map(hidden)), tokens)

    def tokens(self, hidden: torch.Tensor) -> torch.Tensor:
        assert self.to_tokens is not None
        tokens = self.to_tokens(hidden.flatten(2).transpose(1, 2))
        if not self.config.use_positions:
            return tokens
        return tokens + self.positions(tokens.shape[2]).flatten(1).T.to(tokens)

    def positions(self, channels: int) -> torch.Tensor:
        """2-D sine-cosine positions (channels, h, w) of the feature grid (Vaswani et al. 2017, section 3.5)."""
        height, width = self.config.feature_size
        side = max(height, width)
        grid = get_2d_sincos_pos_embed(channels, side, output_type="pt").reshape(side, side, channels)
        return grid[:height, :width].permute(2, 0, 1)

    def resize(self, hidden: torch.Tensor) -> torch.Tensor:
        size = tuple(self.config.map_size)
        if tuple(hidden.shape[2:]) == size:
            return hidden
        return F.interpolate(hidden, size=size, mode="bilinear", align_corners=False)


def _head(channels: int, out_channels: int, feature_size: tuple[int, int], map_size: tuple[int, int]) -> nn.Module:
    """To `map_size` by pixel shuffle where it is a whole multiple of `feature_size`, else for `resize` to finish."""
    (height, width), (map_height, map_width) = feature_size, map_size
    factor = map_height // height
    if factor > 1 and (map_height, map_width) == (height * factor, width * factor):
        return ShuffleUpsample(channels, out_channels, factor)
    return nn.Conv2d(channels, out_channels, kernel_size=1)
