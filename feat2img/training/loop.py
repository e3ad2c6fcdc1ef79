"""The one training loop: from data and features to logs, samples, checkpoints and a finished pipeline."""

import dataclasses
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, get_int_from_env, set_seed
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from ..data import ImageTransform, PhotoDataset, SkipTally, load_photos
from ..data.files import only_user_of
from ..features import CachedPhotoDataset, TimmFeatureEncoder, build_feature_cache
from ..memory import keep_freed_memory
from .accelerator import make_accelerator, precision_notice, settle_precision, start_trackers
from .checkpoints import all_finite, find_checkpoint, save_checkpoint, tidy_checkpoints
from .config import GANConfig, TrainingConfig
from .diffusion import DiffusionTask
from .examples import EndlessBatches, ExampleNoise, endless_loader
from .export import write_pipeline
from .failures import GO_ON, Diverged, one_line_failures
from .gan import GANTask
from .logs import TrainingLog
from .publish import prepare_hub, push, write_training_card
from .resuming import check_resumable, refuse_to_start_over, take_up
from .samples import SampleGrid
from .schedule import Progress, learning_rate
from .stopping import StopRequest
from .streaming import streamed_batches
from .task import TrainingTask

STATISTICS_IMAGES = 1024  # per-channel statistics of the features come from so many training images


def train(config: TrainingConfig) -> Path:
    """Train a decoder and write the finished pipeline to `config.output_dir`; returns that folder.

    SIGTERM and Ctrl-C save a checkpoint and return; before the first step they return at once. The process keeps the
    memory that it frees (`keep_freed_memory`).

    Raises:
        ValueError: bad settings, data or checkpoint, an output folder in use, a loss that is not finite, and what
            the disk, the memory and data workers raise; one line that says what is safe.
    """
    output_dir = Path(config.output_dir)
    if output_dir.is_file():
        raise ValueError(f"output_dir {output_dir} is a file; give a folder")
    keep_freed_memory()
    with StopRequest() as stop, one_line_failures(output_dir):
        try:
            with only_user_of(output_dir) if is_first_process() else nullcontext():
                run = make_run(config, stop)
                run.resume()
                stop.waits = True
                run.run()
                run.accelerator.end_training()
        except KeyboardInterrupt:
            if stop.signal is None or stop.waits:
                raise
            print(
                f"stopped by {stop.signal.name} before the first step; start again with the same command", flush=True
            )
    return output_dir


def is_first_process() -> bool:
    """Before accelerate is set up, by the variables that it reads."""
    return get_int_from_env(["RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK"], 0) == 0


def make_run(config: TrainingConfig, stop: StopRequest | None = None) -> "TrainingRun":
    """Everything that a configuration names, put together but not begun. Raises ValueError as `train` does."""
    output_dir = Path(config.output_dir)
    config = settle_precision(config)
    accelerator = make_accelerator(config, output_dir)
    if notice := precision_notice(accelerator):
        accelerator.print(notice, flush=True)
    set_seed(config.seed)
    if config.push_to_hub and accelerator.is_main_process:
        prepare_hub(config)
    output_dir.mkdir(parents=True, exist_ok=True)
    with accelerator.main_process_first():
        if accelerator.is_main_process:
            tidy_checkpoints(output_dir)
    refuse_to_start_over(config, output_dir)
    encoder = make_encoder(config).to(accelerator.device)
    task = (GANTask if isinstance(config, GANConfig) else DiffusionTask)(config, encoder, accelerator)
    task.prepare()
    return TrainingRun(config, task, accelerator, output_dir, stop or StopRequest())


def make_encoder(config: TrainingConfig) -> TimmFeatureEncoder:
    """The frozen encoder that a configuration names."""
    return TimmFeatureEncoder.from_timm(
        config.encoder,
        config.encoder_layers,
        config.image_size,
        weights=config.encoder_weights,
        pretrained=not config.encoder_random_weights,
    )


