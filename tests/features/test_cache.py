import io
import json
import pickle

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from feat2img.data import ImageTransform, PhotoDataset, photo_loader
from feat2img.features import CachedPhotoDataset, FeatureCache, TimmFeatureEncoder, build_feature_cache
from feat2img.features import cache as cache_module
from feat2img.features.rows import RowFile

SIZE = 32


def png(seed):
    noise = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def make_photos(count=9, broken=(), transform=None):
    rows = [{"bytes": b"no image" if i in broken else png(i), "path": None} for i in range(count)]
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.Value("int64")})
    photos = datasets.Dataset.from_dict({"image": rows, "label": list(range(count))}, features)
    return PhotoDataset(photos, transform or ImageTransform(SIZE, SIZE))


class StoppingPhotos(PhotoDataset):
    """Stops like a killed run once ``limit`` photos were read, and notes what was read."""

    limit = None

    def __getitem__(self, index):
        self.read = [*getattr(self, "read", []), index]
        if self.limit is not None and len(self.read) > self.limit:
            raise KeyboardInterrupt
        return super().__getitem__(index)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return TimmFeatureEncoder("test_resnet", ["layer3"], image_size=SIZE)


def build(encoder, photos, folder, **options):
    return build_feature_cache(encoder, photos, folder, **{"batch_size": 2, "max_skipped_share": 0.5, **options})


def test_features_equal_the_encoder(encoder, tmp_path):
    photos = make_photos()
    cache = build(encoder, photos, tmp_path, flips=True)
    assert len(cache) == 9 and cache.feature_shape == encoder.feature_shape
    for index in (0, 4, 8):
        pixels = photos[index]["pixel_values"][None]
        features = cache.features(index)
        assert features.dtype == torch.float16 and tuple(features.shape) == cache.feature_shape
        torch.testing.assert_close(features.float(), encoder(pixels)[0], rtol=1e-3, atol=1e-4)
        mirrored = encoder(pixels.flip(-1))[0]
        torch.testing.assert_close(cache.features(index, flipped=True).float(), mirrored, rtol=1e-3, atol=1e-4)
        assert (mirrored - encoder(pixels)[0]).abs().max() > 0.01
    views = torch.stack([cache.features(i, flipped) for i in range(9) for flipped in (False, True)]).double()
    torch.testing.assert_close(cache.mean.double(), views.mean(dim=(0, 2, 3)), rtol=1e-5, atol=1e-7)
    expected = views.var(dim=(0, 2, 3), unbiased=False).sqrt()
    torch.testing.assert_close(cache.std.double(), expected, rtol=1e-5, atol=1e-7)


def test_finished_cache_is_opened_without_computing(encoder, tmp_path):
    first = build(encoder, make_photos(), tmp_path)
    encoder.network.conv1.register_forward_hook(lambda *_: pytest.fail("computed again"))
    second = build(encoder, make_photos(), tmp_path)
    assert second.path == first.path and len(list(tmp_path.iterdir())) == 1
    assert torch.equal(first.features(3), second.features(3))


def test_interrupted_build_goes_on_without_repeating(encoder, tmp_path):
    whole = build(encoder, make_photos(), tmp_path / "whole")
    photos = StoppingPhotos(make_photos().photos, ImageTransform(SIZE, SIZE))
    photos.limit = 5  # in the third batch of two
    with pytest.raises(KeyboardInterrupt):
        build(encoder, photos, tmp_path / "stopped")
    folder = next((tmp_path / "stopped").iterdir())
    with pytest.raises(ValueError, match="is not finished"):
        FeatureCache.open(folder, encoder)
    photos.limit, photos.read = None, []
    cache = build(encoder, photos, tmp_path / "stopped")
    assert photos.read == [4, 5, 6, 7, 8]
    for index in range(9):
        assert torch.equal(cache.features(index), whole.features(index))
    assert torch.equal(cache.mean, whole.mean) and torch.equal(cache.std, whole.std)


