"""The pipeline in the output folder: complete, or refused by name."""

import json
import shutil

import pytest
import torch

from feat2img import Feat2ImgPipeline
from feat2img.training.export import write_pipeline


def weight(folder):
    return Feat2ImgPipeline.from_pretrained(folder).generator.last.weight[0, 0, 0, 0].item()


@pytest.fixture
def pipelines(make_gan):
    """Two that differ in one weight: 1 and 2."""
    pair = make_gan(), make_gan()
    for value, pipe in enumerate(pair, start=1):
        torch.nn.init.constant_(pipe.generator.last.weight, value)
    return pair


def test_an_export_replaces_an_earlier_one_and_leaves_nothing_beside(pipelines, tmp_path):
    (tmp_path / "checkpoint-1").mkdir()
    for value, pipe in enumerate(pipelines, start=1):
        write_pipeline(pipe, tmp_path, {"steps": value})
        assert weight(tmp_path) == value and json.loads((tmp_path / "training.json").read_text()) == {"steps": value}
    names = {path.name for path in tmp_path.iterdir()}
    assert names - {"README.md"} == {
        "checkpoint-1",
        "encoder",
        "generator",
        "model_index.json",
        "projector",
        "training.json",
    }


def test_killed_at_any_moment_an_export_is_the_old_one_the_new_one_or_refused(
    pipelines, tmp_path, killed_before_event
):
    write_pipeline(pipelines[0], tmp_path / "before", {})
    found = set()
    for moment in range(1, 1000, 3):
        folder = tmp_path / "now"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "before", folder)
        if not killed_before_event(moment, lambda: write_pipeline(pipelines[1], folder, {})):  # noqa: B023
            break
        try:
            found.add(weight(folder))
        except ValueError as error:
            assert "has no model_index.json" in str(error)
            found.add("refused")
    write_pipeline(pipelines[1], folder, {})
    assert weight(folder) == 2 and found == {1, "refused"} or found == {1, 2, "refused"}
    assert not list(folder.glob(".*"))
