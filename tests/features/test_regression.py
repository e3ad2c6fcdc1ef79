import numpy as np
import pytest
import torch

from feat2img.features import RidgeRegression
from feat2img.features.regression import RELATIVE_PENALTY


def data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(9, 6, 3, 4, generator=generator) * 3 + 2
    return inputs, torch.randn(9, 5, 3, 4, generator=generator) + inputs[:, :5]


def rows(tensor):
    return tensor.permute(0, 2, 3, 1).flatten(0, 2).double().numpy()


def test_uneven_batches_solve_the_normal_equations():
    inputs, targets = data()
    regression = RidgeRegression(6, 5)
    for start, end in ((0, 2), (2, 2), (2, 9)):
        regression.update(inputs[start:end], targets[start:end])
    weight, bias = regression.solve()
    x, y = rows(inputs), rows(targets)
    centred = x - x.mean(0)
    penalty = RELATIVE_PENALTY * np.mean(np.square(centred).sum(0))
    expected = np.linalg.solve(centred.T @ centred + penalty * np.eye(6), centred.T @ (y - y.mean(0)))
    np.testing.assert_allclose(weight.numpy(), expected.T, atol=1e-6)
    np.testing.assert_allclose(bias.numpy(), y.mean(0) - x.mean(0) @ expected, atol=1e-5)


def test_inputs_that_repeat_each_other_do_no_harm():
    inputs, targets = data()
    regression = RidgeRegression(12, 5)
    regression.update(torch.cat([inputs, inputs], dim=1), targets)
    weight, bias = regression.solve()
    assert weight.isfinite().all() and bias.isfinite().all()
    torch.testing.assert_close(weight[:, :6], weight[:, 6:], rtol=1e-2, atol=1e-3)


def test_without_rows():
    with pytest.raises(ValueError, match="seen no rows"):
        RidgeRegression(3, 2).solve()
