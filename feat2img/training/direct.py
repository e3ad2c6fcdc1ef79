"""The decoder that makes an image in one pass: what the GAN trains, and the diffusion decoder's first guess."""

import torch
from torch import nn

from ..models import FeatureGenerator, FeatureProjector
from ..pipelines import Feat2ImgGANPipeline, Feat2ImgPipeline


class DirectDecoder(nn.Module):
    """Projector and generator as one module: features (B, C, h, w) => pixels (B, 3, S, S), about [-1, 1]."""

    def __init__(self, projector: FeatureProjector, generator: FeatureGenerator):
        super().__init__()
        projector.null_feature.requires_grad_(False)  # no condition dropout here
        self.projector = projector
        self.generator = generator

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.generator(self.projector(features).map)


def load_direct_decoder(path: str) -> DirectDecoder:
    """The decoder of a saved GAN pipeline, frozen, in float32. Raises ValueError for anything else."""
    pipeline = Feat2ImgPipeline.from_pretrained(path)
    if not isinstance(pipeline, Feat2ImgGANPipeline):
        raise ValueError(f"{path} holds a {pipeline.kind} pipeline; a first guess comes from a GAN pipeline")
    for module in (pipeline.projector, pipeline.generator):
        module.register_to_config(_name_or_path="")  # a folder of this machine, which an export would tell
    return DirectDecoder(pipeline.projector, pipeline.generator).float().eval().requires_grad_(False)
