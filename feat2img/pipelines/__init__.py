"""Feature map => image, behind one interface."""

from .base import Feat2ImgPipeline, Feat2ImgPipelineOutput
from .diffusion import Feat2ImgDiffusionPipeline
from .gan import Feat2ImgGANPipeline

__all__ = ["Feat2ImgDiffusionPipeline", "Feat2ImgGANPipeline", "Feat2ImgPipeline", "Feat2ImgPipelineOutput"]
