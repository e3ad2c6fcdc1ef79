"""Batch normalisations folded into the convolutions before them: the same features in less time."""

import copy
from collections.abc import Collection

import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .tracing import meta_copy, run_until

TOLERANCE = 1e-3  # relative L2 of the features in float32


@torch.no_grad()
def fused_copy(network: nn.Module, pixels: torch.Tensor, layers: Collection[str]) -> nn.Module:
    """A copy of a frozen network whose batch normalisations are folded into convolutions where that is possible.

    A pair is a convolution whose output is what a normalisation reads. Whether anything else reads that output, too,
    cannot be seen, so the copy has to give the same features; otherwise the network itself is returned.

    Args:
        network: in evaluation mode.
        pixels: a normalised example (1, 3, S, S), float32.
        layers: names of the modules whose outputs count.
    """
    fused = copy.deepcopy(network)
    for convolution, norm in _pairs(meta_copy(network), pixels.to("meta"), layers):
        fused.set_submodule(
            convolution, fuse_conv_bn_eval(fused.get_submodule(convolution), fused.get_submodule(norm))
        )
        fused.set_submodule(norm, _what_follows(fused.get_submodule(norm)))
    expected, found = (run_until(one, pixels, layers) for one in (network, fused))
    same = all(_distance(found[name], expected[name]) < TOLERANCE for name in layers)
    return fused if same else network


def _pairs(network: nn.Module, pixels: torch.Tensor, layers: Collection[str]) -> list[tuple[str, str]]:
    """Names of convolutions and of the normalisations that read their outputs.

    Left out: pairs whose tensor in between is what a layer gives, and normalisations with a layer inside.
    """
    outputs: list[tuple[str, torch.Tensor]] = []  # kept, so that no two have the same identity
    layer_outputs: list[torch.Tensor] = []
    pairs: list[tuple[str, str]] = []

    def read(norm: str, tensor: torch.Tensor) -> None:
        given = any(output is tensor for output in layer_outputs)
        if not given and not any(name.startswith(f"{norm}.") for name in layers):
            pairs.extend((name, norm) for name, output in outputs if output is tensor)

    handles = [
        network.get_submodule(name).register_forward_hook(lambda module, args, output: layer_outputs.append(output))
        for name in layers
    ]
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(
                module.register_forward_hook(lambda module, args, output, name=name: outputs.append((name, output)))
            )
        elif type(module) in (nn.BatchNorm2d, BatchNormAct2d):
            handles.append(module.register_forward_pre_hook(lambda module, args, name=name: read(name, args[0])))
    try:
        run_until(network, pixels, layers)
    finally:
        for handle in handles:
            handle.remove()
    convolutions, norms = ([pair[side] for pair in pairs] for side in (0, 1))
    return [pair for pair in pairs if convolutions.count(pair[0]) == norms.count(pair[1]) == 1]


def _what_follows(norm: nn.Module) -> nn.Module:
    """What timm's combined normalisation does behind its sums."""
    return nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()


def _distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp(min=1e-12))
