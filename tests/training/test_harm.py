"""The scripts while the machine does harm: a full or read-only disk, vanished photos, killed workers, no memory."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from feat2img import Feat2ImgPipeline
from feat2img.training.checkpoints import list_checkpoints, load_checkpoint

LINUX = sys.platform.startswith("linux")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not LINUX, reason="needs /proc and mount")]
SCRIPT = Path(__file__).parents[2] / "examples" / "train_gan.py"
ENDLESS = ["--max_train_steps", "1000000", "--checkpointing_steps", "2"]


@pytest.fixture
def start(photo_folder, tmp_path):
    """`start(output_dir, *flags, **popen)`: the script as a process of its own, killed in the end."""
    started = []

    def run(output_dir, *more, **options):
        command = [
            sys.executable, str(SCRIPT), "--preset", "debug", "--dataset_name", str(photo_folder), "--output_dir",
            str(output_dir), "--report_to", "none", "--image_size", "32", "--resize_size", "32", *map(str, more),
        ]  # fmt: skip
        settings = {"OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache"), "ACCELERATE_USE_CPU": "true"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
        started.append(subprocess.Popen(command, env={**os.environ, **settings}, **pipes, **options))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("may not mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def last_line(process) -> str:
    """What a run that failed says in the end."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1 and "Traceback" not in errors
    line = errors.strip().splitlines()[-1]
    assert line.startswith("train_gan.py: error: ")
    return line


def wait_for_checkpoint(process, folder) -> None:
    deadline = time.monotonic() + 300
    while not list_checkpoints(folder) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list_checkpoints(folder), process.communicate()


def assert_goes_on(start, folder, *more) -> None:
    """The checkpoints are whole, and a run can be taken up from the last one."""
    for path in list_checkpoints(folder):
        load_checkpoint(path)
    step = load_checkpoint(list_checkpoints(folder)[-1])[0]
    process = start(folder, "--resume_from_checkpoint", "latest", "--max_train_steps", step + 1, *more)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert Feat2ImgPipeline.from_pretrained(folder).kind == "gan"


def test_a_full_disk(start, small_disk):
    process = start(small_disk, *ENDLESS, "--checkpoints_total_limit", "1000")
    line = last_line(process)
    checkpoints = list_checkpoints(small_disk)
    assert f"the disk of {small_disk} is full; make room there; {checkpoints[-1]} is complete, go on" in line
    assert len(checkpoints) > 1 and not list(small_disk.glob(".checkpoint*"))
    for path in checkpoints[:-1]:
        shutil.rmtree(path)
    assert_goes_on(start, small_disk)


def test_a_read_only_folder(start, small_disk):
    process = start(small_disk, "--max_train_steps", "2", "--checkpoints_total_limit", "1")
    process.communicate(timeout=300)
    assert process.returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    line = last_line(start(small_disk, "--resume_from_checkpoint", "latest", "--max_train_steps", "4"))
    assert "cannot be written (Read-only file system); give another folder; " in line
    assert f"{small_disk / 'checkpoint-2'} is complete" in line
    line = last_line(start(small_disk / "new"))
    assert "cannot be written (Read-only file system)" in line and "there was no checkpoint yet" in line
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert_goes_on(start, small_disk, "--checkpoints_total_limit", "1")


@pytest.mark.parametrize("streaming", [False, True])
def test_photos_that_vanish(start, photo_folder, tmp_path, streaming):
    kept = shutil.copytree(photo_folder, tmp_path / "kept")
    more = ["--streaming"] if streaming else []
    process = start(tmp_path / "out", *ENDLESS, *more)
    wait_for_checkpoint(process, tmp_path / "out")
    shutil.rmtree(photo_folder)
    line = last_line(process)
    assert any(
        text in line for text in ("photos can be read; the first: ", "cannot be read, the first: ", "skipped ")
    ), line
    assert str(photo_folder) in line
    kept.rename(photo_folder)
    assert_goes_on(start, tmp_path / "out", *more)


def test_a_killed_worker(start, tmp_path):
    process = start(tmp_path / "out", *ENDLESS, "--dataloader_num_workers", "2")
    wait_for_checkpoint(process, tmp_path / "out")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [int(pid) for pid in children if b"train_gan" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(workers[-1], signal.SIGKILL)
    line = last_line(process)
    assert "a process that reads photos was killed, mostly for lack of memory" in line
    assert "use fewer --dataloader_num_workers" in line and "is complete, go on from it" in line
    assert_goes_on(start, tmp_path / "out")


def test_too_little_memory(start, tmp_path):
    process = start(tmp_path / "out", "--max_train_steps", "1")
    process.communicate(timeout=300)
    process = start(
        tmp_path / "out2", "--image_size", 2048, "--resize_size", 2048, "--train_batch_size", 12,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30)),
    )  # fmt: skip
    line = last_line(process)
    assert "out of memory (" in line and "smaller --train_batch_size" in line and "there was no checkpoint yet" in line


def test_a_signal_to_the_whole_group_spares_the_workers(start, tmp_path):
    """As Ctrl-C in a terminal, and as job schedulers do."""
    for number in (signal.SIGINT, signal.SIGTERM):
        folder = tmp_path / number.name
        process = start(folder, *ENDLESS, "--dataloader_num_workers", "2")
        wait_for_checkpoint(process, folder)
        os.killpg(process.pid, number)
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0 and "Traceback" not in errors, errors
        assert f"stopped by {number.name} at step" in output
    assert_goes_on(start, folder)
