"""Turn the features of a vision network back into images."""

__version__ = "0.1.0"

_PUBLIC = {
    "Feat2ImgPipeline": "feat2img.pipelines",
    "Feat2ImgGANPipeline": "feat2img.pipelines",
    "Feat2ImgDiffusionPipeline": "feat2img.pipelines",
    "Feat2ImgPipelineOutput": "feat2img.pipelines",
    "TimmFeatureEncoder": "feat2img.features",
    "FeatureProjector": "feat2img.models",
    "FeatureGenerator": "feat2img.models",
    "PatchDiscriminator": "feat2img.models",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    """Import the public classes on first use, so that `import feat2img` and the command line start fast."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'feat2img' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
