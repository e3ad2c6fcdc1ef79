from itertools import islice

import pytest
import torch
from torch.utils.data import Dataset

from feat2img.data import SkippedPhoto
from feat2img.data.photos import mix_seed
from feat2img.training.examples import EndlessBatches, ExampleNoise, SeededExamples, endless_loader


def take(batches, count):
    return list(islice(batches, count))


class Numbers(Dataset):
    """Photos whose pixels are their index, and a random number as random flips draw it."""

    def __init__(self, count, broken=()):
        self.count, self.broken = count, broken

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index in self.broken:
            return {"skipped": SkippedPhoto(index, f"{index}.jpg", "broken")}
        return {"pixel_values": torch.stack([torch.tensor(float(index)), torch.rand(())]), "label": 0, "index": index}


# order


def test_each_epoch_is_another_permutation():
    batches = take(EndlessBatches(10, 2, seed=0), 15)
    for epoch in range(3):
        keys = sum(batches[5 * epoch : 5 * epoch + 5], [])
        assert sorted(keys) == [(epoch, index) for index in range(10)]
    orders = [[index for _, index in sum(batches[start : start + 5], [])] for start in (0, 5, 10)]
    assert orders[0] != orders[1] != orders[2] != orders[0] and orders[0] != list(range(10))


def test_the_remainder_is_another_one_in_every_epoch():
    batches = take(EndlessBatches(7, 3, seed=0), 40)
    assert all(len(batch) == 3 and len({epoch for epoch, _ in batch}) == 1 for batch in batches)
    assert {index for batch in batches for _, index in batch} == set(range(7))


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_same_global_batches(world_size):
    alone = take(EndlessBatches(13, 6, seed=4), 7)
    parts = [take(EndlessBatches(13, 6 // world_size, 4, rank, world_size), 7) for rank in range(world_size)]
    assert [sum(part, []) for part in zip(*parts, strict=True)] == alone


@pytest.mark.parametrize("start", [0, 1, 4, 5, 9])
def test_starting_later_equals_skipping(start):
    assert take(EndlessBatches(11, 2, 3, 1, 2, start), 6) == take(EndlessBatches(11, 2, 3, 1, 2), 6 + start)[start:]


def test_the_seed_changes_the_order():
    assert take(EndlessBatches(10, 5, seed=0), 2) != take(EndlessBatches(10, 5, seed=1), 2)


def test_too_few_examples_are_refused():
    with pytest.raises(ValueError, match="5 training images for a batch of 6 .3 on each of 2.*--train_batch_size"):
        EndlessBatches(5, 3, 0, 0, 2)
    assert take(EndlessBatches(6, 3, 0, 0, 2), 1)


def test_mixed_seeds_differ_with_every_part():
    parts = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (7, 2**40, 3), (7, 2**41, 3)]
    seeds = {mix_seed(*numbers) for numbers in parts}
    assert len(seeds) == len(parts) and all(0 <= seed < 2**63 for seed in seeds)


# examples


def random_part(examples, key):
    return examples[key][-1]["pixel_values"][1].item()


def test_random_choices_depend_on_seed_epoch_and_index_alone():
    examples = SeededExamples(Numbers(4), seed=1)
    torch.manual_seed(0)
    first = random_part(examples, (2, 3))
    torch.manual_seed(123)
    random_part(examples, (0, 0))
    assert random_part(examples, (2, 3)) == first
    others = [random_part(examples, (1, 3)), random_part(examples, (2, 2))]
    assert first not in others and first != random_part(SeededExamples(Numbers(4), seed=2), (2, 3))


def test_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    SeededExamples(Numbers(4), seed=1)[(0, 1)]
    assert torch.equal(torch.rand(3), expected)


def test_an_unreadable_photo_is_replaced_by_the_next_readable_one():
    examples = SeededExamples(Numbers(5, broken=(3, 4)), seed=0)[(0, 3)]
    assert [example["skipped"].index for example in examples[:-1]] == [3, 4] and examples[-1]["index"] == 0


def test_nothing_but_unreadable_photos_is_refused():
    with pytest.raises(ValueError, match="none of the 3 photos can be read; the first: .*1.jpg"):
        SeededExamples(Numbers(3, broken=range(3)), seed=0)[(0, 1)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_batches_stay_full(num_workers):
    dataset = Numbers(8, broken=(2,))
    loader = endless_loader(dataset, EndlessBatches(8, 4, seed=0), num_workers)
    batches = list(islice(loader, 4))
    assert all(batch["pixel_values"].shape == (4, 2) for batch in batches)
    assert sum(len(batch["skipped"]) for batch in batches) == 2  # once in each epoch
    again = endless_loader(dataset, EndlessBatches(8, 4, seed=0, start=2), 0)
    assert torch.equal(next(iter(again))["pixel_values"], batches[2]["pixel_values"])


# noise


@pytest.mark.parametrize("draw", [lambda n: n.normal((3, 2)), lambda n: n.integers(1000), lambda n: n.uniform()])
def test_noise_is_the_same_on_two_processes_and_in_smaller_batches(draw):
    device = torch.device("cpu")
    whole = draw(ExampleNoise(1, 28, 4, device))
    parts = [draw(ExampleNoise(1, first, 2, device)) for first in (28, 30)]
    assert len(whole) == 4 and torch.equal(torch.cat(parts), whole)
    assert len(whole.flatten(1).unique(dim=0) if whole.ndim > 1 else whole.unique()) == 4
    assert torch.equal(draw(ExampleNoise(1, 28, 4, device)), whole)
    for other in (ExampleNoise(2, 28, 4, device), ExampleNoise(1, 32, 4, device)):
        assert not torch.equal(draw(other), whole)


def test_noise_distributions():
    noise = ExampleNoise(0, 0, 2000, torch.device("cpu"))
    normal, integers, uniform = noise.normal((4,)), noise.integers(10), noise.uniform()
    assert normal.shape == (2000, 4) and abs(normal.mean()) < 0.05 and abs(normal.std() - 1) < 0.05
    assert integers.dtype == torch.int64 and integers.unique().tolist() == list(range(10))
    assert uniform.min() >= 0 and uniform.max() < 1 and abs(uniform.mean() - 0.5) < 0.03
