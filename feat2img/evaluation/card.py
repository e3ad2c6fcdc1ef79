"""What a model card shows that takes work: the figures of a comparison, and photos with their reconstructions."""

import io
import json
import math
from pathlib import Path

from PIL import Image

from ..pipelines import Feat2ImgPipeline
from ..pipelines.card import EVALUATION_NAME, SAMPLES_NAME
from .files import write_atomically
from .formatting import SETS, SHOWN
from .metrics import METRICS
from .reconstruct import Reconstruction, find_photos, reconstruct_photos

GAP = 4  # pixels between the pictures
MOST_SAMPLES = 8


def keep_figures(folder: str | Path, results: str | Path, name: str | None = None, dataset: str | None = None) -> Path:
    """Write the rows of a pipeline in `results.json` to `evaluation.json` in its folder, which the card shows.

    Args:
        folder: the pipeline's.
        results: `results.json` of `feat2img compare`, or the folder that holds it.
        name: of the pipeline in it; None: the folder's name.
        dataset: what the card calls the photos, where that is not what the comparison was given.

    Raises:
        ValueError: no such file or pipeline in it.
    """
    folder = Path(folder).expanduser()
    name = name or folder.resolve().name
    every = _read_rows(Path(results).expanduser())
    rows = [row for row in every if row.get("name") == name]
    if not rows:
        known = ", ".join(dict.fromkeys(str(row.get("name")) for row in every if row.get("kind") != "yardstick"))
        raise ValueError(f"{results} has no figures of {name}; name one of: {known}")
    first = rows[0]
    content = {
        "dataset": dataset or first["dataset"],
        "split": first["split"],
        "verifier": first["verifier"],
        "rows": [_figures(row) for row in rows],
    }
    path = folder / EVALUATION_NAME
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
    return path


def keep_samples(folder: str | Path, pipeline: Feat2ImgPipeline, photos: list[str]) -> Path:
    """Write `samples.jpg` to a pipeline's folder: the first eight photos above, their reconstructions below.

    Raises:
        ValueError: a photo cannot be read.
    """
    paths = find_photos(photos)[:MOST_SAMPLES]
    size, step = pipeline.image_size, pipeline.image_size + GAP
    grid = Image.new("RGB", (GAP + step * len(paths), GAP + 2 * step), "white")
    for index, result in reconstruct_photos(pipeline, paths):
        if not isinstance(result, Reconstruction):
            raise ValueError(f"photo {paths[index]} cannot be read: {result.reason}")
        for row, image in enumerate((result.original, result.image)):
            grid.paste(image.resize((size, size)), (GAP + step * index, GAP + step * row))
    path = Path(folder).expanduser() / SAMPLES_NAME
    content = io.BytesIO()
    grid.save(content, "jpeg", quality=90)
    write_atomically(path, content.getvalue())
    return path


def _read_rows(path: Path) -> list[dict]:
    path = path / "results.json" if path.is_dir() else path
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list) or not all(isinstance(row, dict) and "schema_version" in row for row in rows):
            raise ValueError("it holds no rows of a comparison")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no results.json of `feat2img compare` ({error})") from error
    return rows


def _figures(row: dict) -> dict:
    metrics = [
        {
            "type": metric,
            "name": METRICS[metric].title,
            "value": row[metric],
            "low": _finite(row.get(f"{metric}_low")),
            "high": _finite(row.get(f"{metric}_high")),
            "higher_is_better": METRICS[metric].higher_is_better,
            "digits": METRICS[metric].digits,
        }
        for metric in SHOWN
        if _finite(row.get(metric)) is not None
    ]
    metrics += [
        {"type": name, "name": title.split()[0], "value": row[name], "higher_is_better": False, "digits": digits}
        for name, (title, digits) in SETS.items()
        if _finite(row.get(name)) is not None
    ]
    return {"num_inference_steps": row["num_inference_steps"], "num_images": row["num_images"], "metrics": metrics}


def _finite(value) -> float | None:
    """A number that JSON and a card can hold; what was not measured and what is infinite is left out."""
    return value if isinstance(value, int | float) and math.isfinite(value) else None
