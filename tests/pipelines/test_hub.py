"""Loading by Hub name, from a cache that the test makes; nothing is fetched."""

import shutil

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects

from feat2img.pipelines import Feat2ImgGANPipeline, Feat2ImgPipeline
from feat2img.pipelines.base import ALLOWED_PATTERNS


def test_a_repository_in_the_cache_loads(make_gan, tmp_path):
    pipe = make_gan()
    pipe.save_pretrained(tmp_path / "saved")
    repository = tmp_path / "cache" / "models--someone--gan"
    shutil.copytree(tmp_path / "saved", repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    options = {"cache_dir": tmp_path / "cache", "local_files_only": True}
    features = torch.randn(1, 48, 4, 4)
    for cls in (Feat2ImgPipeline, Feat2ImgGANPipeline):
        loaded = cls.from_pretrained("someone/gan", **options)
        assert torch.equal(
            loaded(features=features, output_type="pt").images, pipe(features=features, output_type="pt").images
        )


def test_a_repository_that_cannot_be_had_is_refused(tmp_path):
    with pytest.raises(ValueError, match="someone/nothing is no folder here and cannot be had from the Hub") as error:
        Feat2ImgPipeline.from_pretrained("someone/nothing", cache_dir=tmp_path, local_files_only=True)
    assert "\n" not in str(error.value)


def test_only_json_safetensors_and_texts_are_fetched():
    harmless = [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "README.md",
        "NOTICE",
    ]
    others = [
        "unet/diffusion_pytorch_model.bin",
        "pipeline.py",
        "unet/modeling.py",
        "model.pt",
        "weights.ckpt",
        "x.pkl",
    ]
    assert list(filter_repo_objects(harmless + others, allow_patterns=ALLOWED_PATTERNS)) == harmless
