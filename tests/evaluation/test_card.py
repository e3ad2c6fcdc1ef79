import json

import numpy as np
import pytest
from PIL import Image

from feat2img.evaluation.card import keep_figures, keep_samples
from feat2img.pipelines import Feat2ImgPipeline


@pytest.fixture
def folder(make_gan, tmp_path):
    make_gan().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def results(tmp_path):
    row = {
        "schema_version": 1, "name": "tiny", "kind": "gan", "num_inference_steps": None, "num_images": 3,
        "psnr": "inf", "psnr_low": "inf", "psnr_high": "inf", "lpips": 0.5, "lpips_low": 0.4, "lpips_high": None,
        "ssim": None, "kid": 0.0125, "dataset": "photos", "split": None, "verifier": None,
    }  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps([row, {**row, "name": "mean image", "kind": "baseline"}]))
    return tmp_path / "results.json"


def test_figures_reach_the_card(folder, results):
    content = json.loads(keep_figures(folder, results).read_text())
    assert [metric["type"] for metric in content["rows"][0]["metrics"]] == ["lpips", "kid"]
    Feat2ImgPipeline.from_pretrained(folder).save_pretrained(folder)
    text = (folder / "README.md").read_text()
    assert "| LPIPS ↓ | 0.500 |" in text and "| KID ↓ | 0.0125 |" in text and "3 photos of photos" in text


def test_another_name_and_data_set(folder, results):
    content = json.loads(keep_figures(folder, results.parent, "mean image", "someone/photos").read_text())
    assert content["dataset"] == "someone/photos"


def test_what_is_no_result_is_refused(folder, results, tmp_path):
    with pytest.raises(ValueError, match="no figures of other; name one of: tiny, mean image"):
        keep_figures(folder, results, "other")
    for content in ("{", "[]]", "[3]", '{"a": 1}'):
        results.write_text(content)
        with pytest.raises(ValueError, match="is no results.json of `feat2img compare`"):
            keep_figures(folder, results)
    with pytest.raises(ValueError, match="is no results.json"):
        keep_figures(folder, tmp_path / "nowhere")


def test_samples_show_photos_above_and_reconstructions_below(folder, photos, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(9):
        photos[0].save(tmp_path / "photos" / f"{number}.png")
    pipe = Feat2ImgPipeline.from_pretrained(folder)
    grid = Image.open(keep_samples(folder, pipe, [str(tmp_path / "photos")]))
    assert grid.size == (8 * 36 + 4, 2 * 36 + 4)
    expected = pipe(images=photos[0]).images[0]
    found = np.asarray(grid.crop((4, 40, 36, 72))).astype(int)
    assert np.abs(found - np.asarray(expected)).mean() < 16  # JPEG
    (tmp_path / "photos" / "0.png").write_text("not a photo")
    with pytest.raises(ValueError, match="0.png cannot be read"):
        keep_samples(folder, pipe, [str(tmp_path / "photos")])
