import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from feat2img.training.losses import (
    clean_image,
    discriminator_accuracy,
    discriminator_hinge_loss,
    generator_hinge_loss,
    relativistic_loss,
    snr_weight,
    squared_gradient,
)


def logits(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, 1, 5, 5)) * 2, rng.normal(size=(4, 1, 5, 5)) * 2


def test_hinge_losses():
    real, fake = logits()
    expected = np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()
    assert discriminator_hinge_loss(torch.tensor(real), torch.tensor(fake)).item() == pytest.approx(expected)
    assert generator_hinge_loss(torch.tensor(fake)).item() == pytest.approx(-fake.mean())
    assert discriminator_hinge_loss(torch.full((3,), 1.5), torch.full((3,), -1.5)).item() == 0
    assert discriminator_hinge_loss(torch.zeros(3), torch.zeros(3)).item() == 2


def test_relativistic_loss():
    real, fake = logits()
    expected = np.log1p(np.exp(fake - real)).mean()
    assert relativistic_loss(torch.tensor(real), torch.tensor(fake)).item() == pytest.approx(expected)
    assert relativistic_loss(torch.zeros(3), torch.zeros(3)).item() == pytest.approx(np.log(2))


def test_squared_gradient_of_a_known_function():
    """Means of 3 x^2 and of 2 y have the gradients 6 x / n and 2 / n."""
    first = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    second = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    penalty = squared_gradient([3 * first**2, 2 * second], [first, second])
    x = first.detach().numpy()
    expected = (((6 * x / 16) ** 2).reshape(2, -1).sum(axis=1) + 3 * (2 / 3) ** 2).mean()
    assert penalty.item() == pytest.approx(expected)
    penalty.backward()
    np.testing.assert_allclose(first.grad, 36 * x / 16**2, rtol=1e-9)  # d/dx of (6 x / 16)^2 / 2 examples


def test_discriminator_accuracy():
    real, fake = logits()
    accuracies = discriminator_accuracy(torch.tensor(real), torch.tensor(fake))
    expected = ((real > 0).sum() / real.size, (fake < 0).sum() / fake.size)
    assert [accuracy.item() for accuracy in accuracies] == pytest.approx(expected)
    assert [a.item() for a in discriminator_accuracy(torch.ones(4), torch.ones(4))] == [1, 0]
    assert [a.item() for a in discriminator_accuracy(torch.zeros(4), torch.zeros(4))] == [0, 0]


SNR = torch.tensor([0.0, 0.5, 1.0, 4.0, 5.0, 100.0])
WEIGHTS = {
    ("sample", "none"): [1, 1, 1, 1, 1, 1],
    ("v_prediction", "none"): [1, 1, 1, 1, 1, 1],
    ("sample", "min_snr"): [0, 0.5, 1, 4, 5, 5],
    ("v_prediction", "min_snr"): [0, 0.5 / 1.5, 1 / 2, 4 / 5, 5 / 6, 5 / 101],
    ("sample", "clamped"): [1, 1, 1, 4, 5, 5],
    ("v_prediction", "clamped"): [1, 1 / 1.5, 1 / 2, 4 / 5, 5 / 6, 5 / 101],
}


@pytest.mark.parametrize("prediction_type, weighting", WEIGHTS)
def test_snr_weights(prediction_type, weighting):
    weights = snr_weight(SNR, prediction_type, weighting)
    torch.testing.assert_close(weights, torch.tensor(WEIGHTS[prediction_type, weighting], dtype=torch.float32))


def test_gamma_is_the_upper_bound():
    assert snr_weight(SNR, "sample", "min_snr", gamma=2.0).tolist() == [0, 0.5, 1, 2, 2, 2]
    assert snr_weight(SNR, "sample", "clamped", gamma=2.0).tolist() == [1, 1, 1, 2, 2, 2]


def test_unknown_weighting_is_refused():
    with pytest.raises(ValueError, match="loss_weighting is 'snr'; choose 'none', 'min_snr' or 'clamped'"):
        snr_weight(SNR, "sample", "snr")


@pytest.fixture
def diffused():
    """A scheduler without signal at its last timestep; clean images, noise, and timesteps with both ends."""
    torch.manual_seed(0)
    scheduler = DDPMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    timesteps = torch.tensor([0, 1, 400, 998, 999])
    return scheduler, torch.rand(5, 3, 4, 4) * 2 - 1, torch.randn(5, 3, 4, 4), timesteps


def test_clean_image_inverts_the_scheduler(diffused):
    scheduler, clean, noise, timesteps = diffused
    noisy = scheduler.add_noise(clean, noise, timesteps)
    velocity = scheduler.get_velocity(clean, noise, timesteps)
    alphas = scheduler.alphas_cumprod[timesteps]
    assert alphas[-1] == 0
    torch.testing.assert_close(clean_image(velocity, noisy, alphas, "v_prediction"), clean, atol=1e-5, rtol=1e-5)
    assert torch.equal(clean_image(clean, noisy, alphas, "sample"), clean)


@pytest.mark.parametrize("weighting", ["min_snr", "clamped"])
def test_a_weighted_v_error_is_the_weighted_error_of_its_clean_image(diffused, weighting):
    scheduler, clean, noise, timesteps = diffused
    noisy = scheduler.add_noise(clean, noise, timesteps)
    velocity = scheduler.get_velocity(clean, noise, timesteps)
    prediction = velocity + 0.3 * torch.randn_like(velocity)
    alphas = scheduler.alphas_cumprod[timesteps].double()
    snr = alphas / (1 - alphas)

    def weighted(error, prediction_type):
        return snr_weight(snr, prediction_type, weighting) * error.double().square().mean(dim=(1, 2, 3))

    implied = clean_image(prediction.double(), noisy.double(), alphas, "v_prediction")
    torch.testing.assert_close(
        weighted(prediction - velocity, "v_prediction"), weighted(implied - clean, "sample"), atol=1e-9, rtol=1e-4
    )
