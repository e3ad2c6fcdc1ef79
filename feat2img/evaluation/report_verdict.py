"""What a comparison says, in words: sentences from the intervals of paired differences and nothing else."""

import math
from itertools import product

from .decoding import format_steps
from .report_data import ReportData, label
from .report_terms import (
    best_label,
    find_pair,
    has_interval,
    is_shown,
    metric_of,
    pipelines,
    show,
    show_milliseconds,
    unit,
)

JUDGED = ("lpips", "feature_cosine", "verifier_top1", "psnr", "sharpness")
NAMES = {
    "feature_cosine": "Cosine of features",
    "verifier_top1": "Agreement of the verifier",
    "sharpness": "Sharpness (1 is the original's)",
}
SAME_SPEED = 1.1  # below this ratio two latencies are not told apart
FEW_PHOTOS = 20  # below this the bootstrap's intervals are too narrow
MOST_NAMES = 3  # in one sentence; more are counted


def verdict(data: ReportData) -> list[str]:
    """The verdict of a comparison: first the answer in one sentence, then one sentence per measure.

    A pipeline wins by a metric when the 95 % interval of the paired difference leaves out 0. All statements are about
    the photos that were compared.
    """
    rivals = pipelines(data.rows)
    if not rivals:
        return ["No pipeline was compared."]
    sentences = [_summary(data, rivals)]
    if len(rivals) > 1:
        sentences += [s for s in (_judge(data, rivals, metric) for metric in JUDGED) if s]
        sentences += [s for s in [_latency(rivals)] if s]
    sentences += [*_baselines(data, rivals), *_ahead(data, rivals), *_equivalents(rivals)]
    if max(row["num_images"] for row in rivals) < FEW_PHOTOS:
        sentences.append(f"Fewer than {FEW_PHOTOS} photos: the intervals are too narrow, take more for a decision.")
    return sentences


def spoken(row: dict) -> str:
    """A row's label as part of a sentence: "diffusion at 25 steps"."""
    steps = row.get("num_inference_steps")
    return row["name"] if steps is None else f"{row['name']} at {format_steps(steps)}"


def beats(data: ReportData, row: dict, other: dict, metric: str) -> bool:
    """Whether the paired interval shows that `row` is better than `other` by a metric.

    Where 1 is best, only two means on the same side of 1 are told apart: otherwise one is too smooth and one too
    sharp, and their difference does not say which is nearer.
    """
    pair = find_pair(data.pairs, label(row), label(other), metric)
    if not is_shown(pair):
        return False
    is_higher_better = metric_of(metric).higher_is_better
    if is_higher_better is None:
        if (row[metric] - 1) * (other[metric] - 1) < 0:
            return False
        is_higher_better = row[metric] < 1 or other[metric] < 1
    return (pair["low"] > 0) == is_higher_better


def _deciding(rivals: list[dict]) -> str | None:
    """The metric of the summary: LPIPS, or PSNR where one of them has no LPIPS, as small images have not."""
    return next((m for m in ("lpips", "psnr") if all(row.get(m) is not None for row in rivals)), None)


def _summary(data: ReportData, rivals: list[dict]) -> str:
    """Quality by LPIPS (PSNR without it) against latency."""
    photos = f"on these {max(row['num_images'] for row in rivals):,} photos"
    if len(rivals) == 1:
        return f"One pipeline was measured {photos}: {spoken(rivals[0])}. A winner needs a second one."
    metric = _deciding(rivals)
    if metric is None:
        return f"{len(rivals)} pipelines were run {photos}, but no quality that ranks them was measured."
    best = next(row for row in rivals if label(row) == best_label(rivals, metric))
    leaders = [best] + [row for row in rivals if row is not best and not beats(data, best, row, metric)]
    photos, title = f"O{photos[1:]}", metric_of(metric).title
    if len(leaders) == len(rivals):
        return f"{photos}, no difference between the pipelines is shown by {title}{_trade_off(rivals, leaders)}"
    verb = "recreates" if len(leaders) == 1 else "recreate"
    names = _several([spoken(row) for row in leaders])
    return f"{photos}, {names} {verb} images best by {title}{_trade_off(rivals, leaders)}"


