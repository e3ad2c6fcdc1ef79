from itertools import islice

import pytest

from feat2img.training.streaming import streamed_batches


@pytest.fixture
def stream(make_config, photo_folder):
    """`stream(count, first_batch=0, rank=0, world_size=1, **changes)`: batches as tuples of the photos' means."""

    def read(count, first_batch=0, rank=0, world_size=1, **changes):
        settings = {"random_flip": False, "max_train_samples": None, "dataset_name": str(photo_folder), **changes}
        config = make_config("gan", streaming=True, **settings)
        batches = islice(streamed_batches(config, first_batch, rank, world_size), count)
        return [tuple(photo.mean().item() for photo in batch["pixel_values"]) for batch in batches]

    return read


def test_each_epoch_reads_every_photo_in_another_order(stream):
    batches = stream(18)
    epochs = [sum(batches[start : start + 6], ()) for start in (0, 6, 12)]
    assert len(set(epochs[0])) == 12
    assert set(epochs[0]) == set(epochs[1]) == set(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert stream(18) == batches and stream(6, seed=1) != batches[:6]


@pytest.mark.parametrize("first_batch", [2, 7])
def test_going_on_skips_what_was_read(stream, first_batch):
    assert stream(3, first_batch) == stream(3 + first_batch)[first_batch:]


def test_processes_share_the_photos(stream):
    parts = [sum(stream(3, rank=rank, world_size=2), ()) for rank in range(2)]
    assert len(set(parts[0])) == len(set(parts[1])) == 6
    assert not set(parts[0]) & set(parts[1])


def test_a_limited_number_of_photos_stays_the_same_in_every_epoch(stream):
    assert len({photo for batch in stream(9, max_train_samples=6) for photo in batch}) == 6


def test_unreadable_photos_are_all_reported(make_config, photo_folder):
    for number in range(6):
        (photo_folder / "train" / f"photo{number:02}.png").write_text("not a photo")
    config = make_config("gan", streaming=True, dataset_name=str(photo_folder), train_batch_size=1)
    batches = list(islice(streamed_batches(config, 0), 12))
    assert all(batch["pixel_values"].shape == (1, 3, 32, 32) for batch in batches)
    skipped = [photo.name.rsplit("/")[-1] for batch in batches for photo in batch["skipped"]]
    assert set(skipped) == {f"photo{number:02}.png" for number in range(6)} and 9 <= len(skipped) <= 12
