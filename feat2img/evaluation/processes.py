"""A comparison in several processes, as `torchrun` starts them: each measures some batches, all know all figures."""

import os
from typing import Any

import torch
import torch.distributed as dist


class Processes:
    """The processes of this run.

    Attributes:
        rank: number of this one; 0 is the main one, which alone writes.
        count: how many there are.
    """

    def __init__(self, rank: int = 0, count: int = 1):
        self.rank, self.count = rank, count

    @classmethod
    def of_this_run(cls) -> "Processes":
        """One, or those that `torchrun` has started; they exchange figures over gloo, which needs no GPU."""
        count = int(os.environ.get("WORLD_SIZE", 1))
        if count == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("gloo")
        return cls(dist.get_rank(), count)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def gather(self, value: Any) -> list:
        """Every process's value, in order of their numbers, on every process."""
        if self.count == 1:
            return [value]
        values: list = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Go on when every process has come here."""
        self.gather(None)

    def device(self, device: torch.device) -> torch.device:
        """This process's own GPU where "cuda" means any."""
        if self.count > 1 and device.type == "cuda" and device.index is None:
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        return device
