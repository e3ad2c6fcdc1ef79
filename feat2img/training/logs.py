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
        self.entries: list[tuple[int, dict[str, torch.Tensor | float]]] = []  # step and what one micro-batch reported
        self.logs = 0
        self.images_and_minutes: tuple[int, float] | None = None

    def add(self, scalars: dict[str, torch.Tensor | float], step: int) -> None:
        """Take what one micro-batch of a step reports; nothing waits for the device here."""
        self.entries.append((step, scalars))

    def write(self, step: int, images: int, minutes: float, learning_rate: float, bar: tqdm) -> None:
        """Log the means over all processes since the last call. Raises Diverged when one is not finite."""
        if not self.entries:
            return
        means = self.means()
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            raise Diverged(f"{', '.join(broken)} is not finite at step {self.first_broken(step)}")
        self.entries = []
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
        """Each scalar's mean over the entries that have it, and over all processes, which report the same names."""
        names = list(dict.fromkeys(name for _, scalars in self.entries for name in scalars))
        values = [[float(scalars[name]) for _, scalars in self.entries if name in scalars] for name in names]
        means = torch.tensor([sum(one) / len(one) for one in values], dtype=torch.float64)
        if self.accelerator.num_processes > 1:
            means = self.accelerator.reduce(means.to(self.accelerator.device), reduction="mean").cpu()
        return dict(zip(names, means.tolist(), strict=True))

    def first_broken(self, step: int) -> int:
        """The first step that reported something not finite; the given one where that was another process's."""
        found = (at for at, scalars in self.entries if not all(math.isfinite(float(v)) for v in scalars.values()))
        return next(found, step)
