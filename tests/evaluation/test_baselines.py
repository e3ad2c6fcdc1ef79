import numpy as np
import pytest
import torch

from feat2img.data import ImageTransform, PhotoDataset, load_photos
from feat2img.data.pixels import uint8_to_pixels
from feat2img.evaluation.baselines import NearestTrainingPhoto, mean_image


def photo_dataset(folder, size: int = 32) -> PhotoDataset:
    return PhotoDataset(load_photos(str(folder), "train"), ImageTransform(size, size))


def as_batch(photos: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2)


def test_mean_image_is_numpy_s_mean_rounded(tmp_path, save_photos):
    photos = save_photos(tmp_path / "train", 7, seed=0)
    expected = np.stack(photos).astype(np.float64).mean(axis=0)
    mean = mean_image(photo_dataset(tmp_path), batch_size=3)
    assert mean.dtype == torch.uint8
    # rounding may go either way where float32 pixels lie half-way
    assert np.abs(mean.permute(1, 2, 0).numpy() - expected).max() <= 0.5 + 1e-3


def test_nearest_training_photo_is_that_of_brute_force(tmp_path, save_photos, make_encoder):
    train = as_batch(save_photos(tmp_path / "train", 150, seed=0))
    queries = as_batch(save_photos(tmp_path / "queries", 20, seed=9))
    torch.manual_seed(0)
    encoder = make_encoder()
    with torch.no_grad():
        bank, features = (encoder(uint8_to_pixels(images)).flatten(1).double() for images in (train, queries))
        nearest = NearestTrainingPhoto(encoder, photo_dataset(tmp_path), tmp_path / "cache", batch_size=32)
        answers = nearest(encoder(uint8_to_pixels(queries)))
    cosine = (bank @ features.T / bank.norm(dim=1)[:, None] / features.norm(dim=1)).T
    expected = cosine.argmax(dim=1)
    best_two = cosine.topk(2, dim=1).values
    clear = best_two[:, 0] - best_two[:, 1] > 1e-4  # the bank lies on disk in float16
    assert clear.sum() >= 10
    assert torch.equal(answers[clear], train[expected][clear])


def test_a_training_photo_that_cannot_be_decoded_is_never_the_answer(tmp_path, save_photos, make_encoder):
    train = as_batch(save_photos(tmp_path / "train", 40, seed=0))
    (tmp_path / "train" / "photo20.png").write_bytes(b"not a photo")
    torch.manual_seed(0)
    encoder = make_encoder()
    nearest = NearestTrainingPhoto(encoder, photo_dataset(tmp_path), tmp_path / "cache", batch_size=8)
    with torch.no_grad():
        answers = nearest(encoder(uint8_to_pixels(train[18:23])))
    assert torch.equal(answers[[0, 1, 3, 4]], train[[18, 19, 21, 22]])
    assert not torch.equal(answers[2], train[20])


def test_no_training_photo_at_all_is_an_error(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "bad.png").write_bytes(b"not a photo")
    with pytest.raises(ValueError, match="bad.png"):
        mean_image(photo_dataset(tmp_path))
