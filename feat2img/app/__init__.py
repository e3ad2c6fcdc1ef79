"""`feat2img app`: drop in a photo, and see in the browser what each decoder brings back."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .page import build_page, launch
    from .studio import Reconstructed, Studio, default_pipelines

__all__ = ["Reconstructed", "Studio", "build_page", "default_pipelines", "launch"]

_MODULES = {
    "Reconstructed": "studio",
    "Studio": "studio",
    "build_page": "page",
    "default_pipelines": "studio",
    "launch": "page",
}


def __getattr__(name: str):
    """Import on first use: the page needs gradio, the studio does not."""
    if name not in _MODULES:
        raise AttributeError(f"module 'feat2img.app' has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
