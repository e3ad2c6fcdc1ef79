import numpy as np
import pytest
import torch
import torch.nn.functional as F

from feat2img.data import ImageTransform, PhotoDataset, load_photos
from feat2img.evaluation.ridge import RidgeDecoder, fit_ridge
from feat2img.features.regression import RELATIVE_PENALTY


def data(count: int = 20, channels: int = 10, cells: int = 4, patch: int = 2):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(count, channels, cells, cells, generator=generator) * 3 + 2
    mixing = torch.randn(3 * patch**2, channels, 1, 1, generator=generator) * 0.02
    pixels = F.pixel_shuffle(F.conv2d(features, mixing) + 0.1, patch)
    return features, pixels + 0.05 * torch.randn(pixels.shape, generator=generator)


def fitted(features, pixels, batch: int = 6) -> RidgeDecoder:
    decoder = RidgeDecoder(tuple(features.shape[1:]), pixels.shape[-1])
    for start in range(0, len(features), batch):
        decoder.update(features[start : start + batch], pixels[start : start + batch])
    return decoder.solve()


def flat(features, pixels):
    x = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1]).double().numpy()
    y = F.pixel_unshuffle(pixels, 2).permute(0, 2, 3, 1).reshape(len(x), -1).double().numpy()
    return x, y


def test_weights_solve_the_normal_equations():
    features, pixels = data()
    x, y = flat(features, pixels)
    centred = x - x.mean(0)
    penalty = RELATIVE_PENALTY * np.mean(np.square(centred).sum(0))
    expected = np.linalg.solve(centred.T @ centred + penalty * np.eye(x.shape[1]), centred.T @ (y - y.mean(0)))
    decoder = fitted(features, pixels)
    np.testing.assert_allclose(decoder.weight[:, :, 0, 0].numpy(), expected.T, atol=1e-6)
    np.testing.assert_allclose(decoder.bias.numpy(), y.mean(0) - x.mean(0) @ expected, atol=1e-5)


def test_weights_are_scikit_learn_s():
    linear_model = pytest.importorskip("sklearn.linear_model")
    features, pixels = data()
    x, y = flat(features, pixels)
    penalty = RELATIVE_PENALTY * np.mean(np.square(x - x.mean(0)).sum(0))
    expected = linear_model.Ridge(alpha=penalty).fit(x, y)
    decoder = fitted(features, pixels)
    np.testing.assert_allclose(decoder.weight[:, :, 0, 0].numpy(), expected.coef_, atol=1e-6)
    np.testing.assert_allclose(decoder.bias.numpy(), expected.intercept_, atol=1e-5)


def test_a_linear_relation_is_found_up_to_the_penalty_and_8_bits():
    features, _ = data()
    generator = torch.Generator().manual_seed(1)
    pixels = F.pixel_shuffle(F.conv2d(features, torch.randn(12, 10, 1, 1, generator=generator) * 0.02), 2)
    images = fitted(features, pixels)(features)
    assert images.dtype == torch.uint8 and images.shape == pixels.shape
    assert ((images.float() / 127.5 - 1) - pixels.clamp(-1, 1)).abs().max() < 0.01


def test_fit_on_photos_beats_the_mean_image(tmp_path, save_photos, make_encoder):
    save_photos(tmp_path / "train", 30, seed=0)
    photos = PhotoDataset(load_photos(str(tmp_path), "train"), ImageTransform(32, 32))
    encoder = make_encoder(layers=("layer1",))
    decoder = fit_ridge(encoder, photos, batch_size=7)
    pixels = torch.stack([photos[i]["pixel_values"] for i in range(30)])
    with torch.no_grad():
        images = decoder(encoder(pixels)).float() / 127.5 - 1
    # the channels of an untrained network, each cell's mean colour at least
    assert (images - pixels).square().mean() < 0.5 * (pixels.mean(0) - pixels).square().mean()
    again = fit_ridge(encoder, photos, batch_size=30)
    torch.testing.assert_close(again.weight, decoder.weight, atol=1e-4, rtol=1e-3)


def test_wrong_use():
    with pytest.raises(ValueError, match="7 x 7 cells does not divide 32 pixels"):
        RidgeDecoder((8, 7, 7), 32)
    with pytest.raises(ValueError, match="seen no rows"):
        RidgeDecoder((8, 8, 8), 32).solve()
