"""The page's parts without a browser, the command, and the files of the Space."""

import configparser
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import RepoCard

from feat2img.app.style import ACCENT, CSS
from feat2img.cli import main

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "examples" / "space"


@pytest.fixture(scope="module")
def gan(tmp_path_factory, make_gan) -> str:
    path = tmp_path_factory.mktemp("pipelines") / "gan"
    make_gan().save_pretrained(path)
    return str(path)


def test_a_missing_gradio_is_one_line(gan, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app", gan]) == 2
    assert capsys.readouterr().err == (
        "feat2img: error: the app needs gradio, which is not installed: pip install 'feat2img[app]'\n"
    )


def test_a_missing_pipeline_is_one_line(tmp_path, capsys):
    pytest.importorskip("gradio", reason="needs the package gradio")
    assert main(["app", str(tmp_path / "nothing")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("feat2img: error: ") and "nothing" in line


def test_the_page_is_built_for_pipelines_with_and_without_steps(gan, tmp_path, make_diffusion):
    pytest.importorskip("gradio", reason="needs the package gradio")
    from feat2img.app import Studio, build_page

    make_diffusion().save_pretrained(tmp_path / "diffusion")
    for paths, sampling in [([gan], False), ([gan, str(tmp_path / "diffusion")], True)]:
        page = build_page(Studio(paths, device="cpu"))
        groups = [block for block in page.blocks.values() if type(block).__name__ == "Group"]
        assert [group.visible for group in groups] == [sampling]
        assert not page.analytics_enabled


def test_colours_of_theme_and_css_agree():
    assert all(colour in CSS for colour in ACCENT.values())


def test_the_space_names_what_the_package_needs():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    needed = {
        line.replace(" ", "")
        for key in (("options", "install_requires"), ("options.extras_require", "demo"))
        for line in config[key[0]][key[1]].split("\n")
        if line
    }
    assert set((SPACE / "requirements.txt").read_text().split()) == needed


def test_the_space_s_card_is_valid():
    data = RepoCard((SPACE / "README.md").read_text()).data.to_dict()
    assert data["sdk"] == "gradio" and (SPACE / data["app_file"]).is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+", data["sdk_version"]) and len(data["short_description"]) <= 60
    assert {data["colorFrom"], data["colorTo"]} < {
        "red",
        "yellow",
        "green",
        "blue",
        "indigo",
        "purple",
        "pink",
        "gray",
    }


def test_the_space_finds_its_pipelines(gan, tmp_path, monkeypatch):
    find = runpy.run_path(str(SPACE / "app.py"))["pipelines"]
    monkeypatch.setenv("FEAT2IMG_PIPELINES", f" {gan} user/name ")
    assert find() == [gan, "user/name"]
    monkeypatch.delenv("FEAT2IMG_PIPELINES")
    with pytest.raises(SystemExit, match="no pipeline"):
        find()
    find.__globals__["HERE"] = tmp_path
    for name in ("b", "a"):
        (tmp_path / "pipelines" / name).mkdir(parents=True)
        (tmp_path / "pipelines" / name / "model_index.json").write_text("{}")
    assert [Path(path).name for path in find()] == ["a", "b"]


@pytest.mark.slow
def test_the_space_runs_as_it_is_uploaded(tmp_path):
    """`make space`, then its app.py away from the repository: the address that it prints answers."""
    pytest.importorskip("gradio", reason="needs the package gradio")
    subprocess.run(["make", "-s", "-C", ROOT, "space", f"SPACE={tmp_path / 'space'}"], check=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=tmp_path / "space", env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        url = re.search(r"http://\S+", line)
        assert url, line
        from gradio_client import Client, handle_file

        photo = ROOT / "docs/source/figures/quickstart.jpg"
        client = Client(url.group(), verbose=False)
        answer = client.predict(handle_file(photo), ["gan", "diffusion"], 2, 1, 1.0, 0, api_name="/reconstruct")
        assert "f2i-card" in str(answer)
    finally:
        process.terminate()
        process.wait(30)
