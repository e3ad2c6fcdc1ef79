import json

import pytest

from feat2img.evaluation.card import keep_figures
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
