"""The frozen encoder: features of any timm network at any of its named modules."""

import copy
import hashlib
import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin  # loading looks the name ModelMixin up in this module
from diffusers.configuration_utils import register_to_config
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from .fusing import fused_copy
from .hub import check_weights_within_reach
from .tracing import check_layers, near_names, remove_unused, run_until, trace

UNCOUNTED = "num_batches_tracked"  # batch norm's step counter, which changes no output


def _pretrained_cfg(model_name: str):
    """timm's description of a network. Raises ValueError for a name or tag that timm does not have."""
    if not timm.is_model(model_name):
        names = timm.list_models() + timm.list_pretrained()
        raise ValueError(f"timm has no model {model_name!r}{near_names(model_name, names)}")
    try:
        return timm.get_pretrained_cfg(model_name, allow_unregistered=False)
    except RuntimeError as error:
        names = timm.list_pretrained(model_name.split(".")[0] + ".*")
        raise ValueError(f"timm has no model {model_name!r}; its weights are {', '.join(names) or 'none'}") from error


def _create_network(model_name: str, image_size: int, pretrained: bool = False) -> nn.Module:
    cfg = _pretrained_cfg(model_name)
    needs_size = cfg.fixed_input_size and image_size != cfg.input_size[-1]
    options = {"img_size": image_size} if needs_size else {}
    return timm.create_model(model_name, pretrained=pretrained, **options)


def network_shapes(model_name: str, image_size: int) -> dict[str, tuple[int, ...]]:
    """Names, as an encoder's file has them, and shapes of a whole network's weights; takes no memory for them."""
    with torch.device("meta"):
        network = _create_network(model_name, image_size)
    return {f"network.{name}": tuple(value.shape) for name, value in network.state_dict().items()}


def _read_weights(path: str | PathLike) -> dict[str, torch.Tensor]:
    if not Path(path).is_file():
        raise ValueError(f"there is no weights file {path}: expected a safetensors file with timm's names")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error


def _download_weights(model_name: str, image_size: int) -> dict[str, torch.Tensor]:
    try:
        check_weights_within_reach(model_name)
        return _create_network(model_name, image_size, pretrained=True).state_dict()
    except Exception as error:  # timm, the Hub and the network each raise their own types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"cannot get the weights of {model_name} from the Hub ({reason}): go online once, or download "
            f"huggingface.co/timm/{model_name}/resolve/main/model.safetensors and give its path as weights="
        ) from error