def _trade_off(rivals: list[dict], leaders: list[dict]) -> str:
    """How fast the leaders in quality are; the end of the summary."""
    timed = [row for row in rivals if row.get("latency_ms")]
    leading = [row for row in leaders if row.get("latency_ms")]
    if len(timed) < 2 or not leading:
        return "."
    fastest = min(timed, key=lambda row: row["latency_ms"])
    leader = min(leading, key=lambda row: row["latency_ms"])
    quick = [row for row in timed if row["latency_ms"] / fastest["latency_ms"] < SAME_SPEED]
    if len(quick) == len(timed):
        return ", nor in latency." if len(leaders) == len(rivals) else "; in latency no difference is shown."
    if leader not in quick:
        return f"; {spoken(fastest)} is {_times(leader['latency_ms'] / fastest['latency_ms'])} as fast."
    among = "" if len(quick) == 1 else "among "
    return f", and is {among}the fastest, too." if len(leaders) == 1 else f"; {spoken(leader)} is {among}the fastest."


def _judge(data: ReportData, rivals: list[dict], metric: str) -> str | None:
    """One sentence on one metric: the best mean, whom it beats by how much, and who cannot be told apart from it."""
    scored = [row for row in rivals if row.get(metric) is not None]
    if len(scored) < 2:
        return None
    title = NAMES.get(metric, metric_of(metric).title)
    best = next(row for row in scored if label(row) == best_label(scored, metric))
    others = [row for row in scored if row is not best]
    won = [row for row in others if beats(data, best, row, metric)]
    value = show(metric, best[metric], with_percent=True)
    across = [row for row in others if row not in won and _is_across(data, best, row, metric)]
    equals = [row for row in others if row not in won and row not in across]
    if len(others) == 1 and equals:
        ends = _difference(data, best, others[0], metric)
        return f"{title}: no difference shown between {spoken(best)} and {spoken(others[0])}{ends}."
    if equals == others:
        return (
            f"{title}: no difference shown between {spoken(best)}, which has the best mean ({value}), and the others."
        )
    sides = _several([f"{spoken(row)} ({show(metric, row[metric])})" for row in across]) if across else ""
    if won:
        sentence = f"{title}: {spoken(best)} ({value}) beats {_gains(data, best, won, metric)}"
        sentence += f"; not ranked against {sides}, on the other side of 1" if across else ""
    else:
        sentence = f"{title}: not ranked, {spoken(best)} ({value}) and {sides} lie on either side of 1"
    return sentence + (f"; no difference shown from {_several([spoken(row) for row in equals])}." if equals else ".")


def _is_across(data: ReportData, best: dict, other: dict, metric: str) -> bool:
    """Whether two that differ are not ranked, because the best value, 1, lies between them; see `beats`."""
    is_different = is_shown(find_pair(data.pairs, label(best), label(other), metric))
    return is_different and not beats(data, best, other, metric)


def _gains(data: ReportData, best: dict, won: list[dict], metric: str) -> str:
    """Each beaten pipeline with the margin, or the nearest of many."""
    if len(won) <= MOST_NAMES:
        return _and([f"{spoken(row)} by {_margin(data, best, row, metric)}" for row in won])
    margins = {label(row): abs(find_pair(data.pairs, label(best), label(row), metric)["difference"]) for row in won}
    nearest = min(won, key=lambda row: margins[label(row)])
    return f"{len(won)} others, the nearest, {spoken(nearest)}, by {_margin(data, best, nearest, metric)}"


def _margin(data: ReportData, best: dict, other: dict, metric: str) -> str:
    pair = find_pair(data.pairs, label(best), label(other), metric)
    low, high = sorted((abs(pair["low"]), abs(pair["high"])))
    difference, low, high = (_show_nonzero(metric, value) for value in (abs(pair["difference"]), low, high))
    return f"{difference}{unit(metric)} ({low} to {high})"


def _show_nonzero(metric: str, value: float) -> str:
    """With more decimals where the usual ones would read as 0, which the interval of a win leaves out."""
    texts = [show(metric, value, digits=more) for more in range(5)]
    return next((text for text in texts if text.strip("0.")), texts[-1])


def _difference(data: ReportData, best: dict, other: dict, metric: str) -> str:
    pair = find_pair(data.pairs, label(best), label(other), metric)
    if not has_interval(pair):
        return ""
    difference, low, high = (show(metric, pair[key]) for key in ("difference", "low", "high"))
    return f": {difference}{unit(metric)} ({low} to {high})"


