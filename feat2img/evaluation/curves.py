"""Training curves from the TensorBoard logs beside a pipeline."""

from pathlib import Path

MAX_POINTS = 400  # per curve, evenly chosen


def training_curves(pipeline_path: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Logged scalars of `<pipeline folder>/logs`: name => (step, value), oldest first.

    Empty without logs, and without the package tensorboard, which reads them.
    """
    logs = Path(pipeline_path).expanduser() / "logs"
    if not logs.is_dir():
        return {}
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        return {}
    points: dict[str, dict[int, float]] = {}
    for folder in sorted({path.parent for path in logs.rglob("events.out.tfevents.*")}):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        for name in events.Tags()["scalars"]:
            points.setdefault(name, {}).update({event.step: event.value for event in events.Scalars(name)})
    return {name: _thinned(sorted(values.items())) for name, values in points.items()}


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    if len(points) <= MAX_POINTS:
        return points
    places = [round(i * (len(points) - 1) / (MAX_POINTS - 1)) for i in range(MAX_POINTS)]
    return [points[place] for place in places]
