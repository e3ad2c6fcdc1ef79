"""Compare pipelines on the same photos: scores with intervals, cost, pictures, all that a report shows."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import datasets
import torch
from torch import nn

from .. import __version__
from ..data.files import only_user_of
from ..data.photos import PhotoDataset, collate_photos
from ..data.pixels import ImageTransform, pixels_to_uint8
from ..pipelines import Feat2ImgPipeline
from .contender import Batch
from .curves import training_curves
from .decoding import load_pipeline, resolve_device, unique_names
from .entrants import baseline_contenders, load_photos_for, pipeline_contenders, yardstick_contenders
from .grid import Column, to_pil
from .judge import Judge
from .passes import ComparisonPass, best_and_worst
from .photos import class_names_of
from .processes import Processes
from .report_data import ReportData
from .settings import CompareSettings
from .state import PassState, state_folder
from .summary import in_order, label_of, make_notes, make_pairs, make_rows
from .verifier import state_hash

NUM_CASES = 4  # best and worst photos in the report
UNIMPORTANT = ("num_workers",)  # settings that change no figure


def compare_pipelines(
    paths: list[str], settings: CompareSettings, state_dir: str | Path | None = None
) -> ReportData | None:
    """Reconstruct the same photos with every pipeline, score and time the results.

    Pipelines are loaded one after the other, and every batch is scored and dropped, so memory depends neither on the
    number of pipelines nor on that of the photos. The noise for a photo depends on `seed` and the photo's index alone.

    Started by `torchrun`, several processes share the work and find the figures that one finds, but for latencies.

    Args:
        paths: folders or Hub names of pipelines.
        state_dir: where finished batches are kept; with the same settings, pipelines and photos a run goes on from
            there. None keeps nothing. See `state.discard_state`.

    Returns:
        What a report shows; None on all but the main process.

    Raises:
        ValueError: for settings, pipelines or data that cannot be used, and a `state_dir` that another process is
            using; the message says which.
    """
    if not paths:
        raise ValueError("nothing to compare: name at least one pipeline")
    processes = Processes.of_this_run()
    device = processes.device(resolve_device(settings.device))
    # a broken one shows now, not after a download or after the others have run for an hour
    hashes = [_weights(load_pipeline(path, torch.device("cpu"), "float32", settings.scheduler)) for path in paths]
    photos = load_photos_for(settings, settings.split, settings.num_images)
    class_names = class_names_of(photos)
    judge = Judge(device, class_names, settings.verifier, settings.verifier_weights, settings.distribution_network)
    names = unique_names(paths)
    with _kept(state_dir, processes) as parent:
        folder = state_folder(parent, _describe(settings, device, names, hashes, photos, judge))
        passes, seen = [], set()
        for number, (path, name) in enumerate(zip(paths, names, strict=True)):
            pipeline = load_pipeline(path, device, settings.dtype, settings.scheduler)
            if not processes.is_main:
                processes.wait()  # the main process puts right what a run that was killed has left
            passes.append(
                _make_pass(
                    pipeline, name, judge, settings, folder / f"pipeline-{number}", seen, processes, len(photos)
                )
            )
            if processes.is_main:
                processes.wait()
            passes[-1].run(photos)
            passes[-1].release()
    return _report_data(paths, settings, photos, judge, passes, class_names) if processes.is_main else None


@contextmanager
def _kept(state_dir: str | Path | None, processes: Processes) -> Iterator[Path]:
    if state_dir is not None:
        with only_user_of(Path(state_dir)) if processes.is_main else nullcontext():
            yield Path(state_dir)
        return
    with tempfile.TemporaryDirectory(prefix="feat2img-") as folder:
        yield Path(folder)


def _make_pass(
    pipeline: Feat2ImgPipeline,
    name: str,
    judge: Judge,
    settings: CompareSettings,
    folder: Path,
    seen: set,
    processes: Processes,
    num_photos: int,
) -> ComparisonPass:
    """The pipeline's contenders, with baselines and yardsticks for the first pipeline of its kind of features."""
    contenders = pipeline_contenders(pipeline, name, settings)
    key = _encoder_key(pipeline)
    if settings.baselines and key not in seen:
        suffix = f" (for {name})" if seen else ""
        contenders += baseline_contenders(pipeline, suffix, settings, folder / "training-features")
        contenders += yardstick_contenders(pipeline, suffix, settings)
    seen.add(key)
    state = PassState(folder)
    return ComparisonPass(pipeline, name, contenders, judge, settings, state, num_photos, processes)


