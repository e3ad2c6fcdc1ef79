"""Runs that die at any moment and are taken up again, against one that nobody disturbed."""

import multiprocessing
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from feat2img import Feat2ImgPipeline
from feat2img.training import train
from feat2img.training.checkpoints import list_checkpoints, load_checkpoint

STEPS, KILLS = 110, 20
FORKS = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


@pytest.fixture
def processes(tmp_path, monkeypatch):
    """A context whose processes are forked off one that has imported everything, so that a start takes no seconds."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["feat2img.training"])
    multiprocessing.forkserver._forkserver._stop()  # an earlier test's has another environment
    yield context
    multiprocessing.forkserver._forkserver._stop()


@pytest.fixture
def config(make_config, photo_folder):
    def make(kind, output_dir, **changes):
        return make_config(
            kind, output_dir=str(output_dir), dataset_name=str(photo_folder), report_to="none", max_train_steps=STEPS,
            checkpointing_steps=1, validation_steps=20, **changes,
        )  # fmt: skip

    return make


def everything(folder: Path) -> dict:
    """All weights of the export, and all that the last checkpoint holds but clocks."""
    files = {str(path.relative_to(folder)): load_file(path) for path in sorted(folder.glob("*/*.safetensors"))}
    _, states, info = load_checkpoint(list_checkpoints(folder)[-1])
    return {"files": files, "states": states, "info": {**info, "config": None, "minutes": None}}


def differences(first, second, place="") -> list[str]:
    if torch.is_tensor(first):
        return [] if torch.equal(first, second) else [place]
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        return [found for key in first for found in differences(first[key], second[key], f"{place}/{key}")]
    if isinstance(first, list | tuple):
        assert len(first) == len(second)
        pairs = zip(first, second, strict=True)
        return [found for index, pair in enumerate(pairs) for found in differences(*pair, f"{place}/{index}")]
    return [] if first == second else [place]


def last_step(folder: Path) -> int:
    return max((int(path.name.split("-")[1]) for path in list_checkpoints(folder)), default=0)


def kill_somewhere(process, folder: Path, rng: random.Random) -> bool:
    """SIGKILL while it starts, within a step, or within writing a checkpoint; whether it was in the last."""
    until = time.monotonic() + (rng.uniform(0, 2) if rng.random() < 0.2 else 120)
    target, while_writing = last_step(folder) + rng.randint(0, 4), rng.random() < 0.6
    before = {path.stat().st_ino for path in folder.glob(".checkpoint-*.partial")}
    while process.is_alive() and time.monotonic() < until:
        writing = {path.stat().st_ino for path in folder.glob(".checkpoint-*.partial") if path.exists()} - before
        if last_step(folder) >= target and (writing or not while_writing):
            time.sleep(rng.uniform(0, 0.01 if while_writing else 0.1))
            break
        time.sleep(0.0005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return any(path.stat().st_ino not in before for path in folder.glob(".checkpoint-*.partial"))


@FORKS
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gan", "diffusion"])
def test_killed_twenty_times_the_weights_are_those_of_an_undisturbed_run(kind, config, processes, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    train(config(kind, straight))
    rng, inside = random.Random(kind), 0
    settings = config(kind, killed, resume_from_checkpoint="latest")
    for _ in range(KILLS):
        process = processes.Process(target=train, args=(settings,))
        process.start()
        inside += kill_somewhere(process, killed, rng)
        for path in list_checkpoints(killed):  # each of them is complete
            load_checkpoint(path)
    assert inside >= 3 and last_step(killed) < STEPS
    train(settings)
    assert differences(everything(straight), everything(killed)) == []
    assert Feat2ImgPipeline.from_pretrained(killed).kind == kind
    assert not [path for path in killed.glob(".*") if path.is_dir()]
