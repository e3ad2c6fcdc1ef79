"""A classifier that no decoder was trained on: does it see in the reconstruction what it sees in the original?"""

import hashlib
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..features.hub import check_weights_within_reach
from ..features.tracing import near_names
from .metrics import exact_convolutions

DEFAULT_VERIFIER = "tf_efficientnet_lite2.in1k"
TOP = 5
# ImageNette's classes among ImageNet's 1,000, by name and by WordNet number.
IMAGENETTE_CLASSES = {
    "tench": 0,
    "english springer": 217,
    "cassette player": 482,
    "chain saw": 491,
    "church": 497,
    "french horn": 566,
    "garbage truck": 569,
    "gas pump": 571,
    "golf ball": 574,
    "parachute": 701,
    "n01440764": 0,
    "n02102040": 217,
    "n02979186": 482,
    "n03000684": 491,
    "n03028079": 497,
    "n03394916": 566,
    "n03417042": 569,
    "n03425413": 571,
    "n03445777": 574,
    "n03888257": 701,
}


class VerifierUnavailable(OSError):
    """The verifier's weights are not on this machine and could not be downloaded."""


class Opinion(NamedTuple):
    """What a verifier says of images: its best five classes (B, 5), best first, and its pooled features (B, D)."""

    classes: Tensor
    features: Tensor


class Verifier:
    """A frozen timm classifier that reads 8-bit images of any size.

    Images (B, 3, S, S) are resized as a whole to the network's own input size (bicubic, antialiased) and normalised as
    timm's description of the weights says.

    Args:
        name: timm name; the tag behind the dot names the weights.
        weights: local safetensors file with timm's names instead of a download.
        pretrained: False gives random weights, for tests.

    Raises:
        ValueError: for a name that timm does not have, or weights of another network.
        VerifierUnavailable: when the weights cannot be had; the message says how to get them.
    """

    def __init__(
        self,
        name: str = DEFAULT_VERIFIER,
        weights: str | PathLike | None = None,
        device: str | torch.device = "cpu",
        pretrained: bool = True,
    ):
        if not timm.is_model(name):
            known = timm.list_models() + timm.list_pretrained()
            raise ValueError(f"timm has no model {name!r}{near_names(name, known)}")
        self.network = _load(name, weights, pretrained).eval().requires_grad_(False).to(device)
        self.network = self.network.to(memory_format=torch.channels_last)  # depthwise convolutions run twice as fast
        config = timm.data.resolve_model_data_config(self.network)
        cfg = self.network.pretrained_cfg
        tag = cfg.get("tag") if weights is None else None
        self.name = f"{cfg.get('architecture', name)}.{tag}" if tag else name
        self.num_classes = self.network.num_classes
        if self.num_classes < TOP:
            raise ValueError(f"{name} has {self.num_classes} classes: a verifier needs a classifier of at least {TOP}")
        self.input_size = tuple(config["input_size"][1:])
        self.mean, self.std = (torch.tensor(config[k], device=device).view(1, 3, 1, 1) for k in ("mean", "std"))

    @property
    def architecture(self) -> str:
        """The name without the tag of the weights."""
        return self.name.split(".")[0]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Opinion:
        """Its opinion of uint8 images (B, 3, H, W)."""
        if images.dtype != torch.uint8:
            raise ValueError(f"a verifier reads uint8 images in [0, 255], got {images.dtype}")
        pixels = images.float()
        if tuple(images.shape[-2:]) != self.input_size:
            pixels = F.interpolate(pixels, self.input_size, mode="bicubic", antialias=True).clamp(0, 255)
        with exact_convolutions():
            normalised = ((pixels / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
            maps = self.network.forward_features(normalised)
            pooled = self.network.forward_head(maps, pre_logits=True)
            logits = self.network.forward_head(maps)
        return Opinion(logits.topk(TOP, dim=1).indices, pooled.flatten(1).float())

    def weights_hash(self) -> str:
        """A number that changes with the weights."""
        return state_hash(self.network)

    def class_indices(self, class_names: list[str]) -> list[int] | None:
        """The data set's classes among the verifier's; None where they are not known to be among them."""
        if self.num_classes != 1000 or not class_names:
            return None
        found = [IMAGENETTE_CLASSES.get(name.strip().lower().replace("_", " ")) for name in class_names]
        return None if None in found else found


def state_hash(module: torch.nn.Module) -> str:
    """SHA-256 over names, types, shapes and values of a module's weights and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def agreement(opinion: Opinion, of_originals: Opinion) -> dict[str, Tensor]:
    """Whether the originals' best class is the reconstructions' best, and among their best five: float (B,) each."""
    wanted = of_originals.classes[:, :1]
    hits = opinion.classes == wanted
    return {"verifier_top1": hits[:, 0].float(), "verifier_top5": hits.any(dim=1).float()}


def _load(name: str, weights: str | PathLike | None, pretrained: bool) -> torch.nn.Module:
    if weights is not None:
        return _load_file(name, weights)
    try:
        if pretrained:
            check_weights_within_reach(name)
        return timm.create_model(name, pretrained=pretrained)
    except Exception as error:  # timm, the Hub and the network each raise their own types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise VerifierUnavailable(
            f"The weights of {name} are not on this machine and cannot be downloaded ({reason}): go online once, or "
            f"download huggingface.co/timm/{name}/resolve/main/model.safetensors and give it as --verifier_weights."
        ) from error


def _load_file(name: str, weights: str | PathLike) -> torch.nn.Module:
    if not Path(weights).is_file():
        raise ValueError(f"there is no weights file {weights}: expected a safetensors file with timm's names")
    network = timm.create_model(name, pretrained=False)
    try:
        network.load_state_dict({key: value.float() for key, value in load_file(weights).items()})
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{weights} does not hold the weights of {name}: {reason}") from error
    return network
