"""torchmetrics' DISTS network (Ding et al. 2020), when torchvision's VGG-16 is already on this machine.

torchmetrics ships the calibration weights; the trunk is a file of 528 MB, which is not downloaded unasked.
"""

import pickle
from pathlib import Path

import torch
from torch import nn

UNREADABLE = (OSError, EOFError, RuntimeError, KeyError, ImportError, pickle.UnpicklingError)


class DistsUnavailable(OSError):
    """The weights of DISTS are not on this machine."""


def vgg16_file() -> Path:
    """Where torchvision keeps its VGG-16."""
    from torchvision.models import VGG16_Weights

    return Path(torch.hub.get_dir()) / "checkpoints" / VGG16_Weights.DEFAULT.url.rsplit("/", 1)[-1]


def load_dists() -> nn.Module:
    """Return torchmetrics' frozen DISTS network; call it as `net(a, b)` on images in [0, 1].

    Raises:
        DistsUnavailable: when the trunk's file is not there or cannot be read; the message says how to get it.
    """
    remedy = "python -c \"import torchvision; torchvision.models.vgg16(weights='DEFAULT')\""
    if not vgg16_file().is_file():
        raise DistsUnavailable(f"Its VGG-16 (528 MB) is not in torch's hub cache: `{remedy}` downloads it.")
    try:
        from torchmetrics.functional.image.dists import DISTSNetwork

        return DISTSNetwork().eval().requires_grad_(False)
    except UNREADABLE as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        problem = f"Its VGG-16 cannot be read ({reason})"
        raise DistsUnavailable(f"{problem}: delete {vgg16_file()}, then `{remedy}`") from error
