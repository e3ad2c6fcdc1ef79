import io
import json
import re
import sys
import zlib
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from feat2img.data import (
    ImageTransform,
    PhotoDataset,
    SkippedPhoto,
    SkipTally,
    StreamedPhotoDataset,
    collate_photos,
    photo_loader,
    uint8_to_pixels,
)
from feat2img.data import photos as photos_module

TRANSFORM = ImageTransform(16, 16)


def encoded(seed=0, kind="PNG", size=16):
    noise = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


def bomb():
    """A PNG header that promises 400 million pixels."""
    header = b"IHDR" + (20_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    length, checksum = (13).to_bytes(4, "big"), zlib.crc32(header).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + length + header + checksum + encoded()[33:]


def table(images, labels=None):
    columns = {"image": [{"bytes": image, "path": None} if isinstance(image, bytes) else image for image in images]}
    features = {"image": datasets.Image(decode=False)}
    if labels is not None:
        columns["label"], features["label"] = labels, datasets.Value("int64")
    return datasets.Dataset.from_dict(columns, datasets.Features(features))


def test_examples_carry_pixels_label_and_index():
    photos = PhotoDataset(table([encoded(0), encoded(1)], [7, None]), TRANSFORM)
    expected = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(((photos[1]["pixel_values"] + 1) * 127.5).round().permute(1, 2, 0).numpy(), expected)
    assert (photos[0]["label"], photos[0]["index"]) == (7, 0)
    assert photos[1]["label"] == -1
    assert PhotoDataset(table([encoded()]), TRANSFORM)[0]["label"] == -1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"plain text", "not an image file of a known kind"),
        (b"", "not an image file of a known kind"),
        (encoded(kind="JPEG", size=200)[:3000], "OSError: image file is truncated"),
        (bomb(), "DecompressionBombError: Image size"),
        (None, "ValueError: the row holds no image"),
        ({"bytes": None, "path": "nowhere/photo.jpg"}, "FileNotFoundError"),
    ],
)
def test_undecodable_photos_are_skipped_with_a_reason(content, reason):
    example = PhotoDataset(table([encoded(), content]), TRANSFORM)[1]
    skipped = example["skipped"]
    assert list(example) == ["skipped"] and skipped.index == 1 and skipped.reason.startswith(reason)
    assert "\n" not in skipped.reason
    assert skipped.name == ("nowhere/photo.jpg" if "FileNotFound" in reason else "row 1")


