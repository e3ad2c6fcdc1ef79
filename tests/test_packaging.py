"""The distributions: what they hold, and that the wheel works away from this checkout."""

import configparser
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import feat2img
from tests.lowest import lowest

ROOT = Path(__file__).parents[1]

USE = """
from pathlib import Path
import torch
from feat2img import Feat2ImgDiffusionPipeline, Feat2ImgPipeline, FeatureProjector, TimmFeatureEncoder

pipe: Feat2ImgPipeline = Feat2ImgPipeline.from_pretrained(Path("folder"), revision="main", token=None)
features: torch.Tensor = pipe.encode([])
images = pipe(features=features, num_images_per_feature=2).images
address: str = pipe.push_to_hub("user/name", private=True)
encoder: TimmFeatureEncoder = TimmFeatureEncoder.from_timm("resnet18", ("layer3",), 224)
"""


def run(*command, **options) -> str:
    finished = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_one_version_everywhere():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == feat2img.__version__


def test_the_lowest_versions_are_read_from_setup_cfg():
    found = lowest(ROOT / "setup.cfg", ["train"])
    assert "diffusers==0.39" in found and any(line.startswith("tyro==") for line in found)
    assert not any(">" in line for line in found)


def test_pre_commit_runs_the_linter_of_the_project():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"].split()[:2] for hook in hooks] == [["ruff", "check"], ["ruff", "format"]]


@pytest.mark.slow
def test_the_wheel_works_away_from_the_checkout(make_gan, photos, tmp_path):
    """Its dependencies are those of this environment; `make package` installs them anew."""
    pytest.importorskip("build")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", ROOT)
    (wheel,), (sdist,) = (tmp_path / "dist").glob("*.whl"), (tmp_path / "dist").glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    assert "feat2img/py.typed" in names and {name.split("/")[0].split("-")[0] for name in names} == {"feat2img"}
    assert any(name.endswith("/CHANGELOG.md") for name in tarfile.open(sdist).getnames())
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    away = {"cwd": tmp_path, "env": {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}}
    run(python, "-m", "pip", "install", "--no-deps", "--quiet", wheel, **away)
    (site,) = (tmp_path / "venv" / "lib").glob("*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    make_gan().save_pretrained(tmp_path / "gan")
    photos[0].save(tmp_path / "photo.png")
    assert run(python, "-c", "import feat2img; print(feat2img.__file__)", **away).startswith(str(site))
    command = tmp_path / "venv" / "bin" / "feat2img"
    assert run(command, "--version", **away) == f"feat2img {feat2img.__version__}\n"
    run(command, "reconstruct", "gan", "photo.png", "--output_dir", "out", "--device", "cpu", **away)
    assert (tmp_path / "out" / "photo.png").is_file()


@pytest.mark.slow
def test_a_type_checker_accepts_the_use_of_the_library(tmp_path):
    pytest.importorskip("mypy")
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    settings = {name: section for name, section in config.items() if name.startswith("mypy")}
    del settings["mypy"]["packages"]
    for name in set(config.sections()) - set(settings):
        config.remove_section(name)
    (tmp_path / "use.py").write_text(USE)
    with (tmp_path / "mypy.ini").open("w") as file:
        config.write(file)
    files = ["--config-file", tmp_path / "mypy.ini", "--cache-dir", tmp_path / "cache", tmp_path / "use.py"]
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent", *files]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    run(*command, env=environment)
    (tmp_path / "use.py").write_text(USE.replace("address: str", "address: int"))
    wrong = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert wrong.returncode == 1 and '(expression has type "str", variable has type "int")' in wrong.stdout
