"""One pipeline's contenders on all photos, batch by batch, each batch kept as soon as it is done."""

from dataclasses import dataclass, field

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
from .processes import Processes
from .settings import CompareSettings
from .state import PassState

ORIGINALS = "originals"


@dataclass
class MeasuredBatch:
    """What one batch gives: its record, plain JSON, and by contender pooled features (B, D) and uint8 pictures."""

    record: dict
    features: dict[str, Tensor] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)

    def add(self, key: str, scores: dict[str, Tensor], pooled: Tensor | None, pictures: Tensor, count: int) -> None:
        self.record["scores"][key] = {metric: values.tolist() for metric, values in scores.items()}
        self.record["counts"][key] = count
        if pooled is not None:
            self.features[key] = pooled.cpu()
        self.pictures[key] = pictures


class ComparisonPass:
    """Lets all contenders that share a pipeline's encoder and image size answer the same photos.

    Args:
        state: what an earlier run has measured already; it is taken over and gone on with.
        num_photos: how many there are.
        processes: that share the work; None: this one alone.

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
        num_photos: int,
        processes: Processes | None = None,
    ):
        self.pipeline, self.name, self.contenders = pipeline, name, contenders
        self.judge, self.settings, self.state = judge, settings, state
        self.processes = processes or Processes()
        self.pipeline_size = pipeline.image_size
        self.encoder_name = pipeline.encoder.config["model_name"]
        self.indices: list[int] = []
        self.labels: list[int] = []
        self.original_scores: dict[str, list[float]] = {}
        self.original_pictures: list[Image.Image] = []
        self.floors: dict[str, float] = {}
        self.tally = SkipTally(num_photos=num_photos)
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
        """Score all photos that were not scored yet, then compare the sets.

        Several processes measure the same batches that one would, in turn, and tell each other what they found.
        """
        dataset = PhotoDataset(photos, ImageTransform(self.pipeline.image_size, self.pipeline.resize_size))
        size, count = self.settings.batch_size, self.processes.count
        done = self.tally.num_seen
        batches = [range(start, min(start + size, len(dataset))) for start in range(done, len(dataset), size)]
        own = Subset(dataset, [row for batch in batches[self.processes.rank :: count] for row in batch])
        loader = iter(photo_loader(own, size, self.settings.num_workers))
        with tqdm(total=len(dataset), initial=done, desc=self.name, unit="photo", disable=self._hidden) as progress:
            for first in range(0, len(batches), count):
                examples = next(loader, None)
                before = self.processes.gather(0 if examples is None else len(examples["indices"]))
                if first == 0 and not self.processes.is_main:
                    self.processes.wait()  # the main process measures latencies on a quiet machine
                measured = None if examples is None else self._measure(examples, sum(before[: self.processes.rank]))
                if first == 0 and self.processes.is_main:
                    self.processes.wait()
                for batch in self.processes.gather(measured):
                    if batch is not None:
                        self._keep(batch)
                progress.update(sum(len(batch) for batch in batches[first : first + count]))
        self.tally.finish()
        if self.processes.is_main:
            self._compare_sets()

    @property
    def _hidden(self) -> bool | None:
        return None if self.processes.is_main else True

    def _measure(self, examples: dict, before: int) -> "MeasuredBatch":
        """What one batch gives; `before` photos are measured beside it whose rows come first."""
        record = {
            "indices": examples["indices"].tolist(),
            "labels": examples["labels"].tolist(),
            "skipped": [list(photo) for photo in examples["skipped"]],
            "scores": {},
            "cost": {},
            "counts": {},
        }
        measured = MeasuredBatch(record)
        if examples["pixel_values"] is None:
            return measured
        pixels = examples["pixel_values"].to(self.pipeline.device)
        targets = pixels_to_uint8(pixels)
        opinions = self.judge.opinions(targets)
        batch = Batch(self.encode(pixels), targets, examples["indices"], examples["labels"], opinions)
        known = self.judge.true_label(opinions, batch.labels)
        pooled = opinions["sets"].features if "sets" in opinions else None
        measured.add(ORIGINALS, known, pooled, self._pictures_of(targets, len(self.original_pictures)), len(batch))
        for number, contender in enumerate(self.contenders):
            self._answer(number, contender, batch, before, measured)
        return measured

    def _answer(self, number: int, contender: Contender, batch: Batch, before: int, measured: "MeasuredBatch") -> None:
        key = str(number)
        if contender.max_images is not None:
            left = contender.max_images - len(contender.indices) - before
            batch = batch.first(max(0, min(len(batch), left)))
        if len(batch) == 0:
            return
        if contender.measure is not None and not contender.cost and self.processes.is_main:
            measured.record["cost"][key] = contender.measure(batch)
        images = contender.decode(batch)
        scores, pooled = self.judge(images, self.encode(uint8_to_pixels(images)), batch)
        if contender.sample is not None and self.settings.num_samples > 1:
            others = [contender.sample(batch, sample) for sample in range(1, self.settings.num_samples)]
            scores |= score_samples([images, *others], batch.targets, self.judge.scorer)
        measured.add(key, scores, pooled, self._pictures_of(images, len(contender.pictures)), len(batch))

    def _pictures_of(self, images: Tensor, kept: int) -> Tensor:
        """As many as the grid may still need."""
        return images[: max(0, self.settings.num_grid_images - kept)].cpu()

    def _keep(self, measured: "MeasuredBatch") -> None:
        """Count a batch; the main process writes it down, the record last."""
        shown = {ORIGINALS: self.original_pictures} | {str(n): c.pictures for n, c in enumerate(self.contenders)}
        for key, images in measured.pictures.items():
            for image in images[: max(0, self.settings.num_grid_images - len(shown[key]))]:
                if self.processes.is_main:
                    self.state.save_picture(key, len(shown[key]), to_pil(image))
                shown[key].append(to_pil(image))
        if self.processes.is_main:
            for key, features in measured.features.items():
                self.state.add_features(key, features)
            self.state.append(measured.record)
        self._take_over(measured.record)

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
