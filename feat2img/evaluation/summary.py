"""From what was measured to what is reported: rows, paired differences, equivalent resolutions, notes."""

import math
from itertools import combinations

from .contender import Contender
from .intervals import paired_difference
from .judge import Judge
from .metrics import METRICS
from .passes import ComparisonPass
from .report_data import label
from .yardstick import equivalent_resolution

EQUIVALENTS = {"equivalent_px_lpips": "lpips", "equivalent_px_verifier": "verifier_top1"}
TITLES = {"kid": "KID", "frechet": "Frechet distance"} | {name: metric.title for name, metric in METRICS.items()}


def in_order(passes: list[ComparisonPass]) -> list[Contender]:
    """Pipelines, then baselines, then yardsticks, each as they were entered."""
    everyone = [contender for one in passes for contender in one.contenders]
    ranks = {"baseline": 1, "yardstick": 2}
    return sorted(everyone, key=lambda contender: ranks.get(contender.kind, 0))


def make_rows(contenders: list[Contender], judge: Judge) -> list[dict]:
    """The rows of results.json, infinite scores as floats."""
    network = judge.set_network.name if judge.set_network else None
    verifier = judge.verifier.name if judge.verifier else None
    left_out = [f"{metric}: {reason}" for metric, reason in judge.left_out.items()]
    rows = [contender.result() for contender in contenders]
    for row in rows:
        row |= {"verifier": verifier, "distribution_network": network, "left_out": left_out}
        row |= equivalents(row, rows)
    return rows


def equivalents(row: dict, rows: list[dict]) -> dict:
    """Equivalent resolutions of a row by the yardsticks of its image size, and on which side of them it lies."""
    found: dict = {}
    ruler = [r for r in rows if r["kind"] == "yardstick" and r["image_size"] == row["image_size"]]
    ruler = list({r["yardstick_px"]: r for r in reversed(ruler)}.values())
    ruler.sort(key=lambda r: r["yardstick_px"])
    for key, metric in EQUIVALENTS.items():
        sizes, scores = [r["yardstick_px"] for r in ruler], [r[metric] for r in ruler]
        usable = row["kind"] != "yardstick" and None not in scores
        value, bound = (
            equivalent_resolution(row[metric], sizes, scores, METRICS[metric].higher_is_better)
            if usable
            else (None, None)
        )
        found |= {key: value, f"{key}_bound": bound}
    return found


def make_pairs(contenders: list[Contender]) -> list[dict]:
    """Paired differences with intervals: every two pipelines, and every pipeline against every baseline."""
    rivals = [contender for contender in contenders if contender.competes]
    baselines = [contender for contender in contenders if contender.kind == "baseline"]
    couples = [*combinations(rivals, 2), *((rival, baseline) for rival in rivals for baseline in baselines)]
    pairs = []
    for a, b in couples:
        places = shared_places(a.indices, b.indices)
        for metric in METRICS:
            if not places or metric not in a.scores or metric not in b.scores:
                continue
            interval = paired_difference(
                [a.scores[metric][place] for place, _ in places], [b.scores[metric][place] for _, place in places]
            )
            ends = dict(zip(("difference", "low", "high"), interval, strict=True))
            ends = {name: None if math.isnan(value) else value for name, value in ends.items()}
            pairs.append({"a": label_of(a), "b": label_of(b), "metric": metric, **ends, "num_images": len(places)})
    return pairs


def shared_places(first: list[int], second: list[int]) -> list[tuple[int, int]]:
    """Where the photos that both answered lie in each; one may have answered the first few, or missed some."""
    place_of = {index: place for place, index in enumerate(second)}
    return [(place, place_of[index]) for place, index in enumerate(first) if index in place_of]


def label_of(contender: Contender) -> str:
    """See `report_data.label`."""
    return label({"name": contender.name, "num_inference_steps": contender.num_inference_steps})


def make_notes(passes: list[ComparisonPass], judge: Judge) -> list[str]:
    """What a reader must know beside the figures, one sentence or two each."""
    notes = [f"{TITLES[metric]} was left out. {reason}" for metric, reason in judge.left_out.items()]
    skipped = passes[0].skipped
    if skipped:
        names = ", ".join(f"{photo.name} ({photo.reason})" for photo in skipped[:10])
        more = f" and {len(skipped) - 10} more, all in skipped.csv" if len(skipped) > 10 else ""
        notes.append(f"{len(skipped)} photos could not be read and were skipped: {names}{more}.")
    sizes = {one.pipeline_size for one in passes}
    if len(sizes) > 1:
        shown = ", ".join(f"{size} px" for size in sorted(sizes))
        notes.append(f"The pipelines work at different sizes ({shown}): pixel scores do not compare across them.")
    return [*notes, *_notes_on_verifier(passes, judge), *_notes_on_baselines(passes)]


def _notes_on_verifier(passes: list[ComparisonPass], judge: Judge) -> list[str]:
    if judge.verifier is None:
        return []
    notes = []
    taught = [one.name for one in passes if one.encoder_name.split(".")[0] == judge.verifier.architecture]
    if taught:
        notes.append(
            f"The verifier {judge.verifier.name} is the network whose features {', '.join(taught)} was trained on: "
            "its agreement flatters them. Choose another --verifier."
        )
    known = passes[0].original_scores.get("true_label_top1")
    if known:
        share = sum(known) / len(known)
        notes.append(f"The verifier names the true class of {share:.1%} of the originals, the most to expect.")
    return notes


def _notes_on_baselines(passes: list[ComparisonPass]) -> list[str]:
    for one in passes:
        names = {contender.name for contender in one.contenders if contender.kind == "baseline"}
        if names and not any(name.startswith("linear decoder") for name in names):
            return ["The linear decoder was left out: the grid of the features does not divide the image."]
    return []