def test_rows_are_marked_only_after_their_features_are_on_disk(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "SECONDS_BETWEEN_FLUSHES", 0.0)
    order = []
    flush = RowFile.flush
    monkeypatch.setattr(RowFile, "flush", lambda self: (order.append(self.path.name), flush(self)))
    build(encoder, make_photos(4), tmp_path)
    assert order == ["features.npy", "state.npy"] * (len(order) // 2) and len(order) >= 4


def test_skipped_photos_are_named_and_left_out_of_the_statistics(encoder, tmp_path):
    cache = build(encoder, make_photos(9, broken=(2, 5)), tmp_path)
    assert [(photo.index, photo.name) for photo in cache.skipped] == [(2, "row 2"), (5, "row 5")]
    assert not cache.is_valid(2) and cache.is_valid(3) and not cache.is_valid(9) and not cache.is_valid(-1)
    with pytest.raises(ValueError, match="row 5 has no features"):
        cache.features(5)
    valid = torch.stack([cache.features(i) for i in range(9) if cache.is_valid(i)]).double()
    torch.testing.assert_close(cache.mean.double(), valid.mean(dim=(0, 2, 3)), rtol=1e-5, atol=1e-7)


def test_too_many_skipped_photos_stop_the_build(encoder, tmp_path):
    with pytest.raises(ValueError, match="skipped 2 of 9 photos: row 2 .*at most 5%"):
        build(encoder, make_photos(9, broken=(2, 5)), tmp_path, max_skipped_share=0.05)
    with pytest.raises(ValueError, match="skipped 2 of 9 photos"):  # also when the rest is done already
        build(encoder, make_photos(9, broken=(2, 5)), tmp_path, max_skipped_share=0.05)
    with pytest.raises(ValueError, match="the data set is empty"):
        build(encoder, make_photos(0), tmp_path)


def test_everything_that_changes_features_changes_the_key(encoder, tmp_path):
    photos = make_photos()
    other_layer = TimmFeatureEncoder("test_resnet", ["layer2"], image_size=SIZE)
    other_weights = TimmFeatureEncoder("test_resnet", ["layer3"], image_size=SIZE)
    caches = [
        build(encoder, photos, tmp_path),
        build(other_layer, photos, tmp_path),
        build(other_weights, photos, tmp_path),
        build(encoder, make_photos(8), tmp_path),
        build(encoder, make_photos(transform=ImageTransform(SIZE, 2 * SIZE)), tmp_path),
        build(encoder, photos, tmp_path, flips=True),
        build(encoder, photos, tmp_path, autocast_dtype=torch.bfloat16),
    ]
    assert len({cache.path for cache in caches}) == len(caches)


def test_cache_of_another_encoder_is_refused(encoder, tmp_path):
    path = build(encoder, make_photos(), tmp_path).path
    with pytest.raises(ValueError, match=r"another encoder: layers \['layer3'\] in the cache, \['layer2'\] given"):
        FeatureCache.open(path, TimmFeatureEncoder("test_resnet", ["layer2"], image_size=SIZE))
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="another encoder: weights [0-9a-f]{12} in the cache, [0-9a-f]{12} given"):
        FeatureCache.open(path, TimmFeatureEncoder("test_resnet", ["layer3"], image_size=SIZE))


def test_saved_and_loaded_encoder_opens_its_cache(encoder, tmp_path):
    cache = build(encoder, make_photos(), tmp_path / "cache")
    encoder.save_pretrained(tmp_path / "encoder")
    loaded = TimmFeatureEncoder.from_pretrained(tmp_path / "encoder")
    assert FeatureCache.open(cache.path, loaded).feature_shape == cache.feature_shape


