"""Turn the features of a vision network back into images."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .features import TimmFeatureEncoder
    from .models import FeatureGenerator, FeatureProjector, PatchDiscriminator
    from .pipelines import (
        Feat2ImgDiffusionPipeline,
        Feat2ImgGANPipeline,
        Feat2ImgPipeline,
        Feat2ImgPipelineOutput,
    )

__version__ = "0.1.0"

__all__ = [
    "Feat2ImgDiffusionPipeline",
    "Feat2ImgGANPipeline",
    "Feat2ImgPipeline",
    "Feat2ImgPipelineOutput",
    "FeatureGenerator",
    "FeatureProjector",
    "PatchDiscriminator",
    "TimmFeatureEncoder",
    "__version__",
]

_MODULES = {
    "Feat2ImgDiffusionPipeline": "pipelines",
    "Feat2ImgGANPipeline": "pipelines",
    "Feat2ImgPipeline": "pipelines",
    "Feat2ImgPipelineOutput": "pipelines",
    "FeatureGenerator": "models",
    "FeatureProjector": "models",
    "PatchDiscriminator": "models",
    "TimmFeatureEncoder": "features",
}


def __getattr__(name: str):
    """Import the public classes on first use, so that `import feat2img` and the command line start fast."""
    if name not in _MODULES:
        raise AttributeError(f"module 'feat2img' has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
