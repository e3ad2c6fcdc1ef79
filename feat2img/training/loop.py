"""The one training loop: from data and features to logs, samples, checkpoints and a finished pipeline."""

import dataclasses
import json
import signal
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from ..data import ImageTransform, PhotoDataset, SkipTally, load_photos
from ..features import CachedPhotoDataset, TimmFeatureEncoder, build_feature_cache
from ..pipelines.card import TRAINING_NAME
from .accelerator import make_accelerator, start_trackers
from .checkpoints import find_checkpoint, load_checkpoint, save_checkpoint
from .config import GANConfig, TrainingConfig, changed_fields
from .diffusion import DiffusionTask
from .examples import EndlessBatches, ExampleNoise, endless_loader
from .gan import GANTask
from .logs import TrainingLog
from .publish import prepare_hub, push, write_training_card
from .samples import SampleGrid
from .schedule import Progress, learning_rate
from .streaming import streamed_batches
from .task import TrainingTask

STATISTICS_IMAGES = 1024  # per-channel statistics of the features come from so many training images


def train(config: TrainingConfig) -> Path:
    """Train a decoder and write the finished pipeline to `config.output_dir`; returns that folder.

    Raises:
        ValueError: bad settings, data or checkpoint, or a loss that is not finite.
    """
    run = make_run(config)
    run.resume()
    run.run()
    run.accelerator.end_training()
    return run.output_dir


