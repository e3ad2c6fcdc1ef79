import pytest
import timm
import torch
from torch import nn

from feat2img.features import TimmFeatureEncoder
from feat2img.features.fusing import fused_copy
from feat2img.features.tracing import run_until


def with_statistics(network: nn.Module) -> nn.Module:
    """Batch normalisations that do something."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.eval().requires_grad_(False)


def count_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name, layer", [("test_resnet", "layer3"), ("test_efficientnet", "blocks.3")])
def test_features_stay_and_the_normalisations_go(name, layer):
    network = with_statistics(timm.create_model(name, pretrained=False))
    pixels = torch.randn(2, 3, 64, 64)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fused = fused_copy(network, pixels[:1], [layer])
    expected, found = (run_until(one, pixels, [layer])[layer] for one in (network, fused))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert count_norms(fused) < count_norms(network) / 2
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_layers_inside_a_pair_stay():
    """What a convolution gives, and what lies within timm's combined normalisation."""
    network = with_statistics(timm.create_model("test_efficientnet", pretrained=False))
    pixels, layers = torch.randn(1, 3, 64, 64), ["conv_stem", "blocks.1.0.bn1.act", "blocks.3"]
    fused = fused_copy(network, pixels, layers)
    expected, found = (run_until(one, pixels, layers) for one in (network, fused))
    for name in layers:
        torch.testing.assert_close(
            found[name], expected[name], rtol=1e-4, atol=1e-4 * float(expected[name].abs().max())
        )
    assert 2 <= count_norms(fused) < count_norms(network)


class ReadTwice(nn.Module):
    """A convolution whose output is not read by its normalisation alone."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm, self.last = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Identity()

    def forward(self, pixels):
        hidden = self.convolution(pixels)
        return self.last(self.norm(hidden) + hidden)


def test_a_network_that_fusing_would_change_is_left_as_it_is():
    network = with_statistics(ReadTwice())
    assert fused_copy(network, torch.randn(1, 3, 16, 16), ["last"]) is network


def test_a_network_without_such_pairs_is_copied():
    network = timm.create_model("test_vit", pretrained=False).eval()
    pixels = torch.randn(1, 3, 160, 160)
    fused = fused_copy(network, pixels, ["blocks.2"])
    assert torch.equal(
        run_until(fused, pixels, ["blocks.2"])["blocks.2"], run_until(network, pixels, ["blocks.2"])["blocks.2"]
    )


def test_an_encoder_s_fused_copy_gives_its_features(make_encoder):
    encoder = make_encoder()
    with_statistics(encoder.network)
    fused = encoder.fused()
    assert isinstance(fused, TimmFeatureEncoder) and count_norms(fused) < count_norms(encoder)
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(fused(pixels), encoder(pixels), rtol=1e-4, atol=1e-4)
