import pytest
import torch
from PIL import Image

from feat2img.evaluation.grid import to_pil
from feat2img.evaluation.metrics import fine_detail, psnr
from feat2img.evaluation.yardstick import equivalent_resolution, shrunk


def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=generator)


def test_shrinking_is_pillow_s():
    for image, result in zip(images(), shrunk(images(), 16), strict=True):
        small = to_pil(image).resize((16, 16), Image.Resampling.BICUBIC)
        expected = small.resize((64, 64), Image.Resampling.BICUBIC)
        difference = (torch.tensor(list(to_pil(result).tobytes())) - torch.tensor(list(expected.tobytes()))).abs()
        # Pillow also rounds between the two directions of each resize
        assert difference.max() <= 2 and difference.float().mean() < 0.4


def test_larger_sizes_keep_more_and_the_own_size_all():
    originals = images()
    qualities = [psnr(shrunk(originals, size), originals).mean().item() for size in (8, 16, 32, 48)]
    assert qualities == sorted(qualities)
    assert torch.equal(shrunk(originals, 64), originals)
    assert fine_detail(shrunk(originals, 8)).max() < 0.01 * fine_detail(originals).min()
    with pytest.raises(ValueError, match="cannot be shrunk to 65"):
        shrunk(originals, 65)


SIZES, LPIPS = [14, 28, 56, 112], [0.8, 0.6, 0.4, 0.1]


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0.6, (28.0, None)),
        (0.5, ((28 * 56) ** 0.5, None)),  # half-way between two sizes in log(size)
        (0.8, (14.0, None)),
        (0.1, (112.0, None)),
        (0.81, (None, "<14")),
        (0.05, (None, ">112")),
        (None, (None, None)),
        (float("inf"), (None, None)),
    ],
)
def test_equivalent_resolution(score, expected):
    size, bound = equivalent_resolution(score, SIZES, LPIPS, higher_is_better=False)
    assert bound == expected[1]
    assert size == (None if expected[0] is None else pytest.approx(expected[0]))


def test_equivalent_resolution_of_a_score_where_higher_is_better_and_the_yardstick_is_not_monotone():
    scores = [0.1, 0.5, 0.4, 0.9]
    assert equivalent_resolution(0.5, SIZES, scores, higher_is_better=True) == (28.0, None)
    size, _ = equivalent_resolution(0.7, SIZES, scores, higher_is_better=True)
    assert size == pytest.approx((56 * 112) ** 0.5)
    assert equivalent_resolution(0.5, [], [], higher_is_better=True) == (None, None)
