import pytest
import torch

from feat2img.evaluation.contender import Batch, score_samples
from feat2img.evaluation.lpips import CONVOLUTIONS, build_lpips
from feat2img.evaluation.metrics import psnr
from feat2img.evaluation.scorer import ImageScorer
from feat2img.evaluation.verifier import Opinion


def random_images(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=generator)


@pytest.fixture
def scorer(no_lpips_weights) -> ImageScorer:
    """With an LPIPS network of random convolutions."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3))
    weights = {}
    for place, shape in zip(CONVOLUTIONS, shapes, strict=True):
        weights[f"features.{place}.weight"] = torch.randn(shape, generator=generator) * shape[1] ** -0.5 / shape[2]
        weights[f"features.{place}.bias"] = torch.zeros(shape[0])
    scorer = ImageScorer(download=False)
    scorer.lpips_network = build_lpips(weights)
    return scorer


def test_scores_over_samples(scorer):
    targets, samples = random_images(0), [random_images(seed) for seed in (1, 2, 3)]
    samples[1][0] = targets[0] // 2
    scores = score_samples(samples, targets, scorer)
    ratios = torch.stack([psnr(sample, targets) for sample in samples])
    distances = torch.stack([scorer.lpips(sample, targets) for sample in samples])
    mean = (sum(sample.double() for sample in samples) / 3).round().byte()
    torch.testing.assert_close(scores["psnr_best"], ratios.max(dim=0).values)
    torch.testing.assert_close(scores["psnr_mean"], ratios.mean(dim=0))
    torch.testing.assert_close(scores["lpips_best"], distances.min(dim=0).values)
    torch.testing.assert_close(scores["lpips_mean"], distances.mean(dim=0))
    torch.testing.assert_close(scores["psnr_of_mean"], psnr(mean, targets), atol=1e-3, rtol=0)
    torch.testing.assert_close(scores["lpips_of_mean"], scorer.lpips(mean, targets), atol=1e-3, rtol=0)
    pairs = [scorer.lpips(samples[i], samples[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    torch.testing.assert_close(scores["diversity"], sum(pairs) / 3)


def test_equal_samples_have_no_diversity(scorer):
    images, targets = random_images(1), random_images(0)
    scores = score_samples([images, images], targets, scorer)
    assert scores["diversity"].tolist() == [0, 0]
    torch.testing.assert_close(scores["lpips_best"], scores["lpips_of_mean"])
    torch.testing.assert_close(scores["psnr_best"], scores["psnr_of_mean"])


def test_a_batch_repeats_its_photos_when_more_are_wanted():
    opinions = {"verifier": Opinion(torch.arange(10).view(2, 5), torch.zeros(2, 3))}
    batch = Batch(
        torch.arange(2.0).view(2, 1, 1, 1), random_images(0), torch.tensor([7, 9]), torch.tensor([1, 0]), opinions
    )
    more = batch.first(5)
    assert more.indices.tolist() == [7, 9, 7, 9, 7] and more.features.flatten().tolist() == [0, 1, 0, 1, 0]
    assert torch.equal(more.targets[3], batch.targets[1]) and more.labels.tolist() == [1, 0, 1, 0, 1]
    assert more.opinions["verifier"].classes[:, 0].tolist() == [0, 5, 0, 5, 0]
    assert len(batch.first(1)) == 1
