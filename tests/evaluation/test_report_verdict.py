import math

import pytest

from feat2img.evaluation.report_data import ReportData, label
from feat2img.evaluation.report_terms import badness, find_pair, show, show_milliseconds
from feat2img.evaluation.report_verdict import verdict


def row(name: str, kind: str = "gan", steps: int | None = None, **values) -> dict:
    return {"name": name, "kind": kind, "num_inference_steps": steps, "num_images": 500} | values


def pair(a: dict, b: dict, metric: str, low: float, high: float, count: int = 500) -> dict:
    middle = (low + high) / 2
    shared = {"metric": metric, "num_images": count}
    return {"a": label(a), "b": label(b), "difference": middle, "low": low, "high": high} | shared


GAN = row("gan", lpips=0.4, psnr=20.0, latency_ms=10.0)
DIFFUSION = row("diffusion", "diffusion", 25, lpips=0.3, psnr=19.0, latency_ms=1200.0)


def test_winner_by_each_metric_with_difference_and_interval():
    pairs = [pair(GAN, DIFFUSION, "lpips", 0.09, 0.11), pair(GAN, DIFFUSION, "psnr", 0.8, 1.2)]
    assert verdict(ReportData([GAN, DIFFUSION], pairs)) == [
        "On these 500 photos, diffusion at 25 steps recreates images best by LPIPS; gan is 120 times as fast.",
        "LPIPS: diffusion at 25 steps (0.300) beats gan by 0.100 (0.090 to 0.110).",
        "PSNR: gan (20.00) beats diffusion at 25 steps by 1.00 dB (0.80 to 1.20).",
        "Latency: gan takes 10 ms per photo, 120 times as fast as diffusion at 25 steps (1.2 s).",
    ]


def test_order_of_a_pair_does_not_change_the_verdict():
    turned = [pair(DIFFUSION, GAN, "lpips", -0.11, -0.09), pair(DIFFUSION, GAN, "psnr", -1.2, -0.8)]
    pairs = [pair(GAN, DIFFUSION, "lpips", 0.09, 0.11), pair(GAN, DIFFUSION, "psnr", 0.8, 1.2)]
    assert verdict(ReportData([GAN, DIFFUSION], turned)) == verdict(ReportData([GAN, DIFFUSION], pairs))


@pytest.mark.parametrize("ends", [(-0.01, 0.21), (0.0, 0.2)])
def test_interval_with_zero_shows_no_difference(ends):
    sentences = verdict(ReportData([GAN, DIFFUSION], [pair(GAN, DIFFUSION, "lpips", *ends)]))
    assert sentences[0].startswith("On these 500 photos, no difference between the pipelines is shown by LPIPS;")
    assert sentences[1].startswith("LPIPS: no difference shown between diffusion at 25 steps and gan: −0.100 (")


def test_pipeline_against_itself_shows_no_difference_in_anything():
    twin = GAN | {"name": "gan (2)"}
    pairs = [pair(GAN, twin, metric, 0.0, 0.0) for metric in ("lpips", "psnr")]
    sentences = verdict(ReportData([GAN, twin], pairs))
    assert sentences[0].endswith("no difference between the pipelines is shown by LPIPS, nor in latency.")
    assert all("no difference shown" in sentence for sentence in sentences[1:]) and len(sentences) == 4


def test_equal_infinite_psnr_and_missing_intervals_are_no_difference():
    a, b = row("a", psnr=math.inf), row("b", psnr=math.inf)
    missing = pair(a, b, "psnr", 0.0, 0.0) | {"difference": None, "low": None, "high": None}
    for pairs in ([pair(a, b, "psnr", 0.0, 0.0)], [missing], []):
        sentences = verdict(ReportData([a, b], pairs))
        assert sentences[1].startswith("PSNR: no difference shown between a and b")
    better = verdict(ReportData([a, row("c", psnr=20.0)], [pair(a, row("c"), "psnr", math.inf, math.inf)]))
    assert better[1] == "PSNR: a (∞) beats c by ∞ dB (∞ to ∞)."


