"""Ridge regression over more rows than fit in memory."""

import torch
from torch import Tensor

RELATIVE_PENALTY = 1e-3


class RidgeRegression:
    """Closed-form linear regression with a quadratic penalty, from running sums in float64.

    With centred inputs X and targets Y the weights are (X'X + penalty I)^-1 X'Y (Hoerl & Kennard 1970); the penalty is
    0.001 of the mean diagonal of X'X, and the constant is not penalised. Memory does not grow with the rows.

    Args:
        num_inputs, num_targets: columns of X and Y.
    """

    def __init__(self, num_inputs: int, num_targets: int):
        self.count = 0
        self.input_sum = torch.zeros(num_inputs, dtype=torch.float64)
        self.target_sum = torch.zeros(num_targets, dtype=torch.float64)
        self.gram = torch.zeros(num_inputs, num_inputs, dtype=torch.float64)
        self.cross = torch.zeros(num_inputs, num_targets, dtype=torch.float64)

    def update(self, inputs: Tensor, targets: Tensor) -> None:
        """Add the cells of (B, num_inputs, h, w) and of (B, num_targets, h, w) as rows."""
        x, y = (tensor.float().permute(0, 2, 3, 1).flatten(0, 2) for tensor in (inputs, targets))
        self.count += len(x)
        self.input_sum += x.sum(dim=0).cpu().double()
        self.target_sum += y.sum(dim=0).cpu().double()
        self.gram += (x.T @ x).cpu().double()
        self.cross += (x.T @ y).cpu().double()

    def solve(self) -> tuple[Tensor, Tensor]:
        """Weight (num_targets, num_inputs) and bias (num_targets,), float64. Raises ValueError without any rows."""
        if self.count == 0:
            raise ValueError("the regression has seen no rows: call update first")
        mean, target_mean = self.input_sum / self.count, self.target_sum / self.count
        gram = self.gram - self.count * torch.outer(mean, mean)
        cross = self.cross - self.count * torch.outer(mean, target_mean)
        penalty = RELATIVE_PENALTY * gram.diagonal().mean().clamp(min=1e-12)
        weight = torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=torch.float64), cross)
        return weight.T, target_mean - mean @ weight
