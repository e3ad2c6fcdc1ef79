import pytest
import torch

from feat2img.data.pixels import uint8_to_pixels
from feat2img.evaluation.metrics import feature_l2
from feat2img.evaluation.pixel_optimisation import invert_by_optimisation, total_variation


def test_optimised_pixels_have_nearly_the_wanted_features(make_encoder):
    encoder = make_encoder(layers=("layer1",))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 3, 8, 8, generator=generator).repeat_interleave(4, 2).repeat_interleave(4, 3) * 2 - 1
    with torch.no_grad():
        features = encoder(pixels)
    images = {steps: invert_by_optimisation(encoder, features, [4, 7], steps) for steps in (1, 40)}
    with torch.no_grad():
        errors = {n: feature_l2(encoder(uint8_to_pixels(image)), features) for n, image in images.items()}
    assert (errors[40] < 0.5 * errors[1]).all()
    assert images[40].dtype == torch.uint8 and images[40].shape == pixels.shape
    alone = invert_by_optimisation(encoder, features[1:], [7], 1)
    assert (alone.int() - images[1][1:].int()).abs().max() <= 1
    with pytest.raises(ValueError, match="num_steps"):
        invert_by_optimisation(encoder, features, [0, 1], 0)


def test_total_variation_of_a_ramp():
    ramp = torch.arange(5.0).expand(1, 3, 4, 5)
    assert total_variation(ramp).tolist() == [1.0]
    assert total_variation(ramp * 0).tolist() == [0.0]