def make_run(config: TrainingConfig) -> "TrainingRun":
    """Everything that a configuration names, put together but not begun. Raises ValueError as `train` does."""
    output_dir = Path(config.output_dir)
    if output_dir.is_file():
        raise ValueError(f"output_dir {output_dir} is a file; give a folder")
    accelerator = make_accelerator(config, output_dir)
    set_seed(config.seed)
    if config.push_to_hub and accelerator.is_main_process:
        prepare_hub(config)
    output_dir.mkdir(parents=True, exist_ok=True)
    encoder = make_encoder(config).to(accelerator.device)
    task = (GANTask if isinstance(config, GANConfig) else DiffusionTask)(config, encoder, accelerator)
    task.prepare()
    return TrainingRun(config, task, accelerator, output_dir)


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

    def __init__(self, config: TrainingConfig, task: TrainingTask, accelerator: Accelerator, output_dir: Path):
        self.config, self.task, self.accelerator, self.output_dir = config, task, accelerator, output_dir
        self.tally = SkipTally(config.max_skipped_share)
        self.images_seen = 0
        self.log = TrainingLog(accelerator)
        self.stop_signal: int | None = None  # what this process received
        self.stopped = False  # whether any process received one
        self.grid = SampleGrid(config, task, accelerator, output_dir)  # first: it fails at once on a missing split
        self.examples = self.make_examples()
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

    def max_steps(self) -> int | None:
        config = self.config
        if config.max_train_steps or config.streaming:
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
            if not config.init_from:  # whose weights come with theirs
                self.compute_statistics()
            return
        step, states, info = load_checkpoint(path)
        changes = changed_fields(config, info["config"])
        if changes:
            raise ValueError(f"{path} was written with other settings ({'; '.join(changes)}); resume with the same")
        if info["num_processes"] * info["config"]["train_batch_size"] != self.global_batch:
            raise ValueError(f"{path} was trained with {info['num_processes']} processes; resume with as many")
        targets = self.states()
        if set(targets) != set(states):
            raise ValueError(
                f"{path} holds {sorted(states)}, expected {sorted(targets)}; resume with the same decoder"
            )
        for name, state in states.items():
            targets[name].load_state_dict(state)
        if self.task.ema is not None:
            self.task.ema.to(self.accelerator.device)
        self.images_seen = info["images_seen"]
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
        self.task.set_statistics(self.features_of(batch) for batch in shown)

    @property
    def hidden(self) -> bool | None:
        """tqdm's `disable`: on other processes, and (None) where the output is no terminal."""
        return None if self.accelerator.is_main_process else True

    def run(self) -> None:
        config, progress = self.config, self.progress
        if progress.share >= 1:
            self.say("the run is already complete")
        if config.report_to != "none":
            start_trackers(self.accelerator, _plain(config))
        previous = {number: signal.signal(number, self.request_stop) for number in (signal.SIGINT, signal.SIGTERM)}
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
            for number, handler in previous.items():
                signal.signal(number, handler)
        self.finish()

    def over(self) -> bool:
        """Whether to stop, between optimiser steps, decided for all processes at once: clocks and signals differ."""
        if not self.accelerator.sync_gradients:
            return False
        over = torch.tensor([float(self.progress.share >= 1), float(self.stop_signal is not None)])
        if self.accelerator.num_processes > 1:
            over = self.accelerator.reduce(over.to(self.accelerator.device), reduction="sum")
        self.stopped = bool(over[1] > 0)
        return bool((over > 0).any())

    def request_stop(self, number: int, frame) -> None:
        self.stop_signal = number

    def optimise(self, batch: dict) -> bool:
        """One micro-batch; returns False when the data have run out."""
        config, accelerator, progress = self.config, self.accelerator, self.progress
        self.tally.add(batch)
        pixels = batch["pixel_values"]
        if pixels is None:
            return False
        share = progress.share
        for optimizer, base in self.task.optimizers().values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, base, progress.step, share)
        micro_batch = self.images_seen // self.global_batch
        first = accelerator.process_index * config.train_batch_size
        noise = ExampleNoise(config.seed, micro_batch, first, len(pixels), accelerator.device)
        features = self.features_of(batch)
        with accelerator.accumulate(*self.task.wrapped_models()):
            logs = self.task.step(pixels.to(accelerator.device), features, noise, share)
        self.images_seen += self.global_batch
        self.log.add(logs)
        return True

    def after_step(self, bar: tqdm) -> None:
        """What follows an optimiser step: EMA, logs, samples, checkpoints."""
        config, progress = self.config, self.progress
        self.task.update_ema()
        progress.step += 1
        saves = progress.step % config.checkpointing_steps == 0
        if saves or progress.step % config.logging_steps == 0:
            self.write_log(bar)  # before saving: it stops the run when a loss is not finite
        if progress.step % config.validation_steps == 0:
            self.grid.save(progress.step)
        if saves:
            self.save()

    def write_log(self, bar: tqdm) -> None:
        rate = next(iter(self.task.optimizers().values()))[0].param_groups[0]["lr"]
        self.log.write(self.progress.step, self.images_seen, self.progress.minutes, rate, bar)

    def states(self) -> dict:
        """Everything a checkpoint holds, by name; each has `state_dict` and `load_state_dict`."""
        states = dict(self.task.models())
        for name, (optimizer, _) in self.task.optimizers().items():
            states[name] = getattr(optimizer, "optimizer", optimizer)
        if self.task.ema is not None:
            states["ema"] = self.task.ema
        return states

    def save(self) -> None:
        """Write a checkpoint, by the main process."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            info = {
                "config": dataclasses.asdict(self.config),
                "images_seen": self.images_seen,
                "minutes": self.progress.minutes,
                "num_processes": self.accelerator.num_processes,
            }
            states = {name: target.state_dict() for name, target in self.states().items()}
            limit = self.config.checkpoints_total_limit
            save_checkpoint(self.output_dir, self.progress.step, states, info, limit)
        self.accelerator.wait_for_everyone()

    def finish(self) -> None:
        """Save; export unless the run was asked to stop."""
        self.save()
        if self.stopped:
            name = signal.Signals(self.stop_signal).name if self.stop_signal else "a signal to another process"
            self.say(f"stopped by {name} at step {self.progress.step}; go on with --resume_from_checkpoint latest")
            return
        self.grid.save(self.progress.step)
        if self.accelerator.is_main_process:
            self.export()
        self.accelerator.wait_for_everyone()

    def export(self) -> None:
        """Write the pipeline with the EMA's weights, and `training.json` beside it."""
        config = self.config
        if self.tally.num_seen:
            self.tally.finish()
        if self.task.ema is not None:
            self.task.ema.copy_to(self.accelerator.unwrap_model(self.task.decoder).parameters())
        pipeline = self.task.pipeline().to("cpu")
        for component in pipeline.components.values():
            if isinstance(component, torch.nn.Module):  # nn.Module's own `to`: diffusers' warns at any data type
                torch.nn.Module.to(component, getattr(torch, config.export_dtype))
        pipeline.save_pretrained(self.output_dir)
        summary = {
            "config": dataclasses.asdict(config),
            "steps": self.progress.step,
            "images_seen": self.images_seen,
            "minutes": round(self.progress.minutes, 2),
            "device": self.device_name(),
            "num_processes": self.accelerator.num_processes,
        }
        (self.output_dir / TRAINING_NAME).write_text(json.dumps(summary, indent=2) + "\n")
        write_training_card(pipeline, self.output_dir, self.grid.latest, config.hub_license)
        self.say(f"pipeline saved to {self.output_dir} ({self.tally.summary()})")
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