def test_damaged_caches_are_refused(encoder, tmp_path):
    with pytest.raises(ValueError, match="holds no meta.json"):
        FeatureCache.open(tmp_path, encoder)
    path = build(encoder, make_photos(), tmp_path).path
    good = {name: (path / name).read_bytes() for name in ("meta.json", "features.npy", "state.npy")}

    def refused(name, content, message):
        (path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            FeatureCache.open(path, encoder)
        (path / name).write_bytes(good[name])

    refused("meta.json", good["meta.json"][:-30], "is corrupt")
    meta = json.loads(good["meta.json"])
    refused("meta.json", json.dumps({**meta, "schema_version": 99}).encode(), "cache schema 99, expected 1")
    refused("features.npy", good["features.npy"][:-100], "missing or corrupt")
    refused("features.npy", b"", "missing or corrupt")
    refused("features.npy", good["state.npy"], "holds uint8")
    refused("state.npy", good["state.npy"][:-1] + b"\0", "contradicts meta.json")
    objects = io.BytesIO()
    np.save(objects, np.array([{}], dtype=object), allow_pickle=True)
    refused("features.npy", objects.getvalue(), "missing or corrupt")
    FeatureCache.open(path, encoder)


def test_values_beyond_float16_are_refused(encoder, tmp_path):
    encoder.network.layer3.register_forward_hook(lambda module, args, output: output + 1e6)
    with pytest.raises(ValueError, match=r"rows \[0, 1\] are not finite or beyond float16"):
        build(encoder, make_photos(), tmp_path)


@pytest.mark.parametrize("choice", ["random_crop", "random_flip"])
def test_random_transforms_are_refused(encoder, tmp_path, choice):
    photos = make_photos(transform=ImageTransform(SIZE, SIZE, **{choice: True}))
    with pytest.raises(ValueError, match="random crops and flips cannot be cached"):
        build(encoder, photos, tmp_path)


def test_cache_pickles_small_and_works_in_workers(encoder, tmp_path):
    photos = make_photos(9, broken=(2,))
    cache = build(encoder, photos, tmp_path)
    cache.features(0)
    assert torch.equal(pickle.loads(pickle.dumps(cache)).features(1), cache.features(1))
    batches = list(photo_loader(CachedPhotoDataset(photos, cache, False), batch_size=3, num_workers=1))
    assert torch.cat([batch["indices"] for batch in batches]).tolist() == [0, 1, 3, 4, 5, 6, 7, 8]
    assert batches[0]["features"].shape == (2, *cache.feature_shape)
    assert batches[0]["skipped"][0].index == 2


def test_chunks_are_all_valid_rows_in_order(encoder, tmp_path):
    cache = build(encoder, make_photos(9, broken=(2, 6, 7, 8)), tmp_path, flips=True)
    chunks = list(cache.chunks(3))
    assert [rows.tolist() for rows, _ in chunks] == [[0, 1], [3, 4, 5]]
    for rows, features in chunks:
        assert torch.equal(features, torch.stack([cache.features(int(row)) for row in rows]))


def test_cached_flips_go_with_flipped_pixels(encoder, tmp_path):
    photos = make_photos()
    cache = build(encoder, photos, tmp_path, flips=True)
    dataset = CachedPhotoDataset(photos, cache, random_flip=True)
    torch.manual_seed(0)
    flips = []
    for index in list(range(9)) * 2:
        example = dataset[index]
        expected = encoder(example["pixel_values"][None])[0]
        torch.testing.assert_close(example["features"].float(), expected, rtol=1e-3, atol=1e-4)
        flips.append(not torch.equal(example["pixel_values"], photos[index]["pixel_values"]))
        assert example["index"] == index and example["label"] == index
    assert 0 < sum(flips) < 18


def test_cached_photos_must_belong_together(encoder, tmp_path):
    photos = make_photos()
    cache = build(encoder, photos, tmp_path)
    with pytest.raises(ValueError, match="random_flip needs"):
        CachedPhotoDataset(photos, cache, random_flip=True)
    with pytest.raises(ValueError, match="no mirrored photos"):
        cache.features(0, flipped=True)
    with pytest.raises(ValueError, match="of another dataset"):
        CachedPhotoDataset(make_photos(8), cache, random_flip=False)
    with pytest.raises(ValueError, match="of another transform"):
        CachedPhotoDataset(make_photos(transform=ImageTransform(SIZE, 40)), cache, random_flip=False)
