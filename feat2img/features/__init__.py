"""Frozen features: the encoder, their statistics, and their cache on disk."""

from .cache import CachedPhotoDataset, FeatureCache, build_feature_cache
from .encoder import TimmFeatureEncoder, fingerprint_distance
from .regression import RidgeRegression
from .statistics import ChannelStatistics

__all__ = [
    "CachedPhotoDataset",
    "ChannelStatistics",
    "FeatureCache",
    "RidgeRegression",
    "TimmFeatureEncoder",
    "build_feature_cache",
    "fingerprint_distance",
]
