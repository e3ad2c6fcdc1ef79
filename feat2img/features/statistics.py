"""Mean and standard deviation of every feature channel, over more features than fit in memory."""

import torch


class ChannelStatistics:
    """Mean and standard deviation per channel, in float64.

    Batches are merged as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances" (1979), eq. 1.5, which loses no digits where the mean is large against the deviation.
    """

    def __init__(self) -> None:
        self.count = 0  # values per channel
        self._mean = torch.zeros(0, dtype=torch.float64)
        self._squares = torch.zeros(0, dtype=torch.float64)  # sums of squared deviations from the mean

    def update(self, features: torch.Tensor) -> None:
        """Add features (B, C, h, w); B may be 0."""
        if features.ndim != 4 or (self.count and features.shape[1] != len(self._mean)):
            channels = len(self._mean) if self.count else "C"
            raise ValueError(f"expected features (B, {channels}, h, w), got {tuple(features.shape)}")
        if features.numel() == 0:
            return
        values = features.detach().cpu().double().transpose(0, 1).flatten(1)
        count, mean = values.shape[1], values.mean(dim=1)
        squares = (values - mean[:, None]).square().sum(dim=1)
        if self.count == 0:
            self.count, self._mean, self._squares = count, mean, squares
            return
        total, delta = self.count + count, mean - self._mean
        self._squares = self._squares + squares + delta.square() * (self.count * count / total)
        self._mean = self._mean + delta * (count / total)
        self.count = total

    @property
    def mean(self) -> torch.Tensor:
        """(C,) float64."""
        self._check()
        return self._mean

    @property
    def std(self) -> torch.Tensor:
        """(C,) float64, of the whole population (divided by n)."""
        self._check()
        return (self._squares / self.count).sqrt()

    def _check(self) -> None:
        if self.count == 0:
            raise ValueError("there are no statistics yet: call update with at least one feature map")