def test_large_but_honest_photo_over_the_warning_limit_is_skipped(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    assert "DecompressionBombWarning" in PhotoDataset(table([encoded()]), TRANSFORM)[0]["skipped"].reason


def test_photos_given_with_decoding_are_read_undecoded():
    photos = table([encoded(), b"broken"]).cast_column("image", datasets.Image())
    assert "skipped" in PhotoDataset(photos, TRANSFORM)[1]


def test_wrong_data_sets_are_refused():
    with pytest.raises(ValueError, match="expected a datasets.Dataset, got list"):
        PhotoDataset([], TRANSFORM)
    with pytest.raises(ValueError, match="expected a datasets.IterableDataset, got Dataset"):
        StreamedPhotoDataset(table([encoded()]), TRANSFORM)
    with pytest.raises(ValueError, match="expected a column 'image', got the columns photo"):
        PhotoDataset(table([encoded()]).rename_column("image", "photo"), TRANSFORM)


def test_batches():
    photos = PhotoDataset(table([encoded(0), b"broken", encoded(2)], [3, 4, 5]), TRANSFORM)
    batch = collate_photos([photos[i] for i in range(3)])
    assert batch["pixel_values"].shape == (2, 3, 16, 16)
    assert batch["labels"].tolist() == [3, 5] and batch["indices"].tolist() == [0, 2]
    assert batch["indices"].dtype == batch["labels"].dtype == torch.int64
    assert batch["skipped"] == [SkippedPhoto(1, "row 1", "not an image file of a known kind")]
    assert "features" not in batch
    featured = collate_photos([{**photos[0], "features": torch.ones(4, 2, 2)}, photos[1]])
    assert featured["features"].shape == (1, 4, 2, 2)
    empty = collate_photos([photos[1]])
    assert empty["pixel_values"] is None and empty["labels"].shape == (0,) and len(empty["skipped"]) == 1


def batch_of(good, bad=0, start=0):
    skipped = [SkippedPhoto(start + i, f"photo{start + i}.jpg", "broken") for i in range(bad)]
    return {"indices": torch.arange(good), "skipped": skipped}


def test_tally_waits_for_enough_photos_then_stops():
    tally = SkipTally(max_share=0.05, num_photos=110, min_seen=100)
    tally.add(batch_of(0, 6))
    tally.add(batch_of(93))
    with pytest.raises(ValueError, match=r"skipped 6 of 110 photos: photo0.jpg \(broken\).* and 1 more; at most 5%"):
        tally.add(batch_of(1))
    exact = SkipTally(max_share=0.05, num_photos=100, min_seen=100)
    exact.add(batch_of(95, 5))
    exact.finish()


def test_a_photo_counts_once_however_often_it_is_met():
    """Early batches of a long training hold more than their share of broken photos as often as not."""
    tally = SkipTally(max_share=0.05, num_photos=1000, min_seen=0)
    for _ in range(10):
        tally.add(batch_of(1, 30))
    assert tally.summary().startswith("skipped 30 of 1000 photos")


def test_of_a_stream_some_more_may_be_skipped_by_chance():
    tally = SkipTally(max_share=0.05)
    tally.add(batch_of(89, 11))
    with pytest.raises(ValueError, match="skipped 12 of 101 photos"):
        tally.add(batch_of(0, 1, start=11))


def test_a_tally_goes_on_from_what_another_counted():
    first, second = SkipTally(0.5, num_photos=20), SkipTally(0.5, num_photos=20)
    first.add(batch_of(5, 2))
    second.load(json.loads(json.dumps(first.state())))
    second.add(batch_of(5, 3))
    assert second.num_seen == 15 and second.num_skipped == 5 and second.photos.keys() == {0, 1, 2}
    assert second.summary() == "skipped 3 of 20 photos: photo0.jpg (broken), photo1.jpg (broken), photo2.jpg (broken)"


def test_tally_judges_small_sets_at_the_end():
    tally = SkipTally(num_photos=10)
    tally.add(batch_of(9, 1))
    with pytest.raises(ValueError, match="skipped 1 of 10 photos"):
        tally.finish()
    with pytest.raises(ValueError, match="the data set is empty"):
        SkipTally().finish()
    everything = SkipTally(max_share=1.0)
    everything.add(batch_of(0, 3))
    with pytest.raises(ValueError, match="never all"):
        everything.finish()
    with pytest.raises(ValueError, match="max_share must lie between 0 and 1"):
        SkipTally(5)


def test_tally_names_a_photo_once_over_epochs():
    tally = SkipTally(0.5)
    for _ in range(2):
        tally.add(batch_of(9, 1))
    assert tally.summary() == "skipped 2 of 20 photos: photo0.jpg (broken)"
    assert SkipTally().summary() == "skipped 0 of 0 photos"


def test_loader_shuffles_reproducibly():
    photos = PhotoDataset(table([encoded(i) for i in range(8)]), TRANSFORM)

    def order(seed):
        loader = photo_loader(photos, 3, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(seed))
        return torch.cat([batch["indices"] for batch in loader]).tolist()

    assert order(0) == order(0) != order(1) and len(order(0)) == 6
    assert [batch["indices"].tolist() for batch in photo_loader(photos, 5)] == [[0, 1, 2, 3, 4], [5, 6, 7]]
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        photo_loader(photos, 0)


def stream(num_shards=3):
    labels = list(range(9))
    return table([b"broken" if i == 4 else encoded(i) for i in labels], labels).to_iterable_dataset(num_shards)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_stream_gives_every_photo_once(num_workers):
    loader = photo_loader(StreamedPhotoDataset(stream(), TRANSFORM), 2, num_workers)
    batches = list(loader)
    labels = torch.cat([batch["labels"] for batch in batches]).tolist()
    assert sorted(labels) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert sum(len(batch["skipped"]) for batch in batches) == 1
    indices = torch.cat([batch["indices"] for batch in batches]).tolist()
    assert len(set(indices)) == 8
    by_label = {int(i): p for b in batches for i, p in zip(b["labels"], b["pixel_values"], strict=True)}
    assert torch.equal(by_label[7], PhotoDataset(table([encoded(7)]), TRANSFORM)[0]["pixel_values"])


def test_stream_is_shuffled_anew_in_every_epoch():
    dataset = StreamedPhotoDataset(stream(), TRANSFORM, shuffle_buffer=9, seed=0)
    first, second = ([e["label"] for e in dataset if "label" in e] for _ in range(2))
    assert sorted(first) == sorted(second) and first != second
    with pytest.raises(ValueError, match="the loader cannot shuffle a stream"):
        photo_loader(dataset, 2, shuffle=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pages are given back on Linux alone")
def test_photos_that_were_read_do_not_stay_in_memory(tmp_path, monkeypatch):
    """`datasets` maps its files; what was read is given back now and then, and can be read again."""
    monkeypatch.setattr(photos_module, "BYTES_KEPT", 1 << 18)
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 96, 3), dtype=np.uint8)
    rows = {"image": [Image.fromarray(values) for values in noise]}
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "photos")
    stored = datasets.load_from_disk(tmp_path / "photos")
    dataset = PhotoDataset(stored, ImageTransform(96, 96))

    def resident() -> int:
        """Bytes of the data set's files in this process's memory."""
        blocks = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
        ours = [block for block in blocks if str(tmp_path) in block]
        return sum(int(kilobytes) * 1024 for block in ours for kilobytes in re.findall(r"Rss:\s+(\d+) kB", block))

    first = [dataset[index]["pixel_values"] for index in range(64)]
    size = sum(path.stat().st_size for path in (tmp_path / "photos").glob("*.arrow"))
    assert size > 1 << 20 and resident() < size / 2
    for values, pixels, index in zip(noise, first, range(64), strict=True):
        assert torch.equal(pixels, uint8_to_pixels(torch.from_numpy(values).permute(2, 0, 1)))
        assert torch.equal(dataset[index]["pixel_values"], pixels)
