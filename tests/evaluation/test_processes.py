"""A comparison in two processes finds the figures of one."""

import csv
import json
import os
import socket
import subprocess
import sys

import pytest
from PIL import Image

from feat2img.evaluation.contender import COST


def compare(output_dir, arguments, tmp_path, processes):
    command = [sys.executable, "-m", "feat2img.cli", "compare", *arguments, "--output_dir", str(output_dir)]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
        command = [*launcher, "--master_port", port, *command[1:]]
    own = {"OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache"), "TORCH_HOME": str(tmp_path / "torch")}
    environment = {**os.environ, **own, "https_proxy": "http://127.0.0.1:9"}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("wrote ") == 1
    return output_dir


def figures(folder):
    rows = json.loads((folder / "results.json").read_text())
    return [{name: value for name, value in row.items() if name not in COST} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [4, 5], ids=["six batches", "five batches"])
def test_two_processes_find_the_figures_of_one(
    gan_path, diffusion_path, save_photos, verifier_options, tmp_path, batch_size
):
    save_photos(tmp_path / "photos" / "train", 6, seed=1)
    save_photos(tmp_path / "photos" / "validation", 20, seed=2)
    (tmp_path / "photos" / "validation" / "broken.jpg").write_text("not a photo")
    arguments = [
        *map(str, (gan_path, diffusion_path)), "--dataset", str(tmp_path / "photos"),
        "--num_images", "21",
        "--num_inference_steps", "2", "--num_samples", "2", "--batch_size", str(batch_size),
        "--latency_batch_size", "2",
        "--baselines", "--pixel_optimisation_steps", "1", "--pixel_optimisation_images", "6", "--device", "cpu",
        "--verifier", verifier_options["verifier"], "--verifier_weights", verifier_options["verifier_weights"],
    ]  # fmt: skip
    one = compare(tmp_path / "one", arguments, tmp_path, 1)
    two = compare(tmp_path / "two", arguments, tmp_path, 2)
    assert figures(one) == figures(two)
    for name in ("per_image.csv", "pairs.csv"):
        assert (one / name).read_text() == (two / name).read_text()
    with open(two / "per_image.csv") as file:
        rows = [row["index"] for row in csv.DictReader(file) if row["name"] == "gan"]
    assert len(rows) == len(set(rows)) == 20  # none twice, none lost but the broken one
    grids = [Image.open(folder / "grid.png").tobytes() for folder in (one, two)]
    assert grids[0] == grids[1]
    assert all(row["latency_ms"] for row in json.loads((two / "results.json").read_text())[:2])
