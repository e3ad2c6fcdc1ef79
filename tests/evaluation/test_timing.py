import time

import pytest
import torch
from torch import nn

from feat2img.evaluation.timing import (
    count_calls,
    count_decoder_parameters,
    measure_cost,
    percentile_90,
    repeat_seconds,
)


def test_repeats_after_warming_up():
    durations = iter([0.2, 0.01, 0.03, 0.02])
    seconds = repeat_seconds(lambda: time.sleep(next(durations)), "cpu", min_repeats=3, max_repeats=3)
    assert len(seconds) == 3 and max(seconds) < 0.2 and seconds[0] >= 0.01


def test_repeating_stops_when_its_budget_is_spent():
    calls = []
    repeat_seconds(lambda: calls.append(time.sleep(0.02)), "cpu", min_repeats=2, max_repeats=50, budget_s=0.01)
    assert len(calls) == 1 + 2
    with pytest.raises(ValueError, match="min_repeats"):
        repeat_seconds(lambda: None, "cpu", min_repeats=0)


def test_percentile_90():
    assert percentile_90(list(range(1, 11))) == 9
    assert percentile_90([5.0]) == 5.0
    assert percentile_90([3.0, 1.0, 2.0]) == 3.0
    with pytest.raises(ValueError, match="no time"):
        percentile_90([])


def test_cost_is_per_image_in_milliseconds():
    cost = measure_cost(lambda n: time.sleep(0.01 * n), lambda: time.sleep(0.03), "cpu", batch_size=4)
    assert 10 <= cost["latency_ms"] < 30 and cost["latency_p90_ms"] >= cost["latency_ms"]
    assert 30 <= cost["latency_with_encoder_ms"] < 60
    assert 10 <= cost["latency_ms_batch"] < 30 and cost["latency_batch_size"] == 4
    assert cost["images_per_second"] == pytest.approx(1000 / cost["latency_ms_batch"])
    assert cost["peak_memory_mb"] is None  # a CPU does not tell


def test_calls_count_images():
    module = nn.Linear(2, 2)
    assert count_calls(module, lambda: (module(torch.zeros(3, 2)), module(torch.zeros(2, 2)))) == 5
    assert not module._forward_pre_hooks
    assert count_calls(None, lambda: 1 / 0) == 0


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
