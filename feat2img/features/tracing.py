"""What a network runs before a chosen module is done, and the network without the rest."""

import copy
import difflib
from collections.abc import Collection, Iterable

import torch
from torch import nn


class _Done(Exception):
    """Ends a forward pass once every wanted output is there."""


def near_names(name: str, names: Iterable[str]) -> str:
    """End of an error message: "; did you mean a, b?", or nothing when no name comes near."""
    near = difflib.get_close_matches(name, list(names), n=5, cutoff=0.4)
    return f"; did you mean {', '.join(near)}?" if near else ""


def check_layers(layers: Collection[str], network: nn.Module) -> None:
    """Raises ValueError for no layer at all, a repeated one, and one that the network has no module for."""
    names = [name for name, _ in network.named_modules() if name]
    are_names = isinstance(layers, Collection) and all(isinstance(layer, str) for layer in layers)
    if not layers or isinstance(layers, str) or not are_names or len(set(layers)) != len(layers):
        raise ValueError(f"layers must be a list of different module names, such as ['layer3'], got {layers!r}")
    for layer in layers:
        if layer not in names:
            raise ValueError(f"the network has no module {layer!r}{near_names(layer, names)}")


def run_until(network: nn.Module, pixels: torch.Tensor, layers: Collection[str]) -> dict[str, torch.Tensor]:
    """Outputs of the named modules; the forward pass ends as soon as the last of them has run.

    Of a module that runs several times, the first output counts. Raises ValueError for modules that never run.
    """
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str, output) -> None:
        if name in outputs:
            return
        if not isinstance(output, torch.Tensor):
            raise ValueError(f"module {name!r} returns {type(output).__name__}, expected one tensor: choose another")
        last = len(outputs) + 1 == len(layers)
        outputs[name] = output if last else output.clone()  # what runs next may change it in place
        if last:
            raise _Done

    handles = [
        network.get_submodule(name).register_forward_hook(lambda module, args, output, name=name: keep(name, output))
        for name in layers
    ]
    try:
        network(pixels)
    except _Done:
        return {name: outputs[name] for name in layers}
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in layers if name not in outputs]
    raise ValueError(f"modules {', '.join(missing)} do not run in the forward pass of the network")


def meta_copy(network: nn.Module) -> nn.Module:
    """The architecture without its values: runs in no time, and yields shapes."""
    memo: dict = {id(parameter): nn.Parameter(parameter.detach().to("meta")) for parameter in network.parameters()}
    memo.update({id(buffer): buffer.to("meta") for buffer in network.buffers()})
    return copy.deepcopy(network, memo)


def trace(network: nn.Module, image_size: int, layers: Collection[str]) -> tuple[dict[str, torch.Size], set, set]:
    """Follow a forward pass on the meta device until ``layers`` have run.

    Returns:
        The layers' output shapes, the names of modules that began, and the names of those that ended.
    """
    shadow = meta_copy(network).eval()
    began, ended = set(), set()
    for name, module in shadow.named_modules(remove_duplicate=False):
        module.register_forward_pre_hook(lambda module, args, name=name: began.add(name))
        module.register_forward_hook(lambda module, args, output, name=name: ended.add(name))
    with torch.no_grad():
        outputs = run_until(shadow, torch.zeros(1, 3, image_size, image_size, device="meta"), layers)
    return {name: output.shape for name, output in outputs.items()}, began, ended


def remove_unused(network: nn.Module, began: set, ended: set, layers: Collection[str]) -> None:
    """Replace every module behind the last of ``layers`` that a forward pass did not reach with nn.Identity, in place.

    Modules that ended keep all their children, and unreached ones in front of the last layer stay: the network may
    read their weights without calling them, as attention and rotary embeddings do.
    """
    names = [name for name, _ in network.named_modules(remove_duplicate=False)]
    behind = names[max(names.index(layer) for layer in layers) + 1 :]
    removed = ""
    for name in behind:
        within_removed = removed and name.startswith(removed + ".")
        within_ended = any(name == other or name.startswith(other + ".") for other in ended)
        reached = any(other == name or other.startswith(name + ".") for other in began)
        if not (within_removed or within_ended or reached):
            network.set_submodule(name, nn.Identity())
            removed = name
