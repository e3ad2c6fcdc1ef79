"""Measure pipelines on the same photos: metrics, baselines, cost, a grid and a report."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compare import compare_pipelines
    from .decoding import load_pipeline
    from .formatting import format_table
    from .grid import Column, image_grid
    from .lpips import LpipsUnavailable, load_lpips
    from .metrics import METRICS, feature_cosine, psnr, ssim
    from .outputs import write_comparison
    from .photos import load_comparison_photos
    from .reconstruct import reconstruct_photos
    from .report_data import ReportData
    from .scorer import ImageScorer
    from .settings import CompareSettings

__all__ = [
    "METRICS",
    "Column",
    "CompareSettings",
    "ImageScorer",
    "LpipsUnavailable",
    "ReportData",
    "compare_pipelines",
    "feature_cosine",
    "format_table",
    "image_grid",
    "load_comparison_photos",
    "load_lpips",
    "load_pipeline",
    "psnr",
    "reconstruct_photos",
    "ssim",
    "write_comparison",
]

_MODULES = {
    "METRICS": "metrics",
    "Column": "grid",
    "CompareSettings": "settings",
    "ImageScorer": "scorer",
    "LpipsUnavailable": "lpips",
    "ReportData": "report_data",
    "compare_pipelines": "compare",
    "feature_cosine": "metrics",
    "format_table": "formatting",
    "image_grid": "grid",
    "load_comparison_photos": "photos",
    "load_lpips": "lpips",
    "load_pipeline": "decoding",
    "psnr": "metrics",
    "reconstruct_photos": "reconstruct",
    "ssim": "metrics",
    "write_comparison": "outputs",
}


def __getattr__(name: str):
    """Import on first use: reconstructing a photo needs neither the metrics nor the report."""
    if name not in _MODULES:
        raise AttributeError(f"module 'feat2img.evaluation' has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
