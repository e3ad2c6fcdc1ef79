"""How far a run is, and the learning rate that follows from it."""

import math
import time

from .config import TrainingConfig


class Progress:
    """Share of a run that is done, by steps or by minutes, whichever is further; time of earlier parts counts in."""

    def __init__(self, max_steps: int | None, max_minutes: float | None, step: int = 0, minutes: float = 0.0):
        self.max_steps, self.max_minutes = max_steps, max_minutes
        self.step = step
        self._earlier_minutes = minutes
        self._started = time.monotonic()

    @property
    def minutes(self) -> float:
        return self._earlier_minutes + (time.monotonic() - self._started) / 60

    @property
    def share(self) -> float:
        """In [0, 1]; 1 means that the run is over."""
        by_steps = self.step / self.max_steps if self.max_steps else float(self.max_steps == 0)
        by_time = self.minutes / self.max_minutes if self.max_minutes else 0.0
        return min(1.0, max(by_steps, by_time))


def learning_rate(config: TrainingConfig, base: float, step: int, share: float) -> float:
    """Linear warm-up over `lr_warmup_steps`, then constant, or a cosine to 1 % of `base` at the end of the run."""
    warmup = min(1.0, (step + 1) / max(1, config.lr_warmup_steps))
    if config.lr_scheduler == "constant":
        return base * warmup
    return base * warmup * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
