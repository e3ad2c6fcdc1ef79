"""The order of training examples, a function of seed and step alone, so that a resumed run sees what was left."""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..data import collate_photos
from ..data.photos import leave_signals_to_the_main_process, mix_seed


class SeededExamples(Dataset):
    """Examples by (epoch, index): random crops and flips depend on seed, epoch and index, on nothing else.

    A photo that cannot be read is replaced by the next one that can; it comes first in the list that is returned, as
    the record of what was skipped, so that batches stay full on every process.
    """

    def __init__(self, dataset: Dataset, seed: int):
        self.dataset = dataset
        self.seed = seed

    def __getitem__(self, key: tuple[int, int]) -> list[dict]:
        epoch, index = key
        examples = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix_seed(self.seed, epoch, index))
            for offset in range(len(self.dataset)):
                examples.append(self.dataset[(index + offset) % len(self.dataset)])
                if "skipped" not in examples[-1]:
                    return examples
        raise ValueError(f"none of the {len(self.dataset)} photos can be read; the first: {examples[0]['skipped']}")


class EndlessBatches(Sampler):
    """Batches of (epoch, index) for one process, epoch after epoch, each a permutation drawn from seed and epoch.

    Every process takes its part of the same global batch; the remainder of an epoch that fills no batch is left out.
    """

    def __init__(
        self, num_examples: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, start: int = 0
    ):
        if batch_size < 1 or seed < 0:
            raise ValueError(f"batch_size is {batch_size}, seed {seed}; expected at least 1 and 0")
        if num_examples < batch_size * world_size:
            raise ValueError(
                f"{num_examples} training images for a batch of {batch_size * world_size} "
                f"({batch_size} on each of {world_size} processes); use a smaller --train_batch_size"
            )
        self.num_examples, self.batch_size, self.seed = num_examples, batch_size, seed
        self.rank, self.world_size, self.start = rank, world_size, start

    @property
    def batches_per_epoch(self) -> int:
        return self.num_examples // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        batch = self.start
        while True:
            epoch, position = divmod(batch, self.batches_per_epoch)
            if position == 0 or batch == self.start:
                generator = torch.Generator().manual_seed(mix_seed(self.seed, epoch))
                order = torch.randperm(self.num_examples, generator=generator).tolist()
            first = (position * self.world_size + self.rank) * self.batch_size
            yield [(epoch, index) for index in order[first : first + self.batch_size]]
            batch += 1


def endless_loader(dataset: Dataset, batches: EndlessBatches, num_workers: int) -> DataLoader:
    """A loader that never ends; its batches are those of `collate_photos`."""
    return DataLoader(
        SeededExamples(dataset, batches.seed),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_collate,
        worker_init_fn=leave_signals_to_the_main_process,
    )


def _collate(examples: list[list[dict]]) -> dict:
    return collate_photos([example for group in examples for example in group])


class ExampleNoise:
    """Random numbers of one batch, drawn per example from the seed and the example's number in the whole run.

    They are the same whatever the number of processes, the size of the batches, and after resuming.

    Args:
        first: number of the batch's first example, counted over all processes from the start of the run.
        size: examples in the batch.
    """

    def __init__(self, seed: int, first: int, size: int, device: torch.device):
        # the last part keeps these seeds apart from those of order and flips
        seeds = [mix_seed(seed, first + place, 0, 1) for place in range(size)]
        self.generators = [torch.Generator(device=device).manual_seed(one) for one in seeds]
        self.device = device

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Standard normal (B, *shape)."""
        return torch.stack([torch.randn(shape, generator=g, device=self.device) for g in self.generators])

    def integers(self, high: int) -> torch.Tensor:
        """Uniform int64 (B,) in [0, high)."""
        return torch.cat([torch.randint(high, (1,), generator=g, device=self.device) for g in self.generators])

    def uniform(self) -> torch.Tensor:
        """Uniform (B,) in [0, 1)."""
        return torch.cat([torch.rand(1, generator=g, device=self.device) for g in self.generators])
