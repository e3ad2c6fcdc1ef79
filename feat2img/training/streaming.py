"""Training batches from a data set that is read while training."""

from collections.abc import Iterator
from itertools import islice

from datasets.distributed import split_dataset_by_node

from ..data import ImageTransform, StreamedPhotoDataset, load_photos, photo_loader
from .config import TrainingConfig

SHUFFLE_BUFFER = 1000


def streamed_batches(config: TrainingConfig, first_batch: int, rank: int = 0, world_size: int = 1) -> Iterator[dict]:
    """Batches without end for one process, each epoch in another order of a shuffle buffer.

    Going on at `first_batch` reads and drops what comes before it.
    """
    photos = load_photos(
        config.dataset_name,
        config.train_split,
        size=config.dataset_size,
        streaming=True,
        num_images=config.max_train_samples,
    )
    transform = ImageTransform(config.image_size, config.resize_size, config.random_crop, config.random_flip)
    photos = split_dataset_by_node(photos.shuffle(config.seed, buffer_size=SHUFFLE_BUFFER), rank, world_size)

    def epochs():
        epoch = 0
        while True:
            photos.set_epoch(epoch)
            dataset = StreamedPhotoDataset(photos, transform)
            batches = 0
            for batch in photo_loader(dataset, config.train_batch_size, config.dataloader_num_workers, drop_last=True):
                batches += 1
                if batch["pixel_values"] is not None:
                    yield batch
            if not batches:
                raise ValueError(f"{config.dataset_name} streams fewer images than --train_batch_size asks for")
            epoch += 1

    return islice(epochs(), first_batch, None)
