"""The configuration files of examples/accelerate_configs: valid for accelerate, and the CPU one trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from feat2img import Feat2ImgPipeline

EXAMPLES = Path(__file__).parents[2] / "examples"
CONFIGS = sorted((EXAMPLES / "accelerate_configs").glob("*.yaml"))
EXPECTED = {"cpu": ("NO", True, 1), "multi_gpu": ("MULTI_GPU", False, 8), "one_gpu": ("NO", False, 1)}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_loads_it(path):
    config = load_config_from_file(str(path))  # refuses keys that it does not know
    found = config.distributed_type.value, config.use_cpu, config.num_processes
    assert found == EXPECTED[path.stem]


def test_none_is_without_an_expectation():
    assert {path.stem for path in CONFIGS} == set(EXPECTED)


@pytest.mark.slow
def test_the_cpu_configuration_trains(photo_folder, tmp_path):
    command = [
        *(
            sys.executable,
            "-m",
            "accelerate.commands.launch",
            "--config_file",
            EXAMPLES / "accelerate_configs/cpu.yaml",
        ),
        *(EXAMPLES / "train_gan.py", "--preset", "debug", "--dataset_name", photo_folder, "--report_to", "none"),
        *("--image_size", "32", "--resize_size", "32", "--output_dir", tmp_path / "out"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "datasets-cache")}
    finished = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert finished.returncode == 0, finished.stderr
    assert Feat2ImgPipeline.from_pretrained(tmp_path / "out").kind == "gan"
    assert "%|" not in finished.stderr  # no progress bars in a pipe
