"""What makes a finished pipeline presentable: its card, and its place on the Hub."""

from pathlib import Path

from PIL import Image

from ..pipelines import Feat2ImgPipeline
from ..pipelines.card import EVALUATION_NAME, SAMPLES_NAME, write_card
from ..pipelines.hub import make_repository
from .config import TrainingConfig


def write_training_card(
    pipeline: Feat2ImgPipeline, output_dir: Path, samples: Image.Image | None, license: str | None
) -> None:
    """The card of a pipeline that was just trained and saved; figures of earlier weights in its folder go.

    Args:
        samples: photos above, their reconstructions below.
    """
    (output_dir / EVALUATION_NAME).unlink(missing_ok=True)
    if samples is not None:
        samples.save(output_dir / SAMPLES_NAME, quality=90)
    write_card(pipeline, output_dir, license=license)


def prepare_hub(config: TrainingConfig) -> None:
    """Make the repository of a run now: a missing token should show before hours of training, not after."""
    make_repository(hub_name(config), config.hub_private, None)


def push(config: TrainingConfig) -> str:
    """Upload what a run wrote and return the commit's address.

    Raises:
        ValueError: the Hub refuses or fails; the folder stays, and the message says how to try again.
    """
    name, pipeline = hub_name(config), Feat2ImgPipeline.from_pretrained(config.output_dir)
    try:
        return pipeline.push_to_hub(name, private=config.hub_private, license=config.hub_license)
    except ValueError as error:
        raise ValueError(f"{error}; try again with `feat2img push {config.output_dir} {name}`") from error


def hub_name(config: TrainingConfig) -> str:
    """The repository that a run is uploaded to."""
    return config.hub_model_id or Path(config.output_dir).resolve().name
