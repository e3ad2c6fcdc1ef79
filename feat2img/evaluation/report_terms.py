"""How a report names, orders and writes metrics, and which of two values is better."""

import math

from .formatting import ARROWS, format_figures, format_number
from .metrics import METRICS, Metric
from .report_data import label

SET_METRICS = {
    "kid": Metric("KID", False, 4, "Kernel distance between the features of all originals and all reconstructions."),
    "frechet": Metric("Frechet distance", False, 1, "Distance between Gaussians fitted to the features of both sets."),
}
MAIN = (
    *("lpips", "verifier_top1", "feature_cosine", "pixel_accuracy", "psnr", "ssim", "sharpness"),
    *("kid", "frechet"),
)
SHARES = {"pixel_accuracy", "verifier_top1", "verifier_top5", "true_label_top1"}  # in [0, 1], shown in percent
REFERENCES = ("baseline", "yardstick")


def metric_of(name: str) -> Metric:
    """How a metric of images or of sets is shown."""
    return METRICS.get(name) or SET_METRICS[name]


def measured(rows: list[dict], names: tuple[str, ...] | None = None) -> list[str]:
    """The metrics that at least one row has, in the order of `names` (of METRICS, then of sets)."""
    known = {**METRICS, **SET_METRICS}
    return [n for n in names or tuple(known) if n in known and any(row.get(n) is not None for row in rows)]


def arrow(name: str) -> str:
    """The direction of better: up, down, or towards 1."""
    return ARROWS[metric_of(name).higher_is_better]


def direction(name: str) -> str:
    """The direction of better in words."""
    words = {True: "higher is better", False: "lower is better", None: "nearer to 1 is better"}
    return words[metric_of(name).higher_is_better]


def badness(name: str, value: float) -> float:
    """A number that is smaller for the better of two values of one metric."""
    higher_is_better = metric_of(name).higher_is_better
    if higher_is_better is None:
        return abs(value - 1)
    return -value if higher_is_better else value


def best_label(rows: list[dict], name: str) -> str | None:
    """The pipeline with the best mean of a metric, the first of equal ones; None where none was measured."""
    scored = [row for row in rows if row.get(name) is not None]
    return label(min(scored, key=lambda row: badness(name, row[name]))) if scored else None


def show(name: str, value: float | None, with_percent: bool = False, digits: int = 0) -> str:
    """A value of a metric as text: shares times 100, infinity as ∞, "–" for what was not measured.

    Args:
        digits: so many decimals more than the metric's own.
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    scale, own_digits = (100, 1) if name in SHARES else (1, metric_of(name).digits)
    text = format_number(value * scale, own_digits + digits)
    text = (text if float(text) else text.lstrip("-")).replace("-", "−")
    return f"{text}%" if with_percent and name in SHARES else text


def unit(name: str) -> str:
    """What follows a difference of a metric in words."""
    if name in SHARES:
        return " percentage points"
    return " dB" if name == "psnr" else ""


def show_milliseconds(value: float) -> str:
    """Three significant figures, in seconds from 1 s on."""
    return f"{format_figures(value / 1000)} s" if value >= 999.5 else f"{value:.3g} ms"


def pipelines(rows: list[dict]) -> list[dict]:
    """The rows that compete: neither baselines nor yardsticks."""
    return [row for row in rows if row["kind"] not in REFERENCES]


def find_pair(pairs: list[dict], a: str, b: str, metric: str) -> dict | None:
    """The paired difference a - b of a metric with its interval, turned round where it was kept as b - a."""
    for pair in pairs:
        if pair["metric"] == metric and (pair["a"], pair["b"]) == (a, b):
            return pair
        if pair["metric"] == metric and (pair["a"], pair["b"]) == (b, a):
            turned = {"a": a, "b": b, "difference": _negated(pair["difference"])}
            return pair | turned | {"low": _negated(pair["high"]), "high": _negated(pair["low"])}
    return None


def _negated(value: float | None) -> float | None:
    return None if value is None else -value


def has_interval(pair: dict | None) -> bool:
    """Whether there is a difference with an interval at all; infinities of both signs leave none."""
    return pair is not None and not any(pair[k] is None or math.isnan(pair[k]) for k in ("difference", "low", "high"))


def is_shown(pair: dict | None) -> bool:
    """Whether the interval of a paired difference leaves out 0; one photo alone shows nothing."""
    if not has_interval(pair) or pair.get("num_images", 2) < 2:
        return False
    return pair["low"] > 0 or pair["high"] < 0
