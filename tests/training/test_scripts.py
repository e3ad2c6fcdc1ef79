"""The scripts as users launch them; each call starts fresh processes."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from feat2img import Feat2ImgPipeline
from feat2img.training.checkpoints import list_checkpoints, load_checkpoint
from tests.hub_server import HubServer

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = {"gan": "train_gan.py", "diffusion": "train_diffusion.py"}
LAUNCHERS = {
    "python": [sys.executable],
    "accelerate": [sys.executable, "-m", "accelerate.commands.launch", "--cpu"],
}


def flags(kind, photo_folder, output_dir, *more):
    return [
        str(EXAMPLES / SCRIPTS[kind]), "--preset", "debug", "--dataset_name", str(photo_folder),
        "--output_dir", str(output_dir), "--report_to", "none", "--image_size", "32", "--resize_size", "32", *more,
    ]  # fmt: skip


def environment(tmp_path):
    threads = {"OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "datasets-cache")}
    return {**os.environ, **threads, "ACCELERATE_USE_CPU": "true"}


def launch(launcher, kind, photo_folder, output_dir, *more, **variables):
    command = [*launcher, *flags(kind, photo_folder, output_dir, *more)]
    variables = {**environment(photo_folder.parent), **variables}
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=variables)


def torchrun(processes):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--nproc_per_node", str(processes), "--master_port", str(port)]
    return [sys.executable, "-m", "torch.distributed.run", *options]


def weights(folder):
    files = sorted(folder.glob("*/*.safetensors"))
    exported = [file for file in files if not file.parent.name.startswith("checkpoint")]
    return {(file.parent.name, name): value for file in exported for name, value in load_file(file).items()}


def read_losses(folder):
    """Scalar => its values step by step, but for the speed, and for accuracies, where a sign counts."""
    events = EventAccumulator(str(next((folder / "logs").rglob("events.out.tfevents.*")).parent))
    events.Reload()
    names = [name for name in events.Tags()["scalars"] if name != "images_per_second" and "accuracy" not in name]
    return {name: [event.value for event in events.Scalars(name)] for name in names}


@pytest.mark.parametrize("kind, launcher", [("gan", "accelerate"), ("diffusion", "python")])
def test_a_script_trains_exports_and_resumes(photo_folder, tmp_path, kind, launcher):
    folder = tmp_path / "out"
    result = launch(LAUNCHERS[launcher], kind, photo_folder, folder)
    assert result.returncode == 0, result.stderr
    assert f"pipeline saved to {folder} (skipped 0 of 12 photos)" in result.stdout
    assert Feat2ImgPipeline.from_pretrained(folder).kind == kind
    more = ["--resume_from_checkpoint", "latest", "--max_train_steps", "6"]
    result = launch(LAUNCHERS[launcher], kind, photo_folder, folder, *more)
    assert result.returncode == 0, result.stderr
    assert [path.name for path in list_checkpoints(folder)] == ["checkpoint-4", "checkpoint-6"]


def test_errors_are_one_line_without_a_traceback(photo_folder, tmp_path):
    for more, message in (
        (["--dataset_name", str(tmp_path / "nowhere")], "there is no data set at"),
        (["--encoder_layers", "layer9"], "layer9"),
        (["--resume_from_checkpoint", "checkpoint-3"], "no checkpoint checkpoint-3"),
    ):
        result = launch(LAUNCHERS["python"], "gan", photo_folder, tmp_path / "out", *more)
        assert result.returncode == 1 and "Traceback" not in result.stderr
        last = result.stderr.strip().splitlines()[-1]
        assert last.startswith("train_gan.py: error: ") and message in last


def test_a_script_uploads_its_pipeline(photo_folder, tmp_path):
    push = ["--push_to_hub", "--hub_model_id", "someone/tiny", "--hub_private", "--hub_license", "apache-2.0"]
    with HubServer() as hub:
        variables = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
        refused = launch(LAUNCHERS["python"], "gan", photo_folder, tmp_path / "refused", *push, **variables)
        variables["HF_TOKEN"] = "hf_owner"
        result = launch(LAUNCHERS["python"], "gan", photo_folder, tmp_path / "out", *push, **variables)
    # it shows before the training, not after: nothing but the lock is there
    assert refused.returncode == 1 and not list((tmp_path / "refused").glob("[!.]*"))
    assert "train_gan.py: error: someone/tiny cannot be made on the Hub: " in refused.stderr
    assert result.returncode == 0, result.stderr
    assert f"uploaded: {hub.address}/someone/tiny/commit/" in result.stdout
    assert hub.repositories["someone/tiny"].private
    files = hub.files("someone/tiny")
    assert {"model_index.json", "training.json", "samples.jpg", "README.md"} <= set(files)
    assert not any(name.startswith(("checkpoint", "logs", "samples/")) for name in files)
    assert str(tmp_path) not in files["training.json"].decode() + files["README.md"].decode()


@pytest.mark.parametrize("kind, stop", [("gan", signal.SIGTERM), ("diffusion", signal.SIGINT)])
def test_a_signal_saves_a_checkpoint_to_go_on_from(photo_folder, tmp_path, kind, stop):
    folder = tmp_path / "out"
    endless = ["--max_train_steps", "1000000", "--checkpointing_steps", "3", "--checkpoints_total_limit", "1"]
    process = subprocess.Popen(
        [sys.executable, *flags(kind, photo_folder, folder, *endless)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
    )
    try:
        deadline = time.monotonic() + 300
        while not list_checkpoints(folder) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(stop)
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    stopped = re.search(rf"stopped by {stop.name} at step (\d+); go on with --resume_from_checkpoint latest", output)
    step = int(stopped[1])
    assert [path.name for path in list_checkpoints(folder)] == [f"checkpoint-{step}"]
    assert load_checkpoint(folder / f"checkpoint-{step}")[2]["images_seen"] == 4 * step
    assert not (folder / "model_index.json").exists()
    more = ["--max_train_steps", str(step + 1), "--resume_from_checkpoint", "latest", "--checkpointing_steps", "3"]
    result = launch(LAUNCHERS["python"], kind, photo_folder, folder, *more)
    assert result.returncode == 0, result.stderr
    assert Feat2ImgPipeline.from_pretrained(folder).kind == kind


@pytest.mark.parametrize("kind", list(SCRIPTS))
def test_two_processes_train_the_same_model_as_one(photo_folder, tmp_path, kind):
    """The same global batches, the same noise, averaged gradients: only rounding may differ."""
    same = ["--max_train_steps", "2", "--adam_weight_decay", "0", "--no-use_ema", "--lr_scheduler", "constant"]
    same += ["--report_to", "tensorboard"]
    one = launch([sys.executable], kind, photo_folder, tmp_path / "one", "--train_batch_size", "4", *same)
    two = launch(torchrun(2), kind, photo_folder, tmp_path / "two", "--train_batch_size", "2", *same)
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("pipeline saved to") == 1
    losses, others = read_losses(tmp_path / "one"), read_losses(tmp_path / "two")
    assert losses.keys() == others.keys() and len(losses) >= 2
    for name, values in losses.items():
        assert others[name] == pytest.approx(values, rel=1e-3, abs=1e-4), name
    first, second = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert first.keys() == second.keys()
    trained = [name for name in first if "encoder" not in name]
    moved = torch.cat([(first[name] - second[name]).abs().flatten().float() for name in trained])
    # Adam moves a weight by up to 2e-4 in each of the two steps, whatever its gradient's size
    assert moved.max() < 9e-4 and (moved > 1e-5).float().mean() < 0.02


def test_two_processes_resume(photo_folder, tmp_path):
    same = ["--train_batch_size", "2", "--lr_scheduler", "constant", "--gradient_accumulation_steps", "2"]
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    result = launch(torchrun(2), "gan", photo_folder, straight, *same, "--max_train_steps", "4")
    assert result.returncode == 0, result.stderr
    for steps in ("2", "4"):
        more = ["--max_train_steps", steps, "--resume_from_checkpoint", "latest"]
        result = launch(torchrun(2), "gan", photo_folder, parts, *same, *more)
        assert result.returncode == 0, result.stderr
    first, second = weights(straight), weights(parts)
    assert all(torch.equal(first[name], second[name]) for name in first)
    result = launch([sys.executable], "gan", photo_folder, parts, *same, "--resume_from_checkpoint", "latest")
    assert result.returncode == 1 and "was trained with 2 processes; resume with as many" in result.stderr


def test_two_processes_with_a_cache_and_with_a_stream(photo_folder, tmp_path):
    cached = ["--feature_cache_dir", str(tmp_path / "cache")]
    for number, more in enumerate([cached, cached, ["--streaming"]]):
        folder = tmp_path / f"out{number}"
        result = launch(torchrun(2), "diffusion", photo_folder, folder, "--train_batch_size", "2", *more)
        assert result.returncode == 0, result.stderr
        assert Feat2ImgPipeline.from_pretrained(folder).kind == "diffusion"
