"""The losses, as pure functions of network outputs."""

import torch
import torch.nn.functional as F


def discriminator_hinge_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Hinge loss of the discriminator (Lim & Ye 2017, arXiv:1705.02894, eq. 3); any shape => scalar."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


def generator_hinge_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """The generator's side of the hinge loss, -E[D(G)]; any shape => scalar."""
    return -fake_logits.mean()


def discriminator_accuracy(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Share of real patches judged real and of generated patches judged generated, each in [0, 1]."""
    return (real_logits > 0).float().mean(), (fake_logits < 0).float().mean()


def snr_weight(snr: torch.Tensor, prediction_type: str, weighting: str, gamma: float = 5.0) -> torch.Tensor:
    """Weight of each example's mean squared error, (B,) => (B,).

    With signal-to-noise ratio snr, an error of the clean image weighs w(snr)::

        "none"       what the prediction type itself implies: 1 for "sample", snr + 1 for "v_prediction"
        "min_snr"    min(snr, gamma) (Hang et al. 2023, arXiv:2303.09556): nothing is learnt at pure noise
        "clamped"    snr clamped to [1, gamma]: max(snr, 1) of Salimans & Ho 2022 (arXiv:2202.00512, section 4) with
                     min-SNR's upper bound. It keeps pure noise in training, where a decoder with a strong condition
                     already makes most of the image.

    A v error is a clean-image error times sqrt(snr + 1), so its weight is divided by snr + 1.
    """
    if weighting == "none":
        return torch.ones_like(snr)
    if weighting == "min_snr":
        weight = snr.clamp(max=gamma)
    elif weighting == "clamped":
        weight = snr.clamp(min=1.0, max=gamma)
    else:
        raise ValueError(f"loss_weighting is {weighting!r}; choose 'none', 'min_snr' or 'clamped'")
    return weight / (snr + 1) if prediction_type == "v_prediction" else weight


def clean_image(
    prediction: torch.Tensor, noisy: torch.Tensor, alphas_cumprod: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """The clean image that a prediction implies; v: x0 = sqrt(a) x_t - sqrt(1 - a) v (Salimans & Ho 2022, app. D).

    Args:
        prediction, noisy: (B, C, h, w).
        alphas_cumprod: (B,), a of each example's timestep.
        prediction_type: "sample" or "v_prediction".
    """
    if prediction_type == "sample":
        return prediction
    alpha = alphas_cumprod[:, None, None, None]
    return alpha.sqrt() * noisy - (1 - alpha).sqrt() * prediction
