import math

import pytest

from feat2img.training.schedule import Progress, learning_rate


def test_share_by_steps():
    progress = Progress(max_steps=8, max_minutes=None)
    assert progress.share == 0
    progress.step = 2
    assert progress.share == 0.25
    progress.step = 9
    assert progress.share == 1
    assert Progress(max_steps=0, max_minutes=None).share == 1


def test_share_by_minutes_counts_earlier_parts():
    progress = Progress(max_steps=None, max_minutes=10, step=5, minutes=4)
    assert progress.share == pytest.approx(0.4, abs=0.01) and progress.minutes == pytest.approx(4, abs=0.1)
    assert Progress(None, 10, minutes=11).share == 1


def test_the_further_of_both_counts():
    assert Progress(max_steps=10, max_minutes=10, step=8, minutes=4).share == pytest.approx(0.8)
    assert Progress(max_steps=10, max_minutes=10, step=2, minutes=4).share == pytest.approx(0.4, abs=0.01)
    assert Progress(max_steps=None, max_minutes=None, step=100).share == 0


def test_warm_up(make_config):
    config = make_config("gan", lr_scheduler="constant", lr_warmup_steps=4)
    rates = [learning_rate(config, 0.2, step, 0.0) for step in range(6)]
    assert rates == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.2])
    assert learning_rate(make_config("gan", lr_warmup_steps=0), 0.2, 0, 0.0) == 0.2


def test_cosine(make_config):
    config = make_config("gan", lr_warmup_steps=2)
    for share in (0.0, 0.25, 0.5, 0.9, 1.0):
        expected = 0.2 * (0.01 + 0.99 * math.cos(share * math.pi / 2) ** 2)
        assert learning_rate(config, 0.2, 100, share) == pytest.approx(expected)
    assert learning_rate(config, 0.2, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(config, 0.2, 100, 1.0) == pytest.approx(0.002)


def test_constant_ignores_the_share(make_config):
    config = make_config("gan", lr_scheduler="constant")
    assert learning_rate(config, 0.2, 100, 0.9) == 0.2
