"""One pipeline's contenders on all photos, batch by batch, each batch kept as soon as it is done."""

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset
from tqdm.auto import tqdm

from ..data.photos import PhotoDataset, SkippedPhoto, SkipTally, photo_loader
from ..data.pixels import ImageTransform, pixels_to_uint8, uint8_to_pixels
from ..pipelines import Feat2ImgPipeline
from .contender import Batch, Contender, score_samples
from .distributions import MIN_IMAGES, Reference
from .grid import Column, to_pil
from .judge import Judge
from .settings import CompareSettings
from .state import PassState

ORIGINALS = "originals"


class ComparisonPass:
    """Lets all contenders that share a pipeline's encoder and image size answer the same photos.

    Args:
        state: what an earlier run has measured already; it is taken over and gone on with.

    Attributes:
        indices, labels: of the photos that could be read, in order.
        skipped: the others.
        original_scores: metrics of the originals alone, one value per photo.
        floors: distances of the originals from themselves.
    """

    def __init__(
        self,
        pipeline: Feat2ImgPipeline,
        name: str,
        contenders: list[Contender],
        judge: Judge,
        settings: CompareSettings,
        state: PassState,
    ):
        self.pipeline, self.name, self.contenders = pipeline, name, contenders
        self.judge, self.settings, self.state = judge, settings, state
        self.pipeline_size = pipeline.image_size
        self.encoder_name = pipeline.encoder.config["model_name"]
        self.indices: list[int] = []
        self.labels: list[int] = []
        self.original_scores: dict[str, list[float]] = {}
        self.original_pictures: list[Image.Image] = []
        self.floors: dict[str, float] = {}
        self.tally = SkipTally()
        judge.scorer.note_size(pipeline.image_size)
        for record in state.records:
            self._take_over(record)
        wanted = settings.num_grid_images
        self.original_pictures = state.pictures(ORIGINALS, min(wanted, len(self.indices)))
        for number, contender in enumerate(contenders):
            contender.pictures = state.pictures(str(number), min(wanted, len(contender.indices)))

    @property
    def skipped(self) -> list[SkippedPhoto]:
        """Photos that could not be read."""
        return list(self.tally.photos.values())

    def originals(self) -> Column:
        """The originals' column of the grid."""
        return Column("original", f"{self.pipeline_size} px", self.original_pictures)

    def release(self) -> None:
        """Let go of the pipeline and of everything fitted; the figures stay."""
        self.pipeline = None
        for contender in self.contenders:
            contender.decode = contender.sample = contender.measure = None

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) in [-1, 1] => features (B, C, h, w)."""
        return self.pipeline.encode(pixels.to(device=self.pipeline.device, dtype=self.pipeline.dtype))

    @torch.no_grad()
    def run(self, photos: datasets.Dataset) -> None:
        """Score all photos that were not scored yet, then compare the sets."""
        dataset = PhotoDataset(photos, ImageTransform(self.pipeline.image_size, self.pipeline.resize_size))
        done = self.tally.num_seen
        remaining = Subset(dataset, range(done, len(dataset)))
        with tqdm(total=len(dataset), initial=done, desc=self.name, unit="photo", disable=None) as progress:
            for examples in photo_loader(remaining, self.settings.batch_size, self.settings.num_workers):
                record = self._measure(examples)
                self.state.append(record)
                self._take_over(record)
                progress.update(len(examples["indices"]) + len(examples["skipped"]))
        self.tally.finish()
        self._compare_sets()

    def _measure(self, examples: dict) -> dict:
        """One batch's record, plain JSON."""
        record = {
            "indices": examples["indices"].tolist(),
            "labels": examples["labels"].tolist(),
            "skipped": [list(photo) for photo in examples["skipped"]],
            "scores": {},
            "cost": {},
            "counts": {},
        }
        if examples["pixel_values"] is None:
            return record
        pixels = examples["pixel_values"].to(self.pipeline.device)
        targets = pixels_to_uint8(pixels)
        opinions = self.judge.opinions(targets)
        batch = Batch(self.encode(pixels), targets, examples["indices"], examples["labels"], opinions)
        known = self.judge.true_label(opinions, batch.labels)
        record["scores"][ORIGINALS] = {metric: values.tolist() for metric, values in known.items()}
        self._keep_pictures(ORIGINALS, self.original_pictures, targets)
        if "sets" in opinions:
            self.state.add_features(ORIGINALS, opinions["sets"].features)
        record["counts"][ORIGINALS] = len(batch)
        for number, contender in enumerate(self.contenders):
            self._answer(number, contender, batch, record)
        return record

    def _answer(self, number: int, contender: Contender, batch: Batch, record: dict) -> None:
        key = str(number)
        if contender.max_images is not None:
            batch = batch.first(min(len(batch), contender.max_images - len(contender.indices)))
        if len(batch) == 0:
            return
        if contender.measure is not None and not contender.cost:
            record["cost"][key] = contender.measure(batch)
        images = contender.decode(batch)
        scores, pooled = self.judge(images, self.encode(uint8_to_pixels(images)), batch)
        if contender.sample is not None and self.settings.num_samples > 1:
            others = [contender.sample(batch, sample) for sample in range(1, self.settings.num_samples)]
            scores |= score_samples([images, *others], batch.targets, self.judge.scorer)
        record["scores"][key] = {metric: values.tolist() for metric, values in scores.items()}
        record["counts"][key] = len(batch)
        if pooled is not None:
            self.state.add_features(key, pooled)
        self._keep_pictures(key, contender.pictures, images)

    def _keep_pictures(self, key: str, pictures: list[Image.Image], images: Tensor) -> None:
        for image in images[: max(0, self.settings.num_grid_images - len(pictures))]:
            self.state.save_picture(key, len(pictures), to_pil(image))
            pictures.append(to_pil(image))

    def _take_over(self, record: dict) -> None:
        """Count a finished batch."""
        skipped = [SkippedPhoto(*photo) for photo in record["skipped"]]
        self.tally.add({"indices": record["indices"], "skipped": skipped})
        self.indices += record["indices"]
        self.labels += record["labels"]
        for metric, values in record["scores"].get(ORIGINALS, {}).items():
            self.original_scores.setdefault(metric, []).extend(values)
        for number, contender in enumerate(self.contenders):
            scores = record["scores"].get(str(number), {})
            contender.add(record["indices"][: record["counts"].get(str(number), 0)], scores)
            contender.cost |= record["cost"].get(str(number), {})

    def _compare_sets(self) -> None:
        """KID and Frechet distance of every contender that answered all photos, where there are enough."""
        files = self.state.feature_files
        if ORIGINALS not in files:
            return
        if len(self.indices) < MIN_IMAGES:
            reason = f"Sets of {len(self.indices)} photos are too small: it needs at least {MIN_IMAGES}."
            self.judge.left_out |= {"kid": reason, "frechet": reason}
            return
        reference = Reference(files[ORIGINALS], self.settings.seed)
        self.floors = reference.floors()
        for number, contender in enumerate(tqdm(self.contenders, desc="sets", leave=False, disable=None)):
            if len(contender.indices) == len(self.indices):
                contender.set_distances = reference.distances(files[str(number)])


def best_and_worst(passes: list[ComparisonPass], count: int) -> tuple[list[int], list[int]]:
    """Places of the photos that the pipelines recreate best and worst on average, by LPIPS, or PSNR without it."""
    rivals = [contender for one in passes for contender in one.contenders if contender.competes]
    metric, sign = ("lpips", 1) if all("lpips" in rival.scores for rival in rivals) else ("psnr", -1)
    means = sign * np.mean([rival.scores[metric] for rival in rivals], axis=0)
    order = np.argsort(means, kind="stable")
    count = min(count, len(order) // 2)
    return order[:count].tolist(), order[::-1][:count].tolist()
