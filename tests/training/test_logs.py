import weakref

import pytest
import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from feat2img.training.logs import TrainingLog


@pytest.fixture
def log():
    return TrainingLog(Accelerator())


@pytest.fixture
def bar():
    with tqdm(disable=True) as shown:
        yield shown


def lines(log, bar, capsys, count):
    for step in range(1, count + 1):
        log.add({"loss": torch.tensor(float(step)), "other": 1.0}, step)
        log.write(step, 4 * step, step / 60, 0.1, bar)
    return capsys.readouterr().out.splitlines()


def test_every_tenth_log_is_a_plain_line_where_there_is_no_bar(log, bar, capsys):
    shown = lines(log, bar, capsys, 20)
    assert shown == [f"step {step}: loss {step}, other 1, images_per_second 4" for step in (10, 20)]


def test_means_are_over_what_was_added_since_the_last_log(log, bar, capsys):
    lines(log, bar, capsys, 9)
    for value in (1.0, 2.0, 6.0):
        log.add({"loss": torch.tensor(value)}, 10)
    log.add({"late": 5.0}, 10)
    log.write(10, 100, 1.0, 0.1, bar)
    assert capsys.readouterr().out.startswith("step 10: loss 3, late 5, images_per_second ")


def test_what_was_added_is_not_kept(log):
    """Thousands of small tensors kept until the next log made the process grow by hundreds of MB."""
    value = torch.tensor(1.0)
    kept = weakref.ref(value)
    log.add({"loss": value}, 1)
    del value
    assert kept() is None


def test_nothing_to_log_is_no_log(log, bar, capsys):
    for step in range(20):
        log.write(step, 0, 0.0, 0.1, bar)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_mean_that_is_not_finite_stops_the_run(log, bar, value):
    for step, d_loss in ((5, 1.0), (6, value), (7, 1.0)):
        log.add({"fine": 1.0, "d_loss": torch.tensor(d_loss)}, step)
    with pytest.raises(ValueError, match="^d_loss is not finite at step 6$"):
        log.write(7, 1, 1.0, 0.1, bar)