def _encoder_key(pipeline: Feat2ImgPipeline) -> tuple:
    layers = tuple(pipeline.encoder.config["layers"])
    return pipeline.encoder.weights_hash(), layers, pipeline.image_size, pipeline.resize_size


def _weights(pipeline: Feat2ImgPipeline) -> dict:
    """What decides a pipeline's images, as plain JSON."""
    parts = {name: part for name, part in pipeline.components.items() if part is not None}
    return {
        name: [state_hash(part) if isinstance(part, nn.Module) else "", dict(getattr(part, "config", {}))]
        for name, part in parts.items()
    } | {"pipeline": dict(pipeline.config)}


def _describe(settings: CompareSettings, device, names: list[str], hashes: list, photos, judge: Judge) -> dict:
    """Everything that changes the results, so that only the same run is gone on with."""
    training = None
    if settings.baselines:
        training = load_photos_for(settings, settings.baseline_split, settings.baseline_images)._fingerprint
    return {
        "settings": {name: value for name, value in asdict(settings).items() if name not in UNIMPORTANT},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "pipelines": list(zip(names, hashes, strict=True)),
        "photos": [photos._fingerprint, training],
        "judge": judge.describe(),
        "versions": [__version__, *(version(name) for name in ("torch", "diffusers", "timm", "torchmetrics"))],
    }


def _report_data(
    paths: list[str],
    settings: CompareSettings,
    photos: datasets.Dataset,
    judge: Judge,
    passes: list[ComparisonPass],
    class_names: list[str],
) -> ReportData:
    contenders, first = in_order(passes), passes[0]
    rows = make_rows(contenders, judge)
    for row in rows:
        row["num_skipped"] = len(first.skipped)
    shown = min(len(contender.pictures) for contender in contenders)
    columns = [first.originals(), *(contender.column() for contender in contenders)]
    return ReportData(
        rows=rows,
        pairs=make_pairs(contenders),
        per_image={label_of(c): dict(c.scores) for c in contenders if len(c.indices) == len(first.indices)},
        labels=first.labels,
        class_names=class_names,
        indices=first.indices,
        columns=[column._replace(images=column.images[:shown]) for column in columns],
        cases=_cases(paths, settings, photos, passes),
        curves={one.name: training_curves(path) for one, path in zip(passes, paths, strict=True)},
        floors=first.floors,
        notes=make_notes(passes, judge),
        skipped=first.skipped,
    )


@torch.no_grad()
def _cases(
    paths: list[str], settings: CompareSettings, photos: datasets.Dataset, passes: list[ComparisonPass]
) -> dict[str, list[list[Column]]]:
    """The photos that went best and worst over all pipelines, decoded once more: per photo one column each."""
    best, worst = best_and_worst(passes, NUM_CASES)
    chosen = [passes[0].indices[place] for place in (*best, *worst)]
    cases: list[list[Column]] = [[] for _ in chosen]
    if not chosen:
        return {"best": [], "worst": []}
    for path, one in zip(paths, passes, strict=True):
        pipeline = load_pipeline(path, resolve_device(settings.device), settings.dtype, settings.scheduler)
        dataset = PhotoDataset(photos, ImageTransform(pipeline.image_size, pipeline.resize_size))
        examples = collate_photos([dataset[index] for index in chosen])
        pixels = examples["pixel_values"].to(pipeline.device)
        targets = pixels_to_uint8(pixels)
        features = pipeline.encode(pixels.to(pipeline.dtype))
        batch = Batch(features, targets, examples["indices"], examples["labels"])
        columns = [] if one is not passes[0] else [Column("original", f"{pipeline.image_size} px", list(targets))]
        for contender in pipeline_contenders(pipeline, one.name, settings):
            columns.append(contender.column()._replace(images=list(contender.decode(batch))))
        for case, place in zip(cases, range(len(chosen)), strict=True):
            case += [column._replace(images=[to_pil(column.images[place])]) for column in columns]
    return {"best": cases[: len(best)], "worst": cases[len(best) :]}
