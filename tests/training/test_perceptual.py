import numpy as np
import pytest
import torch

from feat2img.training.perceptual import EncoderPerceptualLoss, magnitude


@pytest.fixture
def encoder(make_encoder):
    return make_encoder()


def pixels(seed):
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_equal_images_have_no_distance(encoder):
    assert EncoderPerceptualLoss(encoder)(pixels(0), pixels(0)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("layers", [None, (), ("layer1",), ("layer1", "layer2")])
def test_distance_by_hand(encoder, layers):
    names = layers or ("act1", "layer1", "layer2")
    distances = EncoderPerceptualLoss(encoder, layers)(pixels(0), pixels(1)).numpy()
    first, second = ({k: v.numpy() for k, v in encoder.feature_maps(pixels(seed), names).items()} for seed in (0, 1))
    for image in range(3):
        pairs = [(first[name][image], second[name][image]) for name in names]
        expected = np.mean([np.abs(one - other).sum() / np.abs(other).sum() for one, other in pairs])
        assert distances[image] == pytest.approx(expected, rel=1e-5)
    assert distances.shape == (3,) and distances.min() > 0


def test_gradients_reach_the_prediction_and_not_encoder_or_target(encoder):
    prediction, target = pixels(0).requires_grad_(), pixels(1).requires_grad_()
    EncoderPerceptualLoss(encoder)(prediction, target).sum().backward()
    assert torch.isfinite(prediction.grad).all() and (prediction.grad.abs().sum(dim=(1, 2, 3)) > 0).all()
    assert target.grad is None and all(weight.grad is None for weight in encoder.parameters())


def test_the_magnitude_of_nothing_can_be_divided_by():
    maps = torch.stack([torch.zeros(3, 2, 2), torch.full((3, 2, 2), -2.0)])
    assert magnitude(maps).flatten().tolist() == [pytest.approx(1e-8), 2.0]
    assert magnitude(torch.ones(2, 5)).shape == (2, 1)


def test_maps_are_relative_to_the_target(encoder):
    predictions, targets = EncoderPerceptualLoss(encoder).maps(pixels(0), pixels(1))
    raw = encoder.feature_maps(pixels(0), ("layer1",))["layer1"]
    scale = encoder.feature_maps(pixels(1), ("layer1",))["layer1"].abs().mean(dim=(1, 2, 3))
    for image in range(3):
        torch.testing.assert_close(predictions["layer1"][image], raw[image] / scale[image])
    torch.testing.assert_close(targets["layer1"].abs().mean(dim=(1, 2, 3)), torch.ones(3))


def test_a_layer_behind_the_encoder_is_refused(encoder):
    with pytest.raises(ValueError, match="layer4"):
        EncoderPerceptualLoss(encoder, ("layer4",))(pixels(0), pixels(1))
