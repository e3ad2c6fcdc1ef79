"""The finished pipeline: complete in its folder, or not there."""

import json
import os
import shutil
from pathlib import Path

from ..pipelines import Feat2ImgPipeline
from ..pipelines.base import INDEX_NAME
from ..pipelines.card import CARD_NAME


def write_pipeline(pipeline: Feat2ImgPipeline, output_dir: Path, summary: dict) -> None:
    """Save a pipeline beside its place and move it in, its index last; `summary` becomes `training.json`.

    Without its index a folder is no pipeline, so that one that was cut off here is refused and never half loaded.
    """
    partial = output_dir / ".pipeline.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        pipeline.save_pretrained(partial)
        (partial / "training.json").write_text(json.dumps(summary, indent=2) + "\n")
        (output_dir / INDEX_NAME).unlink(missing_ok=True)
        (partial / CARD_NAME).unlink(missing_ok=True)  # one that people edited stays; see write_training_card
        for part in sorted(partial.iterdir(), key=lambda path: path.name == INDEX_NAME):  # the index last
            if part.is_dir():
                shutil.rmtree(output_dir / part.name, ignore_errors=True)
            os.replace(part, output_dir / part.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
