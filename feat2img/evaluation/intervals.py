"""95 % intervals of means and of paired differences, by the percentile bootstrap (Efron 1979)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95
CHUNK_VALUES = 1 << 18  # drawn values in memory at a time


class Interval(NamedTuple):
    """A mean and the ends of its interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is shown: both ends lie on the same side of 0."""
        return self.low > 0 or self.high < 0


def bootstrap_mean(values: Sequence[float], num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Interval:
    """Mean of the values and its 95 % interval: the 2.5th and 97.5th percentile of resampled means.

    The interval is about other photos of the same kind; with fewer than about 20 values it is too narrow. Infinite
    values are kept: the mean is infinite then. One value has an interval of no width.

    Raises:
        ValueError: without values.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"an interval needs a list of at least one number, got shape {values.shape}")
    mean = float(values.mean())
    if len(values) == 1 or np.all(values == values[0]):
        return Interval(float(values[0]), float(values[0]), float(values[0]))
    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK_VALUES // len(values))
    means = np.empty(num_resamples)
    for start in range(0, num_resamples, rows):
        stop = min(start + rows, num_resamples)
        means[start:stop] = values[generator.integers(len(values), size=(stop - start, len(values)))].mean(axis=1)
    tail = (1 - CONFIDENCE) / 2
    # without interpolation, which would make NaN of two infinities
    low, high = np.quantile(means, [tail, 1 - tail], method="inverted_cdf")
    return Interval(mean, float(low), float(high))


def paired_difference(
    first: Sequence[float], second: Sequence[float], num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Interval:
    """Mean of `first - second` over the same photos and its 95 % interval; equal infinite values differ by 0.

    Raises:
        ValueError: when the two differ in length.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"paired values must belong to the same photos, got {len(first)} and {len(second)}")
    difference = np.zeros_like(first)
    np.subtract(first, second, out=difference, where=first != second)
    if np.isposinf(difference).any() and np.isneginf(difference).any():
        return Interval(float("nan"), float("nan"), float("nan"))
    return bootstrap_mean(difference, num_resamples, seed)
