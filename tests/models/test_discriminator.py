import pytest
import torch

from feat2img.models import FeatureDiscriminator, PatchDiscriminator


def make_discriminator(widths=(4, 8, 8)):
    torch.manual_seed(0)
    return PatchDiscriminator(widths)


@pytest.mark.parametrize("widths, size, patches", [((4, 8, 8), 64, 8), ((4,), 32, 16), ((4, 8), 56, 14)])
def test_one_logit_per_patch(widths, size, patches):
    assert make_discriminator(widths)(torch.randn(2, 3, size, size)).shape == (2, 1, patches, patches)


def test_a_logit_sees_only_its_neighbourhood():
    discriminator = make_discriminator().eval()
    pixels = torch.zeros(1, 3, 96, 96, requires_grad=True)
    discriminator(pixels)[0, 0, 6, 6].backward()
    seen = pixels.grad.abs().sum(dim=(0, 1)).nonzero()
    height, width = (seen.max(dim=0).values - seen.min(dim=0).values + 1).tolist()
    # stride 1 between the last two 3 x 3 convolutions: 5 cells of 8 pixels, and 14 pixels of overlap
    assert height == width == 22 + 4 * 8
    assert seen.float().mean(dim=0).tolist() == [51.5, 51.5]


def test_spectral_norm_bounds_every_layer():
    discriminator = make_discriminator()
    for _ in range(50):
        discriminator(torch.randn(1, 3, 32, 32))
    weights = [layer.weight for layer in discriminator.layers if isinstance(layer, torch.nn.Conv2d)]
    assert len(weights) == 5
    for weight in weights:
        assert torch.linalg.matrix_norm(weight.flatten(1), ord=2).item() == pytest.approx(1, abs=0.02)


def test_save_and_load_in_eval_mode(tmp_path):
    discriminator = make_discriminator()
    for _ in range(3):
        discriminator(torch.randn(1, 3, 32, 32))  # the power iteration's vectors move away from their start
    discriminator.eval()
    pixels = torch.randn(2, 3, 32, 32)
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    logits = discriminator(pixels)
    assert torch.equal(logits, discriminator(pixels))
    discriminator.save_pretrained(tmp_path)
    loaded = PatchDiscriminator.from_pretrained(tmp_path)
    assert torch.equal(loaded(pixels), logits)
    assert sum("_u" in name for name in before) == 5
    after = loaded.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


LEVELS = [(48, 56, 56), (5, 28, 28), (7, 14, 14), (9, 3, 2)]


def test_each_level_of_features_has_logits_of_its_own():
    torch.manual_seed(0)
    discriminator = FeatureDiscriminator(LEVELS, width=8).eval()
    maps = [torch.randn(2, *shape) for shape in LEVELS]
    logits = discriminator(maps)
    assert [tuple(level.shape) for level in logits] == [(2, 1, 14, 14)] * 3 + [(2, 1, 3, 2)]
    maps[1] = maps[1] + 1
    changed = [not torch.equal(one, other) for one, other in zip(logits, discriminator(maps), strict=True)]
    assert changed == [False, True, False, False]


def test_the_mixing_of_channels_does_not_learn():
    discriminator = FeatureDiscriminator(LEVELS, width=8)
    sum(level.sum() for level in discriminator([torch.randn(1, *shape) for shape in LEVELS])).backward()
    for name, parameter in discriminator.named_parameters():
        assert (parameter.grad is None) == name.startswith("mixers."), name
