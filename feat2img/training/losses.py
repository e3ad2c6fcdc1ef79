"""The losses, as pure functions of network outputs."""

import torch
import torch.nn.functional as F


def discriminator_hinge_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Hinge loss of the discriminator (Lim & Ye 2017, arXiv:1705.02894, eq. 3); any shape => scalar."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


def generator_hinge_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """The generator's side of the hinge loss, -E[D(G)]; any shape => scalar."""
    return -fake_logits.mean()


def relativistic_loss(logits: torch.Tensor, rival_logits: torch.Tensor) -> torch.Tensor:
    """Relativistic pairing loss, E[softplus(rival - own)] (R3GAN, Huang et al. 2025, arXiv:2501.05441, eq. 2).

    The discriminator minimises it with real images' logits as its own and the generated ones' as rivals, the generator
    the other way round; both of one shape (B, ...) => scalar.
    """
    return F.softplus(rival_logits - logits).mean()


def squared_gradient(logits: list[torch.Tensor], inputs: list[torch.Tensor]) -> torch.Tensor:
    """Mean over examples of the squared norm of the gradient of the summed logits' means with respect to the inputs.

    Half of gamma times this is the penalty R1 (real inputs) or R2 (generated ones) of Mescheder et al. 2018,
    arXiv:1801.04406, eq. 9. `inputs` are (B, ...) and need gradients; the result can be differentiated again.
    """
    total = sum(level.flatten(1).mean(dim=1).sum() for level in logits)
    gradients = torch.autograd.grad(total, inputs, create_graph=True)
    return torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients]).sum(dim=0).mean()


def discriminator_accuracy(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Share of real patches judged real and of generated patches judged generated, each in [0, 1]."""
    return (real_logits > 0).float().mean(), (fake_logits < 0).float().mean()


def snr_weight(snr: torch.Tensor, prediction_type: str, weighting: str, gamma: float = 5.0) -> torch.Tensor:
    """Weight of each example's mean squared error, (B,) => (B,).

    With signal-to-noise ratio snr, an error of the clean image weighs w(snr):
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
