"""Means of what the training steps report, for the trackers, the progress bar and, without a terminal, plain lines."""

import math

import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

LINES_APART = 10  # logs between two plain lines


class TrainingLog:
    """Collects scalars between two logs."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.sums: dict[str, torch.Tensor | float] = {}
        self.counts: dict[str, int] = {}
        self.logs = 0
        self.images_and_minutes: tuple[int, float] | None = None

    def add(self, scalars: dict[str, torch.Tensor | float]) -> None:
        for name, value in scalars.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def write(self, step: int, images: int, minutes: float, learning_rate: float, bar: tqdm) -> None:
        """Log the means since the last call. Raises ValueError when one is not finite."""
        if not self.sums:
            return
        means = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            raise ValueError(
                f"{', '.join(broken)} is not finite at step {step}; resume from the last checkpoint or start again "
                "with a smaller --learning_rate or --max_grad_norm, or with --mixed_precision no"
            )
        if self.images_and_minutes is not None and minutes > self.images_and_minutes[1]:
            earlier_images, earlier_minutes = self.images_and_minutes
            means["images_per_second"] = (images - earlier_images) / (minutes - earlier_minutes) / 60
        self.images_and_minutes = images, minutes
        bar.set_postfix({name: f"{value:.3g}" for name, value in means.items()})
        self.accelerator.log({**means, "learning_rate": learning_rate}, step=step)
        self.logs += 1
        if bar.disable and self.accelerator.is_main_process and self.logs % LINES_APART == 0:
            print(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in means.items()), flush=True)
