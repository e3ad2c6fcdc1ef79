import torch

from feat2img.training.adversary import random_shift, shifted
from feat2img.training.examples import ExampleNoise


def noise(first, count=2):
    return ExampleNoise(0, first, count, torch.device("cpu"))


def test_shifted_cuts_each_image_at_its_own_corner():
    images = torch.rand(2, 3, 16, 16)
    expected = torch.stack([images[0, :, 1:13, 3:15], images[1, :, 0:12, 2:14]])
    assert torch.equal(shifted(images, torch.tensor([[1, 3], [0, 2]])), expected)


def test_every_corner_of_a_patch_is_drawn_about_equally_often():
    corners = torch.cat([random_shift(noise(first, 8)) for first in range(0, 1600, 8)])
    counts = torch.bincount(corners[:, 0] * 4 + corners[:, 1], minlength=16)
    assert len(counts) == 16 and counts.min() > 60 and counts.max() < 140  # 100 each, deviation 10


def test_shifts_depend_on_the_example_and_are_repeatable():
    assert torch.equal(random_shift(noise(10, 4)), random_shift(noise(10, 4)))
    assert not torch.equal(random_shift(noise(0, 8)), random_shift(noise(8, 8)))