def test_one_photo_alone_shows_nothing_and_few_are_warned_of():
    few = [GAN | {"num_images": 1}, DIFFUSION | {"num_images": 1}]
    sentences = verdict(ReportData(few, [pair(*few, "lpips", 0.1, 0.1, count=1)]))
    assert "no difference" in sentences[0] and "no difference shown" in sentences[1]
    assert sentences[-1].startswith("Fewer than 20 photos")


@pytest.mark.parametrize(
    ("a", "b", "ends", "winner"),
    [(0.9, 0.5, (0.3, 0.5), "a"), (1.5, 1.1, (0.3, 0.5), "b"), (0.9, 1.4, (-0.6, -0.4), None)],
)
def test_sharpness_is_best_at_one(a, b, ends, winner):
    rows = [row("a", sharpness=a), row("b", sharpness=b)]
    sentence = verdict(ReportData(rows, [pair(*rows, "sharpness", *ends)]))[1]
    if winner:
        assert f": {winner} (" in sentence and "beats" in sentence
    else:
        assert sentence.endswith("not ranked, a (0.90) and b (1.40) lie on either side of 1.")


def test_three_around_the_best_sharpness():
    a, b, c, d = (row(name, sharpness=value) for name, value in (("a", 0.9), ("b", 0.5), ("c", 1.3), ("d", 0.89)))
    pairs = [pair(a, b, "sharpness", 0.3, 0.5), pair(a, c, "sharpness", -0.5, -0.3)]
    pairs += [pair(a, d, "sharpness", -0.01, 0.03)]
    assert verdict(ReportData([a, b, c, d], pairs))[1].endswith(
        "a (0.90) beats b by 0.40 (0.30 to 0.50); not ranked against c (1.30), on the other side of 1; "
        "no difference shown from d."
    )
    assert verdict(ReportData([a, c, d], pairs))[1].endswith(
        "not ranked, a (0.90) and c (1.30) lie on either side of 1; no difference shown from d."
    )


def test_interval_of_a_win_never_reads_as_zero():
    sentence = verdict(ReportData([GAN, DIFFUSION], [pair(GAN, DIFFUSION, "psnr", 0.0004, 0.4)]))[2]
    assert sentence == "PSNR: gan (20.00) beats diffusion at 25 steps by 0.20 dB (0.0004 to 0.40)."


def test_nearly_the_fastest_is_not_called_the_fastest():
    best, near = row("best", lpips=0.3, latency_ms=10.5), row("near", lpips=0.4, latency_ms=10.0)
    slow = row("slow", lpips=0.5, latency_ms=100.0)
    pairs = [pair(best, near, "lpips", -0.11, -0.09), pair(best, slow, "lpips", -0.21, -0.19)]
    sentences = verdict(ReportData([best, near, slow], pairs))
    assert sentences[0].endswith("best recreates images best by LPIPS, and is among the fastest, too.")
    assert sentences[-1] == (
        "Latency: near takes 10 ms per photo, 10 times as fast as slow (100 ms); no difference shown from best."
    )


def test_summary_uses_a_metric_that_every_pipeline_has():
    small = row("small", psnr=18.0, lpips=None)  # its images are too small for LPIPS
    sentences = verdict(ReportData([GAN, small], [pair(GAN, small, "psnr", 1.5, 2.5)]))
    assert sentences[0].startswith("On these 500 photos, gan recreates images best by PSNR")


def test_baseline_that_beats_every_pipeline_is_named():
    gan, other = GAN | {"verifier_top1": 0.3}, DIFFUSION | {"verifier_top1": 0.1}
    near = row("nearest training photo", "baseline", lpips=0.6, verifier_top1=0.5)
    pairs = [pair(gan, near, "lpips", -0.3, -0.1), pair(other, near, "lpips", -0.4, -0.2)]
    pairs += [pair(gan, near, "verifier_top1", -0.3, -0.1), pair(other, near, "verifier_top1", -0.5, -0.3)]
    ahead = "Baselines ahead: nearest training photo beats every pipeline by agreement of the verifier."
    assert ahead in verdict(ReportData([gan, other, near], pairs))
    pairs[2] |= {"high": 0.01}
    assert not any("ahead" in sentence for sentence in verdict(ReportData([gan, other, near], pairs)))


