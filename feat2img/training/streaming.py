"""Training batches from a data set that is read while training."""

from collections.abc import Iterator
from itertools import count, islice

from datasets.distributed import split_dataset_by_node

from ..data import ImageTransform, SkippedPhoto, StreamedPhotoDataset, load_photos, photo_loader
from ..data.photos import mix_seed
from .config import TrainingConfig

SHUFFLE_BUFFER = 1000


def streamed_batches(config: TrainingConfig, first_batch: int, rank: int = 0, world_size: int = 1) -> Iterator[dict]:
    """Batches without end for one process.

    Each epoch has another order of a shuffle buffer; with `max_train_samples` all have the same. Going on at
    `first_batch` reads and drops what comes before it.
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
        dataset = StreamedPhotoDataset(photos, transform, seed=mix_seed(config.seed, rank))
        skipped: list[SkippedPhoto] = []  # of batches without any readable photo; the next one names them
        for epoch in count():
            # where only some photos are taken, another order would take others
            dataset.epoch = 0 if config.max_train_samples else epoch
            batches = 0
            for batch in photo_loader(dataset, config.train_batch_size, config.dataloader_num_workers, drop_last=True):
                skipped += batch["skipped"]
                if batch["pixel_values"] is None:
                    continue
                batches += 1
                yield {**batch, "skipped": skipped}
                skipped = []
            if not batches:
                raise ValueError(
                    f"{config.dataset_name} streams fewer readable images than --train_batch_size asks for"
                    + (f"; {len(skipped)} cannot be read, the first: {skipped[0].name}" if skipped else "")
                )

    return islice(epochs(), first_batch, None)