def _latency(rivals: list[dict]) -> str | None:
    timed = sorted((row for row in rivals if row.get("latency_ms")), key=lambda row: row["latency_ms"])
    if len(timed) < 2:
        return None
    fastest, *others = timed
    if others[-1]["latency_ms"] / fastest["latency_ms"] < SAME_SPEED:
        low, high = (show_milliseconds(row["latency_ms"]) for row in (fastest, others[-1]))
        return f"Latency: no difference shown ({low} to {high} per photo)."
    equals = [row for row in others if row["latency_ms"] / fastest["latency_ms"] < SAME_SPEED]
    slower = others[len(equals) :]
    texts = [
        f"{_times(row['latency_ms'] / fastest['latency_ms'])} as fast as {spoken(row)} "
        f"({show_milliseconds(row['latency_ms'])})"
        for row in (slower if len(slower) <= MOST_NAMES else [slower[0], slower[-1]])
    ]
    same = f"; no difference shown from {_several([spoken(row) for row in equals])}" if equals else ""
    took = show_milliseconds(fastest["latency_ms"])
    return f"Latency: {spoken(fastest)} takes {took} per photo, {_and(texts)}{same}."


def _baselines(data: ReportData, rivals: list[dict]) -> list[str]:
    """Which baselines the pipelines beat by LPIPS (PSNR without it), as far as there are paired differences."""
    metric = _deciding(rivals)
    baselines = [row for row in data.rows if row["kind"] == "baseline"]
    met = [(a, b) for a, b in product(rivals, baselines) if find_pair(data.pairs, label(a), label(b), metric)]
    if not met:
        return []
    title = metric_of(metric).title
    lost = [(spoken(a), b["name"]) for a, b in met if not beats(data, a, b, metric)]
    if not lost:
        who = "every pipeline" if len(rivals) > 1 else spoken(rivals[0])
        return [f"Baselines: {who} beats {_and(list(dict.fromkeys(b['name'] for _, b in met)))} by {title}."]
    by_name: dict[tuple[str, ...], list[str]] = {}
    for name in dict.fromkeys(name for name, _ in lost):
        by_name.setdefault(tuple(b for a, b in lost if a == name), []).append(name)
    sentences = []
    for unbeaten, names in by_name.items():
        verb = "is" if len(names) == 1 else "are"
        sentences.append(f"Baselines: {_several(names)} {verb} not shown to beat {_and(list(unbeaten))} by {title}.")
    return sentences


def _ahead(data: ReportData, rivals: list[dict]) -> list[str]:
    """Baselines that are better than every pipeline by another metric: what the pipelines should have learned."""
    baselines = [row for row in data.rows if row["kind"] == "baseline"]
    whom = "every pipeline" if len(rivals) > 1 else spoken(rivals[0])
    told = []
    for metric in JUDGED:
        if metric == _deciding(rivals) or metric_of(metric).higher_is_better is None:
            continue
        ahead = [row["name"] for row in baselines if all(beats(data, row, rival, metric) for rival in rivals)]
        if ahead:
            title = NAMES.get(metric, metric_of(metric).title)
            title = title[0].lower() + title[1:] if metric in NAMES else title
            told.append(f"{_and(ahead)} {'beats' if len(ahead) == 1 else 'beat'} {whom} by {title}")
    return [f"Baselines ahead: {'; '.join(told)}."] if told else []


def _equivalents(rivals: list[dict]) -> list[str]:
    """Equivalent resolutions in plain words; of many pipelines the best and the worst."""
    sentences = []
    for key, by in (("equivalent_px_lpips", "LPIPS"), ("equivalent_px_verifier", "the verifier's agreement")):
        known = [(spoken(row), *_size(row, key)) for row in rivals]
        known = [item for item in known if item[1]]
        if len(known) > MOST_NAMES:
            known.sort(key=lambda item: -item[2])
            known = [known[0], known[-1]]
        if known:
            (name, size, _), *others = known
            kept = [f"{name} keeps as much as the originals shrunk to {size}"]
            kept += [f"{name} as much as at {size}" for name, size, _ in others]
            sentences.append(f"Equivalent resolution by {by}: {_and(kept)}.")
    return sentences


def _size(row: dict, key: str) -> tuple[str, float]:
    """An equivalent resolution in words, and a number to sort by; no words where there is none."""
    value, bound = row.get(key), row.get(f"{key}_bound")
    if value is not None and math.isfinite(value):
        return f"{value:.0f} px", value
    if bound:
        return f"{'less' if bound[0] == '<' else 'more'} than {bound[1:]} px", float(bound[1:])
    return "", 0.0


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:.0f} times"


def _several(names: list[str]) -> str:
    return _and(names) if len(names) <= MOST_NAMES else f"{len(names)} pipelines"


def _and(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
