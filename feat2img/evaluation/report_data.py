"""Everything that the report of a comparison shows, as plain values."""

from dataclasses import dataclass, field

from ..data.photos import SkippedPhoto
from .decoding import format_steps
from .grid import Column


@dataclass
class ReportData:
    """Everything that a report shows; plain values, so that it can be stored as JSON and rendered again."""

    rows: list[dict]  # of results.json: pipelines, baselines, yardsticks
    pairs: list[dict] = field(default_factory=list)  # {a, b, metric, difference: a - b, low, high, num_images}
    per_image: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # label => metric => one per image
    labels: list[int] = field(default_factory=list)  # true class per image, -1 unknown
    class_names: list[str] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)  # row in the data set, per image
    columns: list[Column] = field(default_factory=list)  # the grid, originals first
    cases: dict[str, list[list[Column]]] = field(default_factory=dict)  # "best", "worst": per photo, original first
    curves: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)  # pipeline => scalar => points
    floors: dict[str, float] = field(default_factory=dict)  # "kid", "frechet": real against real
    notes: list[str] = field(default_factory=list)
    skipped: list[SkippedPhoto] = field(default_factory=list)  # photos that could not be read
    settings: dict[str, str] = field(default_factory=dict)


def label(row: dict) -> str:
    """What a contender is called beside others: its name, with the number of steps where it samples in steps."""
    if row["num_inference_steps"] is None:
        return row["name"]
    return f"{row['name']}, {format_steps(row['num_inference_steps'])}"
