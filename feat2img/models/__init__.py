"""Networks that turn features into images; the denoiser itself is diffusers' `UNet2DConditionModel`."""

from .discriminator import FeatureDiscriminator, PatchDiscriminator
from .generator import FeatureGenerator
from .projector import FeatureProjector, ProjectedFeatures
from .stitching import Stitching, first_hidden

__all__ = [
    "FeatureDiscriminator",
    "FeatureGenerator",
    "FeatureProjector",
    "PatchDiscriminator",
    "ProjectedFeatures",
    "Stitching",
    "first_hidden",
]
