"""What a start imports, and what it leaves for later: by the modules that are there afterwards, not by the clock."""

import importlib
import subprocess
import sys

import pytest

import feat2img
import feat2img.evaluation

TRAINING_AND_MEASURING = {"datasets", "pandas", "pyarrow", "skimage", "tensorboard", "torchmetrics"}
HEAVY = {"accelerate", "diffusers", "numpy", "timm", "torch", "torchvision", *TRAINING_AND_MEASURING}
COMPONENTS = {"feat2img.features.encoder", "feat2img.models.projector", "feat2img.models.generator"}


def modules_after(code: str) -> set[str]:
    """Names of the modules that a fresh interpreter holds after running some code."""
    code += "\nimport sys; print('\\n'.join(sys.modules), file=sys.stderr)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return set(finished.stderr.split())


@pytest.mark.parametrize("code", ["import feat2img", "import feat2img.cli; feat2img.cli.main(['--help'])"])
def test_the_package_and_its_help_import_nothing_heavy(code):
    assert not modules_after(code) & HEAVY


def test_a_pipeline_imports_its_components_and_nothing_of_training_and_measuring():
    modules = modules_after("from feat2img import Feat2ImgPipeline")
    assert not modules & TRAINING_AND_MEASURING
    assert COMPONENTS <= modules  # loading a saved pipeline looks them up there


def test_reconstructing_a_photo_imports_nothing_of_training_and_measuring(make_gan, photos, tmp_path):
    make_gan().save_pretrained(tmp_path / "gan")
    photos[0].save(tmp_path / "photo.png")
    paths = [str(tmp_path / name) for name in ("gan", "photo.png", "out")]
    arguments = ["reconstruct", *paths[:2], "--output_dir", paths[2], "--device", "cpu"]
    modules = modules_after(f"import feat2img.cli; assert not feat2img.cli.main({arguments})")
    assert not modules & TRAINING_AND_MEASURING
    assert (tmp_path / "out" / "photo.png").is_file()


@pytest.mark.parametrize("name", ["feat2img", "feat2img.data", "feat2img.evaluation"])
def test_names_that_are_imported_late_are_all_there(name):
    module = importlib.import_module(name)
    assert all(hasattr(module, public) for public in module.__all__)
    assert dir(module) == sorted(module.__all__)
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018


@pytest.mark.parametrize("module", [feat2img, feat2img.evaluation], ids=lambda module: module.__name__)
def test_every_public_name_has_its_module(module):
    assert {*module._MODULES} == {*module.__all__} - {"__version__"}
