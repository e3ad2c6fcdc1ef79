"""Measure pipelines on the same photos: metrics, baselines, cost, a grid and a report."""

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
