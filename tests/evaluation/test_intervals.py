import numpy as np
import pytest

from feat2img.evaluation.intervals import bootstrap_mean, paired_difference


def test_interval_covers_the_true_mean_in_95_of_100_experiments():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(400):
        interval = bootstrap_mean(rng.exponential(2.0, size=80), num_resamples=500, seed=trial)
        hits += interval.low <= 2.0 <= interval.high
    # a skewed distribution and 80 values: percentile intervals cover a little less than 95 %
    assert 0.91 <= hits / 400 <= 0.98


def test_interval_is_as_wide_as_the_normal_theory_says():
    values = np.random.default_rng(0).normal(3, 2, size=2000)
    interval = bootstrap_mean(values)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_same_values_give_the_same_interval_whatever_the_size_of_the_pieces(monkeypatch):
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap_mean(values) == bootstrap_mean(values.tolist())
    assert bootstrap_mean(values) != bootstrap_mean(values, seed=1)


def test_a_pipeline_against_itself_shows_no_difference():
    values = np.random.default_rng(0).normal(size=50)
    interval = paired_difference(values, values)
    assert interval == (0, 0, 0) and not interval.excludes_zero


def test_a_small_difference_of_pairs_shows_where_the_means_alone_would_not_tell():
    rng = np.random.default_rng(0)
    photos = rng.normal(20, 5, size=200)  # photos differ much, pipelines little
    better, worse = photos + 0.2 + rng.normal(0, 0.2, 200), photos + rng.normal(0, 0.2, 200)
    interval = paired_difference(better, worse)
    assert interval.excludes_zero and interval.low < 0.2 < interval.high and interval.high - interval.low < 0.1
    assert bootstrap_mean(worse).low < bootstrap_mean(better).mean < bootstrap_mean(worse).high


def test_infinite_scores():
    inf = float("inf")
    assert paired_difference([inf, 3.0], [inf, 2.0]).mean == 0.5
    interval = paired_difference([inf, 3.0, 3.0], [20.0, 2.0, 2.0])
    assert interval.mean == inf and interval.high == inf and not np.isnan(interval.low)
    assert bootstrap_mean([inf, inf]) == (inf, inf, inf)
    assert np.isnan(paired_difference([inf, 1.0], [1.0, inf])).all()


def test_wrong_use():
    with pytest.raises(ValueError, match="at least one number"):
        bootstrap_mean([])
    with pytest.raises(ValueError, match="same photos, got 2 and 3"):
        paired_difference([1, 2], [1, 2, 3])
