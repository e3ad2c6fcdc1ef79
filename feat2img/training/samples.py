"""Sample grids of a running training: originals above, reconstructions below."""

from pathlib import Path

import torch
from accelerate import Accelerator
from PIL import Image
from torchvision.utils import make_grid

from ..data import ImageTransform, PhotoDataset, load_photos, pixels_to_uint8
from .accelerator import track_image
from .config import TrainingConfig
from .task import TrainingTask


class SampleGrid:
    """A few fixed photos, reconstructed with the current (EMA) weights every so often."""

    def __init__(self, config: TrainingConfig, task: TrainingTask, accelerator: Accelerator, output_dir: Path):
        self.task, self.accelerator = task, accelerator
        self.folder = output_dir / "samples"
        self.latest: Image.Image | None = None
        self.pixels = self.load(config) if accelerator.is_main_process else None

    @staticmethod
    def load(config: TrainingConfig) -> torch.Tensor:
        split = config.validation_split or config.train_split
        photos = load_photos(
            config.dataset_name,
            split,
            size=config.dataset_size,
            streaming=config.streaming,
            num_images=None if config.streaming else 4 * config.num_validation_images,
            seed=0,
        )
        if config.streaming:
            from datasets import Dataset

            photos = Dataset.from_list(list(photos.take(4 * config.num_validation_images)), features=photos.features)
        dataset = PhotoDataset(photos, ImageTransform(config.image_size, config.resize_size))
        examples = (dataset[index] for index in range(len(dataset)))
        readable = [example["pixel_values"] for example in examples if "skipped" not in example]
        if not readable:
            raise ValueError(f"no photo of split {split} can be read; give another --validation_split")
        return torch.stack(readable[: config.num_validation_images])

    @torch.no_grad()
    def save(self, step: int) -> None:
        """Write `samples/step-STEP.png` and hand the grid to the trackers."""
        if self.pixels is None:
            return
        decoder = self.accelerator.unwrap_model(self.task.decoder)
        ema = self.task.ema
        if ema is not None:
            ema.store(decoder.parameters())
            ema.copy_to(decoder.parameters())
        decoder.eval()
        pipeline = self.task.pipeline()
        pipeline.set_progress_bar_config(disable=True)
        generators = [torch.Generator(pipeline.device).manual_seed(index) for index in range(len(self.pixels))]
        with self.accelerator.autocast():
            output = pipeline(images=self.pixels, generator=generators, output_type="pt")
        decoder.train()
        if ema is not None:
            ema.restore(decoder.parameters())
        originals = pixels_to_uint8(self.pixels)
        generated = pixels_to_uint8(output.images.cpu() * 2 - 1)
        grid = make_grid(torch.cat([originals, generated]), nrow=len(originals), padding=4, pad_value=255)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.latest = Image.fromarray(grid.permute(1, 2, 0).numpy())
        self.latest.save(self.folder / f"step-{step:06d}.png")
        track_image(self.accelerator, "samples", self.latest, step)