class TrainingRun:
    """One run of a task from its first or resumed step to the exported pipeline."""

    def __init__(
        self,
        config: TrainingConfig,
        task: TrainingTask,
        accelerator: Accelerator,
        output_dir: Path,
        stop: StopRequest,
    ):
        self.config, self.task, self.accelerator, self.output_dir = config, task, accelerator, output_dir
        self.images_seen = 0
        self.log = TrainingLog(accelerator)
        self.stop = stop  # what this process received
        self.stopped = False  # whether any process received a signal
        self.share = 0.0  # of the run that is done, the same on all processes
        self.saved_step: int | None = None
        self.grid = SampleGrid(config, task, accelerator, output_dir)  # first: it fails at once on a missing split
        self.examples = self.make_examples()
        self.tally = SkipTally(config.max_skipped_share, self.num_examples, min_seen=100 if config.streaming else 0)
        self.progress = Progress(self.max_steps(), config.max_train_minutes)

    # data

    def make_examples(self) -> Dataset | None:
        """The training examples, from the cache where there is one; None for a streaming data set."""
        config = self.config
        if config.streaming:
            return None
        photos = load_photos(
            config.dataset_name, config.train_split, size=config.dataset_size, num_images=config.max_train_samples
        )
        cached = config.feature_cache_dir is not None
        transform = ImageTransform(
            config.image_size, config.resize_size, config.random_crop, config.random_flip and not cached
        )
        dataset = PhotoDataset(photos, transform)
        if not cached:
            return dataset
        with self.accelerator.main_process_first():
            cache = build_feature_cache(
                self.task.encoder,
                dataset,
                config.feature_cache_dir,
                flips=config.random_flip,
                num_workers=config.dataloader_num_workers,
                autocast_dtype=torch.bfloat16 if self.accelerator.mixed_precision == "bf16" else None,
                max_skipped_share=config.max_skipped_share,
            )
        return CachedPhotoDataset(dataset, cache, random_flip=config.random_flip)

    @property
    def num_examples(self) -> int | None:
        return None if self.examples is None else len(self.examples)

    def max_steps(self) -> int | None:
        config = self.config
        if config.max_train_steps is not None or config.streaming:
            return config.max_train_steps
        batches = len(self.examples) // (config.train_batch_size * self.accelerator.num_processes)
        return max(1, config.num_train_epochs * batches // config.gradient_accumulation_steps)

    def loader(self, first_batch: int):
        """Batches without end, from the given one on."""
        config, accelerator = self.config, self.accelerator
        if config.streaming:
            return streamed_batches(config, first_batch, accelerator.process_index, accelerator.num_processes)
        batches = EndlessBatches(
            len(self.examples), config.train_batch_size, config.seed,
            accelerator.process_index, accelerator.num_processes, first_batch,
        )  # fmt: skip
        return endless_loader(self.examples, batches, config.dataloader_num_workers)

    @torch.no_grad()
    def features_of(self, batch: dict) -> torch.Tensor:
        device = self.accelerator.device
        if "features" in batch:
            return batch["features"].to(device, torch.float32)
        with self.accelerator.autocast():
            return self.task.encoder(batch["pixel_values"].to(device)).float()

    # life cycle

    def resume(self) -> None:
        """Take up a checkpoint if the configuration asks for one, else compute the feature statistics."""
        config = self.config
        wanted = config.resume_from_checkpoint
        path = find_checkpoint(self.output_dir, wanted) if wanted else None
        if path is None:
            if wanted:
                self.say(f"{self.output_dir} holds no checkpoint yet, starting from the first step")
            if self.task.stitching is not None or not config.init_from:  # whose weights come with their statistics
                self.compute_statistics()
            return
        changes = check_resumable(path, config, self.accelerator.num_processes, self.num_examples)
        if changes:
            self.say(f"from here on with other settings: {'; '.join(changes)}")
        self.task.stitching = None  # the checkpoint's first layer is fitted
        step, info = take_up(path, self.states())
        if self.task.ema is not None:
            self.task.ema.to(self.accelerator.device)
        self.images_seen = info["images_seen"]
        if self.accelerator.is_main_process:
            self.tally.load(info.get("tally", {}))
        self.progress = Progress(self.progress.max_steps, config.max_train_minutes, step, info["minutes"])
        self.say(f"resumed from {path}")

    @property
    def global_batch(self) -> int:
        return self.config.train_batch_size * self.accelerator.num_processes

    def compute_statistics(self) -> None:
        config = self.config
        batches = -(-STATISTICS_IMAGES // config.train_batch_size)
        if self.examples is not None:
            batches = min(batches, max(1, len(self.examples) // config.train_batch_size))
        # every process reads the same images, so that all get the same statistics
        loader = streamed_batches(config, 0) if config.streaming else endless_loader(
            self.examples, EndlessBatches(len(self.examples), config.train_batch_size, config.seed), 0
        )  # fmt: skip
        first = islice(loader, batches)
        shown = tqdm(first, desc="feature statistics", total=batches, disable=self.hidden, leave=False)
        self.task.set_statistics((self.features_of(batch), batch["pixel_values"]) for batch in shown)

    @property
    def hidden(self) -> bool | None:
        """tqdm's `disable`: on other processes, and (None) where the output is no terminal."""
        return None if self.accelerator.is_main_process else True

    def run(self) -> None:
        config, progress = self.config, self.progress
        if progress.share >= 1 and progress.step:
            self.say("the run is already complete")
        if config.report_to != "none":
            start_trackers(self.accelerator, _plain(config))
        bar = tqdm(total=progress.max_steps, initial=progress.step, desc="steps", disable=self.hidden)
        try:
            for batch in self.loader(progress.step * config.gradient_accumulation_steps):
                if self.over() or not self.optimise(batch):
                    break
                bar.update(self.accelerator.sync_gradients)
                if self.accelerator.sync_gradients:
                    self.after_step(bar)
            self.write_log(bar)
        finally:
            bar.close()
        self.finish()

    def over(self) -> bool:
        """Whether to stop, between optimiser steps, decided for all processes at once: clocks and signals differ."""
        if not self.accelerator.sync_gradients:
            return False
        asked = self.stop.signal is not None
        if self.accelerator.num_processes > 1:
            share = self.progress.share if self.accelerator.is_main_process else 0.0
            both = torch.tensor([share, float(asked)], dtype=torch.float64, device=self.accelerator.device)
            self.share, asked = self.accelerator.reduce(both, reduction="sum").tolist()
        else:
            self.share = self.progress.share
        self.stopped = bool(asked)
        return self.stopped or self.share >= 1

    def optimise(self, batch: dict) -> bool:
        """One micro-batch; returns False when the data have run out."""
        config, accelerator, progress = self.config, self.accelerator, self.progress
        self.tally.add(batch)
        pixels = batch["pixel_values"]
        if pixels is None:
            return False
        share = self.share
        for optimizer, base in self.task.optimizers().values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, base, progress.step, share)
        first = self.images_seen + accelerator.process_index * config.train_batch_size
        noise = ExampleNoise(config.seed, first, len(pixels), accelerator.device)
        features = self.features_of(batch)
        with accelerator.accumulate(*self.task.wrapped_models()):
            logs = self.task.step(pixels.to(accelerator.device), features, noise, share)
        self.images_seen += self.global_batch
        self.log.add(logs, progress.step + 1)
        return True

    def after_step(self, bar: tqdm) -> None:
        """What follows an optimiser step: EMA, logs, samples, checkpoints."""
        config, progress = self.config, self.progress
        self.task.update_ema()
        progress.step += 1
        saves = progress.step % config.checkpointing_steps == 0
        shows = progress.step % config.validation_steps == 0
        if saves or shows or progress.step % config.logging_steps == 0:
            self.write_log(bar)  # before saving: it stops the run when a loss is not finite
        if saves:
            self.save()
        if shows:
            self.grid.save(progress.step)

    def write_log(self, bar: tqdm) -> None:
        rate = next(iter(self.task.optimizers().values()))[0].param_groups[0]["lr"]
        self.log.write(self.progress.step, self.images_seen, self.progress.minutes, rate, bar)

    def states(self) -> dict:
        """Everything a checkpoint holds, by name; each has `state_dict` and `load_state_dict`."""
        states = dict(self.task.models())
        for name, (optimizer, _) in self.task.optimizers().items():
            states[name] = getattr(optimizer, "optimizer", optimizer)
        if self.accelerator.scaler is not None:
            states["scaler"] = self.accelerator.scaler
        if self.task.ema is not None:
            states["ema"] = self.task.ema
        return states

    def save(self) -> None:
        """Write a checkpoint, by the main process, unless this step's is there. Raises Diverged for broken weights."""
        step = self.progress.step
        if self.saved_step == step:
            return
        tally = self.whole_tally()
        if self.accelerator.is_main_process:
            info = {
                "config": dataclasses.asdict(self.config),
                "images_seen": self.images_seen,
                "minutes": self.progress.minutes,
                "num_processes": self.accelerator.num_processes,
                "num_examples": self.num_examples,
                "tally": tally.state(),
            }
            states = {name: target.state_dict() for name, target in self.states().items()}
            for name, state in states.items():
                if not all_finite(state):
                    raise Diverged(f"the {name}'s state holds NaN or infinity at step {step}")
            save_checkpoint(self.output_dir, step, states, info, self.config.checkpoints_total_limit)
        self.saved_step = step
        self.accelerator.wait_for_everyone()

    def whole_tally(self) -> SkipTally:
        """All processes' skipped photos; every process must call it."""
        if self.accelerator.num_processes == 1:
            return self.tally
        whole = SkipTally(self.config.max_skipped_share, self.num_examples)
        for part in gather_object([self.tally.state()]):
            whole.load(part)
        return whole

    def finish(self) -> None:
        """Save; export unless the run was asked to stop."""
        self.save()
        if self.stopped:
            name = self.stop.signal.name if self.stop.signal else "a signal to another process"
            self.say(f"stopped by {name} at step {self.progress.step}; go on with {GO_ON}")
            return
        self.grid.save(self.progress.step)
        tally = self.whole_tally()
        if self.accelerator.is_main_process:
            self.export(tally)
        self.accelerator.wait_for_everyone()

    def export(self, tally: SkipTally) -> None:
        """Write the pipeline with the EMA's weights, and `training.json` beside it."""
        config = self.config
        if self.task.ema is not None:
            self.task.ema.copy_to(self.accelerator.unwrap_model(self.task.decoder).parameters())
        pipeline = self.task.pipeline().to("cpu")
        for component in pipeline.components.values():
            if isinstance(component, torch.nn.Module):  # nn.Module's own `to`: diffusers' warns at any data type
                torch.nn.Module.to(component, getattr(torch, config.export_dtype))
        summary = {
            "config": dataclasses.asdict(config),
            "steps": self.progress.step,
            "images_seen": self.images_seen,
            "minutes": round(self.progress.minutes, 2),
            "device": self.device_name(),
            "num_processes": self.accelerator.num_processes,
            "skipped_photos": {photo.name: photo.reason for photo in tally.photos.values()},
        }
        write_pipeline(pipeline, self.output_dir, summary)
        write_training_card(pipeline, self.output_dir, self.grid.latest, config.hub_license)
        self.say(f"pipeline saved to {self.output_dir} ({tally.summary()})")
        if config.push_to_hub:
            self.say(f"uploaded: {push(config)}")

    def device_name(self) -> str:
        device = self.accelerator.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

    def say(self, message: str) -> None:
        if self.accelerator.is_main_process:
            print(message, flush=True)


def _plain(config: TrainingConfig) -> dict:
    """The configuration with tuples and None as text, as trackers want it."""
    values = dataclasses.asdict(config)
    return {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in values.items()}
