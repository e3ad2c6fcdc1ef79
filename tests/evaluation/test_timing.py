import time

import pytest
from torch import nn

from feat2img.evaluation.timing import count_decoder_parameters, median_batch_seconds, median_seconds


def test_median_seconds_warms_up_and_takes_the_median():
    durations = iter([0.4, 0.01, 0.3, 0.1])
    assert 0.09 < median_seconds(lambda: time.sleep(next(durations)), "cpu", min_repeats=3, max_repeats=3) < 0.25


def test_median_seconds_stops_when_its_budget_is_spent():
    calls = []
    median_seconds(lambda: calls.append(time.sleep(0.02)), "cpu", min_repeats=2, max_repeats=50, budget_s=0.01)
    assert len(calls) == 1 + 2
    with pytest.raises(ValueError, match="min_repeats"):
        median_seconds(lambda: None, "cpu", min_repeats=0)


def test_batch_latency_is_per_image_over_full_batches_without_the_first():
    assert median_batch_seconds([(4, 8.0), (4, 1.0), (4, 2.0), (4, 3.0), (2, 9.0)]) == (4, 0.5)
    assert median_batch_seconds([(4, 8.0), (2, 9.0)]) == (4, 2.0)
    assert median_batch_seconds([(2, 8.0), (4, 6.0)]) == (4, 1.5)
    with pytest.raises(ValueError, match="no batch"):
        median_batch_seconds([])


def test_parameters_are_those_of_all_modules_but_the_encoder_once():
    shared = nn.Linear(3, 2)
    components = {
        "encoder": nn.Linear(100, 100),
        "projector": nn.Sequential(shared, nn.Linear(2, 2)),
        "generator": nn.Sequential(shared, nn.BatchNorm2d(5)),
        "scheduler": object(),
        "safety": None,
    }
    assert count_decoder_parameters(components) == (3 * 2 + 2) + (2 * 2 + 2) + 2 * 5