def test_rival_that_cannot_be_told_apart_shares_the_lead():
    third = row("third", lpips=0.31, latency_ms=5.0)
    pairs = [
        pair(GAN, DIFFUSION, "lpips", 0.09, 0.11),
        pair(DIFFUSION, third, "lpips", -0.03, 0.01),
        pair(GAN, third, "lpips", 0.08, 0.1),
    ]
    sentences = verdict(ReportData([GAN, DIFFUSION, third], pairs))
    assert sentences[0].startswith(
        "On these 500 photos, diffusion at 25 steps and third recreate images best by LPIPS"
    )
    assert sentences[0].endswith("third is the fastest.")
    assert sentences[1].endswith("beats gan by 0.100 (0.090 to 0.110); no difference shown from third.")


def test_many_pipelines_are_counted_instead_of_named():
    rivals = [row(f"p{i}", lpips=0.2 + 0.1 * i, latency_ms=10.0 + i) for i in range(6)]
    pairs = [pair(rivals[0], other, "lpips", -0.1 * i - 0.01, -0.1 * i + 0.01) for i, other in enumerate(rivals) if i]
    sentences = verdict(ReportData(rivals, pairs))
    assert sentences[1] == "LPIPS: p0 (0.200) beats 5 others, the nearest, p1, by 0.100 (0.090 to 0.110)."


def test_single_pipeline_baselines_and_equivalent_resolution():
    lone = row("gan", lpips=0.4, equivalent_px_lpips=31.4, equivalent_px_verifier=None)
    mean, near = row("mean image", "baseline", lpips=0.8), row("nearest", "baseline", lpips=0.41)
    pairs = [pair(lone, mean, "lpips", -0.41, -0.39), pair(lone, near, "lpips", -0.02, 0.01)]
    assert verdict(ReportData([lone, mean, near], pairs)) == [
        "One pipeline was measured on these 500 photos: gan. A winner needs a second one.",
        "Baselines: gan is not shown to beat nearest by LPIPS.",
        "Equivalent resolution by LPIPS: gan keeps as much as the originals shrunk to 31 px.",
    ]
    beyond = lone | {"equivalent_px_lpips": None, "equivalent_px_lpips_bound": "<14"}
    assert verdict(ReportData([beyond]))[-1].endswith("gan keeps as much as the originals shrunk to less than 14 px.")
    assert verdict(ReportData([lone, mean], pairs))[1] == "Baselines: gan beats mean image by LPIPS."
    assert verdict(ReportData([mean])) == ["No pipeline was compared."]


def test_shares_are_percent_and_their_differences_percentage_points():
    rows = [row("a", verifier_top1=0.6), row("b", verifier_top1=0.5)]
    sentences = verdict(ReportData(rows, [pair(*rows, "verifier_top1", 0.05, 0.15)]))
    assert sentences[0] == "2 pipelines were run on these 500 photos, but no quality that ranks them was measured."
    assert sentences[1] == "Agreement of the verifier: a (60.0%) beats b by 10.0 percentage points (5.0 to 15.0)."


def test_values_as_text():
    assert [show("psnr", x) for x in (None, math.nan, math.inf, 20.004)] == ["–", "–", "∞", "20.00"]
    assert [show("lpips", x) for x in (-0.0001, -0.25)] == ["0.000", "−0.250"]
    assert show("verifier_top1", 0.5) == "50.0" and show("verifier_top1", 0.5, with_percent=True) == "50.0%"
    times = {0.1234: "0.123 ms", 9.876: "9.88 ms", 123.4: "123 ms", 999.6: "1 s", 1234: "1.23 s", 2e6: "2,000 s"}
    assert {x: show_milliseconds(x) for x in times} == times


def test_badness_and_pairs_from_either_side():
    assert badness("lpips", 0.1) < badness("lpips", 0.2) and badness("psnr", 30) < badness("psnr", 20)
    assert badness("sharpness", 0.9) < badness("sharpness", 1.3)
    found = find_pair([pair(GAN, DIFFUSION, "lpips", 0.09, 0.13)], label(DIFFUSION), "gan", "lpips")
    assert (found["low"], found["high"]) == (-0.13, -0.09) and found["difference"] == pytest.approx(-0.11)
    assert find_pair([], "gan", "other", "lpips") is None
