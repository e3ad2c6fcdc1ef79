"""The model card beside a saved pipeline: what it is, how it was made, how good it is, and where it fails."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .. import __version__
from ..data.files import write_atomically
from .card_sections import (
    TRAINING_NAME,
    about_section,
    is_hub_data_set,
    licence_section,
    limits_section,
    parts_section,
    results_section,
    steps_text,
    training_section,
    use_section,
)

if TYPE_CHECKING:
    from .base import Feat2ImgPipeline

CARD_NAME = "README.md"
EVALUATION_NAME = "evaluation.json"  # what a comparison found, see `evaluation/card.py`
SAMPLES_NAME = "samples.jpg"  # photos above, reconstructions below
DOCUMENTS = (TRAINING_NAME, EVALUATION_NAME, SAMPLES_NAME)
OWN_CARD = "<!-- Written by feat2img, and written again with every save. Delete this line to keep your own text. -->"
# Settings that name places on the machine of the training; a card and an upload hold the last part of them only.
PLACES = (
    *("output_dir", "dataset_name", "feature_cache_dir", "encoder_weights", "resume_from_checkpoint"),
    *("init_from", "first_guess"),
)


def write_card(
    pipeline: "Feat2ImgPipeline", folder: str | Path, name: str | None = None, license: str | None = None
) -> None:
    """Write `README.md` of a saved pipeline; a card that was taken over by hand stays as it is.

    Args:
        folder: where the pipeline was saved, with `DOCUMENTS` where there are any.
        name: what `from_pretrained` will be given, "user/name" on the Hub.
        license: identifier of the Hub, such as "apache-2.0"; None keeps the one of the card that is there.
    """
    path = Path(folder) / CARD_NAME
    if path.is_file():
        content = path.read_text(encoding="utf-8", errors="replace")
        if not is_own_card(content):
            return
        license = license or _licence_of(content, path)
    write_atomically(path, str(make_card(pipeline, Path(folder), name, license)).encode())


def _licence_of(content: str, path: Path) -> str | None:
    try:
        return ModelCard(content, ignore_metadata_errors=True).data.get("license")
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} has damaged metadata between its lines ---; mend or remove it") from error


def is_own_card(content: str) -> bool:
    """Whether a card was written here and not changed by hand since."""
    return OWN_CARD in content


def carry_documents(origin: Path | None, folder: Path) -> None:
    """Bring card and documents of the folder that a pipeline was loaded from; leave none there of another pipeline."""
    if origin and (origin / CARD_NAME).is_file() and not (folder / CARD_NAME).exists():
        shutil.copyfile(origin / CARD_NAME, folder / CARD_NAME)
    for name in DOCUMENTS:
        target = folder / name
        source = origin / name if origin else None
        if source is not None and source.is_file():
            if not (target.exists() and target.samefile(source)):
                shutil.copyfile(source, target)
        else:
            target.unlink(missing_ok=True)


def hide_places(folder: Path) -> None:
    """Leave no paths of this machine in the documents of a folder that will be uploaded."""
    for name in (TRAINING_NAME, EVALUATION_NAME):
        content = _read(folder / name)
        if content is None:
            continue
        settings = content.get("config", content)
        for key in PLACES:
            if settings.get(key) and not is_hub_data_set(settings[key]):
                settings[key] = Path(settings[key]).name
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def make_card(
    pipeline: "Feat2ImgPipeline", folder: Path, name: str | None = None, license: str | None = None
) -> ModelCard:
    """The card as huggingface_hub's object; its sections come from what the folder holds."""
    training, evaluation = _read(folder / TRAINING_NAME), _read(folder / EVALUATION_NAME)
    title = (name or folder.resolve().name).split("/")[-1]
    try:
        return _make_card(pipeline, folder, name or title, title, license, training, evaluation)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{folder} holds a {TRAINING_NAME} or {EVALUATION_NAME} that feat2img did not write "
            f"({type(error).__name__}: {error}); remove it"
        ) from error


def _make_card(pipeline, folder: Path, name: str, title: str, license, training, evaluation) -> ModelCard:
    sections = [
        OWN_CARD,
        f"# {title}",
        about_section(pipeline),
        f"![Photographs above, their reconstructions below]({SAMPLES_NAME})" * (folder / SAMPLES_NAME).is_file(),
        use_section(pipeline, name),
        parts_section(pipeline, folder),
        training_section(training),
        results_section(evaluation),
        limits_section(pipeline, training),
        licence_section(pipeline, training, license),
        f"<sub>feat2img {__version__}</sub>",
    ]
    data = _metadata(pipeline, title, training, evaluation, license)
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(filter(None, sections)) + "\n")


def _metadata(pipeline, title: str, training: dict | None, evaluation: dict | None, license) -> ModelCardData:
    data_set = ((training or {}).get("config") or {}).get("dataset_name")
    options = {"license": license} if license else {}
    results = eval_results(evaluation) if evaluation else []
    if results:
        options |= {"model_name": title, "eval_results": results}
    if data_set and is_hub_data_set(data_set):
        options["datasets"] = [data_set]
    tags = ["feat2img", "diffusers", "feature-inversion", pipeline.kind]
    return ModelCardData(library_name="feat2img", pipeline_tag="image-to-image", tags=tags, **options)


def eval_results(evaluation: dict) -> list[EvalResult]:
    """The figures of a comparison in the form of the Hub's model-index."""
    data_set, found = evaluation["dataset"], []
    known = is_hub_data_set(data_set)
    for row in evaluation["rows"]:
        steps = row.get("num_inference_steps")
        for metric in row["metrics"]:
            found.append(
                EvalResult(
                    task_type="image-to-image",
                    dataset_type=data_set if known else "imagefolder",
                    dataset_name=data_set if known else Path(data_set).name,
                    dataset_split=evaluation.get("split"),
                    metric_type=metric["type"],
                    metric_name=metric["name"] + (f", {steps_text(steps)}" if steps else ""),
                    metric_value=round(metric["value"], 5),
                    metric_args={"num_inference_steps": steps} if steps else None,
                )
            )
    return found


def _read(path: Path) -> dict | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); remove it or write it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected an object; remove it or write it again")
    return content