class TimmFeatureEncoder(ModelMixin, ConfigMixin):
    """Frozen timm network up to its last hooked module.

    pixels (B, 3, image_size, image_size), float in [-1, 1] => features (B, C, h, w). Nothing behind the last hooked
    module is computed or kept. Maps are NCHW, or NHWC where the network's ``output_fmt`` says so; tokens (B, N, C)
    become the grid of their patches without prefix tokens; a vector (B, C) becomes (B, C, 1, 1); several modules are
    brought to the coarsest grid by space-to-depth, which loses nothing, and concatenated along the channels.

    The constructor gives random weights; use :meth:`from_timm` or ``from_pretrained``.

    Args:
        model_name: timm name; the tag behind the dot names the weights.
        layers: names of the hooked modules, as ``named_modules`` has them.
        image_size: side of the input in pixels.
        mean, std: per channel, for pixels in [0, 1]; timm's own when left out.

    Raises:
        ValueError: unknown model or module, a module that never runs, or grids that do not divide.
    """

    @register_to_config
    def __init__(
        self,
        model_name: str = "resnet101.a1h_in1k",
        layers: Sequence[str] = ("layer3",),
        image_size: int = 224,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        cfg = _pretrained_cfg(model_name)
        mean = [float(value) for value in (cfg.mean if mean is None else mean)]
        std = [float(value) for value in (cfg.std if std is None else std)]
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean and std must be three numbers each, std above 0, got {mean} and {std}")
        network = _create_network(model_name, image_size).eval()
        check_layers(layers, network)
        self.register_to_config(layers=list(layers), mean=mean, std=std)
        self._weight_names = frozenset(network.state_dict())
        shapes, began, self._available = self._trace(network, model_name, image_size, layers)
        remove_unused(network, began, self._available, layers)
        self.network = network.requires_grad_(False)
        # ((pixels + 1) / 2 - mean) / std as one multiplication and one addition
        scale = [0.5 / s for s in std]
        shift = [(0.5 - m) / s for m, s in zip(mean, std, strict=True)]
        self.register_buffer("scale", torch.tensor(scale).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shift).view(1, 3, 1, 1), persistent=False)
        maps = {name: self._as_grid(name, torch.zeros(shape, device="meta")) for name, shape in shapes.items()}
        self._feature_shape = tuple(self._combine(maps).shape[1:])
        self.train(False)

    @staticmethod
    def _trace(network: nn.Module, model_name: str, image_size: int, layers: Sequence[str]):
        try:
            return trace(network, image_size, layers)
        except (RuntimeError, AssertionError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f"{model_name} does not take images of {image_size} x {image_size}: {reason}") from error

    @classmethod
    def from_timm(
        cls,
        model_name: str = "resnet101.a1h_in1k",
        layers: Sequence[str] = ("layer3",),
        image_size: int = 224,
        weights: str | PathLike | None = None,
        pretrained: bool = True,
    ) -> "TimmFeatureEncoder":
        """Build an encoder with timm's weights.

        Args:
            model_name: a bare name gets the tag of timm's default weights, except with ``weights``.
            weights: local safetensors file with timm's names, of the whole network or only of the needed part, in
                any float type; nothing is downloaded then.
            pretrained: False gives random weights without a download.

        Raises:
            ValueError: as the constructor, and for weights that are missing, not obtainable, or of another network.
        """
        if weights is None:
            cfg = _pretrained_cfg(model_name)
            model_name = f"{cfg.architecture}.{cfg.tag}" if cfg.tag else cfg.architecture
        encoder = cls(model_name, layers, image_size)
        if weights is not None:
            encoder._load_timm_weights(_read_weights(weights), str(weights))
        elif pretrained:
            encoder._load_timm_weights(_download_weights(model_name, image_size), model_name)
        return encoder

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs) -> "TimmFeatureEncoder":
        """As in diffusers. Loads without empty weights: timm computes buffers while it builds a network (the masks of
        Swin), which no file holds and which would stay empty."""
        if kwargs.get("device_map") is None:
            kwargs["low_cpu_mem_usage"] = False
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    def _load_timm_weights(self, state: dict[str, torch.Tensor], source: str) -> None:
        kept = self.network.state_dict()
        missing = [name for name in kept if name not in state and not name.endswith(UNCOUNTED)]
        foreign = [name for name in state if name not in self._weight_names]
        for names, problem in ((missing, "lacks"), (foreign, "holds unknown")):
            if names:
                raise ValueError(
                    f"{source} {problem} weights of {self.config.model_name} up to {', '.join(self.config.layers)}: "
                    f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
                )
        for name in kept.keys() & state.keys():
            if kept[name].shape != state[name].shape:
                raise ValueError(f"{source}: {name} is {tuple(state[name].shape)}, expected {tuple(kept[name].shape)}")
        self.network.load_state_dict({name: state[name] for name in kept.keys() & state.keys()}, strict=False)

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the features."""
        return self._feature_shape

    def train(self, mode: bool = True) -> "TimmFeatureEncoder":
        """Stays in evaluation mode: a frozen network keeps its batch-norm statistics."""
        return super().train(False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """pixels (B, 3, image_size, image_size) in [-1, 1] => features (B, C, h, w). Gradients flow to the pixels."""
        maps = run_until(self.network, self._normalise(pixels), self.config.layers)
        return self._combine({name: self._as_grid(name, output) for name, output in maps.items()})

    def feature_maps(self, pixels: torch.Tensor, layers: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
        """Raw outputs of named modules, by default of the hooked ones. Gradients flow to the pixels.

        Raises:
            ValueError: unknown module, or one that does not end before the last hooked one.
        """
        layers = self.config.layers if layers is None else layers
        check_layers(layers, self.network)
        for layer in layers:
            if layer not in self._available:
                raise ValueError(f"module {layer!r} ends behind {self.config.layers}, where the encoder stops")
        return run_until(self.network, self._normalise(pixels), layers)

    @property
    def feature_levels(self) -> tuple[str, ...]:
        """timm's own feature levels that end before the last hooked module, shallow first, and the hooked modules."""
        levels = [level["module"] for level in getattr(self.network, "feature_info", [])]
        return tuple(dict.fromkeys([*(name for name in levels if name in self._available), *self.config.layers]))

    def has_layer(self, name: str) -> bool:
        """Whether `feature_maps` gives this module's output: it exists and ends before the encoder stops."""
        return name in self._available

    def fused(self, layers: Sequence[str] | None = None) -> "TimmFeatureEncoder":
        """A copy that computes the same features faster: batch normalisations folded into convolutions.

        For extraction and losses, not for saving: its weights are no longer timm's.

        Args:
            layers: modules whose outputs stay the same; None: the hooked ones.
        """
        fused = copy.copy(self)
        fused._modules = dict(self._modules)  # shares everything but the network
        size = self.config.image_size
        steps = torch.linspace(-1, 1, 3 * size * size, device=self.device, dtype=self.dtype)
        example = self._normalise(steps.sin().reshape(1, 3, size, size))
        fused.network = fused_copy(self.network, example, layers or self.config.layers)
        return fused

    @torch.no_grad()
    def fingerprint(self) -> list[float]:
        """Features of a fixed image as 32 numbers: means over 8 groups of channels and 4 quadrants.

        Independent of random generators; compare with :func:`fingerprint_distance`.
        """
        steps = torch.arange(self.config.image_size, dtype=torch.float64) / self.config.image_size
        x, y = steps[None, :], steps[:, None]
        waves = (40 * x * x + 9 * y).sin(), (25 * x * y + 3 * x).cos(), (60 * (x - y) ** 2).sin() * (7 * y).cos()
        features = self(torch.stack(waves)[None].to(self.device, self.dtype)).float()
        means = F.adaptive_avg_pool3d(features, (8, 2, 2)).flatten()
        return [float(f"{value:.6g}") for value in means.tolist()]

    def weights_hash(self) -> str:
        """SHA-256 over names, types, shapes and values of the kept weights, as hexadecimal digits."""
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            if name.endswith(UNCOUNTED):
                continue
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        size = self.config.image_size
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, size, size) or not pixels.is_floating_point():
            raise ValueError(
                f"expected float pixels (B, 3, {size}, {size}) in [-1, 1], got {pixels.dtype} {tuple(pixels.shape)}"
            )
        if not torch.is_autocast_enabled(pixels.device.type):
            pixels = pixels.to(self.dtype)
        normalised = pixels * self.scale.to(pixels.dtype) + self.shift.to(pixels.dtype)
        if normalised.dtype == torch.float32 and not torch.is_autocast_enabled(normalised.device.type):
            return normalised  # sums in timm's own order: equal to its full forward pass up to the last digits
        return normalised.contiguous(memory_format=torch.channels_last)  # half precision runs up to twice as fast

    def _as_grid(self, name: str, output: torch.Tensor) -> torch.Tensor:
        if output.ndim == 4:
            return output.permute(0, 3, 1, 2) if getattr(self.network, "output_fmt", "NCHW") == "NHWC" else output
        if output.ndim == 2:
            return output[:, :, None, None]
        grid = getattr(getattr(self.network, "patch_embed", None), "grid_size", None)
        prefix = getattr(self.network, "num_prefix_tokens", 0)
        if output.ndim != 3 or grid is None or output.shape[1] not in (math.prod(grid), math.prod(grid) + prefix):
            raise ValueError(f"module {name!r} gives {tuple(output.shape)}: expected a map, patch tokens or a vector")
        tokens = output[:, -math.prod(grid) :]
        return tokens.transpose(1, 2).unflatten(2, tuple(grid))

    @staticmethod
    def _combine(maps: dict[str, torch.Tensor]) -> torch.Tensor:
        height, width = min((feature.shape[2:] for feature in maps.values()), key=math.prod)
        brought = []
        for name, feature in maps.items():
            factor = feature.shape[2] // height
            if tuple(feature.shape[2:]) != (factor * height, factor * width):
                grid = tuple(feature.shape[2:])
                raise ValueError(f"module {name!r} has the grid {grid}, expected a multiple of {(height, width)}")
            brought.append(F.pixel_unshuffle(feature, factor) if factor > 1 else feature)
        return torch.cat(brought, dim=1) if len(brought) > 1 else brought[0]


def fingerprint_distance(first: Sequence[float], second: Sequence[float]) -> float:
    """Relative L2 distance of two fingerprints, 0 for equal ones: |a - b| / max(|a|, |b|)."""
    if len(first) != len(second):
        raise ValueError(f"fingerprints must have the same length, got {len(first)} and {len(second)}")
    largest = max(math.hypot(*first), math.hypot(*second))
    return 0.0 if largest == 0 else math.dist(first, second) / largest
