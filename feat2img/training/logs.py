"""Means of what the training steps report, for the trackers, the progress bar and, without a terminal, plain lines."""

import math

import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from .failures import Diverged

LINES_APART = 10  # logs between two plain lines


class TrainingLog:
    """Collects scalars between two logs."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.reset()
        self.logs = 0
        self.images_and_minutes: tuple[int, float] | None = None

    def reset(self) -> None:
        """Forget what was added."""
        self.sums: dict[str, torch.Tensor | float] = {}
        self.counts: dict[str, int] = {}
        self.first_broken: torch.Tensor | float = math.inf  # the first step that reported something not finite

    def add(self, scalars: dict[str, torch.Tensor | float], step: int) -> None:
        """Take what one micro-batch of a step reports; nothing waits for the device here.

        Sums alone are kept: many small tensors between large ones would keep the allocator from giving memory back.
        """
        for name, value in scalars.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        total = torch.as_tensor(sum(scalars.values()))
        at = torch.where(torch.isfinite(total), math.inf, float(step))
        self.first_broken = torch.minimum(torch.as_tensor(self.first_broken).to(at), at)

    def write(self, step: int, images: int, minutes: float, learning_rate: float, bar: tqdm) -> None:
        """Log the means over all processes since the last call. Raises Diverged when one is not finite."""
        if not self.sums:
            return
        means = self.means()
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            first = float(self.first_broken)  # of this process; another's is not known here
            at = int(first) if math.isfinite(first) else step
            raise Diverged(f"{', '.join(broken)} is not finite at step {at}")
        self.reset()
        if self.images_and_minutes is not None and minutes > self.images_and_minutes[1]:
            earlier_images, earlier_minutes = self.images_and_minutes
            means["images_per_second"] = (images - earlier_images) / (minutes - earlier_minutes) / 60
        self.images_and_minutes = images, minutes
        bar.set_postfix({name: f"{value:.3g}" for name, value in means.items()})
        self.accelerator.log({**means, "learning_rate": learning_rate}, step=step)
        self.logs += 1
        if bar.disable and self.accelerator.is_main_process and self.logs % LINES_APART == 0:
            print(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in means.items()), flush=True)

    def means(self) -> dict[str, float]:
        """Each scalar's mean over the micro-batches that have it, and over all processes, which report the same."""
        means = torch.tensor(
            [float(total) / self.counts[name] for name, total in self.sums.items()], dtype=torch.float64
        )
        if self.accelerator.num_processes > 1:
            means = self.accelerator.reduce(means.to(self.accelerator.device), reduction="mean").cpu()
        return dict(zip(self.sums, means.tolist(), strict=True))
