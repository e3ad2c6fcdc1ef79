"""What ends a run early: one line, the last good checkpoint untouched, and a way on."""

import errno
import hashlib
import json
import multiprocessing
import os
import signal
from multiprocessing.connection import Client

import pytest
import torch
from safetensors import SafetensorError

from feat2img.data.files import only_user_of
from feat2img.training import failures, loop, train
from feat2img.training.checkpoints import list_checkpoints, load_checkpoint

KINDS = ["gan", pytest.param("diffusion", marks=pytest.mark.slow)]


@pytest.fixture
def run(make_config, photo_folder, tmp_path):
    """`run(kind, name="out", **changes)` trains on the tiny image folder, with a checkpoint at every step."""

    def start(kind, name="out", **changes):
        settings = {"dataset_name": str(photo_folder), "report_to": "none", "checkpointing_steps": 1, **changes}
        return train(make_config(kind, output_dir=str(tmp_path / name), **settings))

    return start


def hashes(folder):
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def states(folder):
    return load_checkpoint(list_checkpoints(folder)[-1])[1]


def assert_equal(first, second):
    if torch.is_tensor(first):
        assert torch.equal(first, second)
    elif isinstance(first, dict | list):
        assert len(first) == len(second)
        for key in first if isinstance(first, dict) else range(len(first)):
            assert_equal(first[key], second[key])
    else:
        assert first == second


# signals


@pytest.mark.parametrize("kind, number", [("gan", signal.SIGTERM), ("diffusion", signal.SIGINT)])
def test_a_signal_ends_the_run_with_a_checkpoint_and_a_message(run, kind, number, monkeypatch, capsys):
    straight = run(kind, "straight", max_train_steps=4)
    after_step = loop.TrainingRun.after_step

    def signalled(self, bar):
        after_step(self, bar)
        if self.progress.step == 2:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingRun, "after_step", signalled)
        folder = run(kind, max_train_steps=4)
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == f"stopped by {number.name} at step 2; go on with --resume_from_checkpoint latest"
    assert not (folder / "model_index.json").exists()
    run(kind, max_train_steps=4, resume_from_checkpoint="latest")
    assert_equal(states(straight), states(folder))


def test_a_signal_before_the_first_step_ends_the_run_at_once(run, monkeypatch, capsys):
    monkeypatch.setattr(loop.TrainingRun, "resume", lambda self: os.kill(os.getpid(), signal.SIGTERM))
    folder = run("gan")
    assert "stopped by SIGTERM before the first step; start again" in capsys.readouterr().out
    assert list_checkpoints(folder) == []


def test_a_signal_while_exporting_leaves_a_whole_pipeline(run, monkeypatch):
    export = loop.TrainingRun.export
    monkeypatch.setattr(
        loop.TrainingRun, "export", lambda self, tally: (os.kill(os.getpid(), signal.SIGTERM), export(self, tally))
    )
    assert (run("gan", max_train_steps=1) / "model_index.json").is_file()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


# two at once, and over one another


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is locked there")
def test_a_second_process_on_the_same_folder_is_refused(run, tmp_path):
    told, tell = os.pipe()
    other = os.fork()
    if other == 0:
        with only_user_of(tmp_path / "out"):
            os.write(tell, b"held")
            signal.pause()
    os.read(told, 4)
    with pytest.raises(ValueError, match=rf"out is in use by another process \(process {other} on "):
        run("gan")
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    run("gan", max_train_steps=1)


def test_a_new_run_does_not_push_out_an_earlier_one_s_checkpoints(run):
    folder = run("gan", max_train_steps=2)
    before = hashes(folder)
    with pytest.raises(ValueError, match="out holds checkpoint-2 of an earlier run; go on with --resume_from_checkp"):
        run("gan", max_train_steps=2)
    assert hashes(folder) == before


# numbers that are none


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_turns_nan_leaves_the_last_good_checkpoint_and_a_way_on(run, kind, monkeypatch, capsys):
    folder = run(kind, max_train_steps=2)
    before = hashes(folder)
    wild = {"learning_rate": 1e30, "max_grad_norm": 1e30, "logging_steps": 1}
    with pytest.raises(ValueError, match=r"is not finite at step \d+; .*smaller --learning_rate") as error:
        run(kind, max_train_steps=9, resume_from_checkpoint="latest", checkpointing_steps=100, **wild)
    assert f"{folder / 'checkpoint-2'} is complete, go on from it with --resume_from_checkpoint" in str(error.value)
    assert "\n" not in str(error.value)
    assert hashes(folder) == before
    run(kind, max_train_steps=4, resume_from_checkpoint="latest", learning_rate=1e-5)
    assert "from here on with other settings: learning_rate: 0.0002 => 1e-05" in capsys.readouterr().out
    assert (folder / "model_index.json").is_file()


def test_the_step_of_the_first_broken_loss_is_named(run, monkeypatch):
    step = loop.GANTask.step

    def broken(self, pixels, features, noise, progress):
        logs = step(self, pixels, features, noise, progress)
        return logs | ({"pixel_loss": logs["pixel_loss"] * float("nan")} if 0.2 < progress < 0.5 else {})

    monkeypatch.setattr(loop.GANTask, "step", broken)
    with pytest.raises(ValueError, match="^pixel_loss is not finite at step 4; .*there was no checkpoint yet"):
        run("gan", max_train_steps=10, logging_steps=10, checkpointing_steps=10)


@pytest.mark.parametrize("part", ["decoder", "ema", "optimizer"])
def test_weights_that_are_not_finite_are_never_saved(run, part, monkeypatch, tmp_path):
    """A gradient can break the weights behind a loss that was fine."""
    update = loop.GANTask.update_ema

    def breaking(self):
        update(self)
        broken = {
            "decoder": next(self.decoder.parameters()),
            "ema": self.ema.shadow_params[0],
            "optimizer": next(iter(self.optimizer.state.values()))["exp_avg"],
        }
        if self.steps_left == 0:
            broken[part].data.view(-1)[0] = float("nan")
        self.steps_left -= 1

    monkeypatch.setattr(loop.GANTask, "steps_left", 2, raising=False)
    monkeypatch.setattr(loop.GANTask, "update_ema", breaking)
    with pytest.raises(
        ValueError, match=rf"the {part}'s state holds NaN or infinity at step 3; .*checkpoint-2 is compl"
    ):
        run("gan", max_train_steps=6)
    assert [path.name for path in list_checkpoints(tmp_path / "out")] == ["checkpoint-1", "checkpoint-2"]
    assert not (tmp_path / "out" / "model_index.json").exists()


# disk, memory, workers


def test_the_scaler_of_half_precision_is_part_of_a_checkpoint(run, monkeypatch):
    make_run = loop.make_run

    def with_scaler(config, stop):
        made = make_run(config, stop)
        made.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0 if config.max_train_steps == 1 else 2.0)
        made.accelerator.scaler._lazy_init_scale_growth_tracker(torch.device("cpu"))
        scalers.append(made.accelerator.scaler)
        return made

    scalers = []
    monkeypatch.setattr(loop, "make_run", with_scaler)
    folder = run("gan", max_train_steps=1)
    assert states(folder)["scaler"]["scale"] == 4.0
    run("gan", max_train_steps=2, resume_from_checkpoint="latest")
    assert [scaler.get_scale() for scaler in scalers] == [4.0, 4.0]


@pytest.mark.parametrize(
    "error, match",
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "^the disk of .*out is full; make room there; there was no",
        ),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "^the disk of .*out is full"),
        (
            OSError(errno.EROFS, "Read-only file system", "x/y"),
            r"^x/y cannot be written \(Read-only file system\); give",
        ),
        (OSError("a strange one\nwith more"), "^OSError: a strange one; there was"),
        (MemoryError(), "^out of memory .*smaller --train_batch_size"),
        (RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: you tried"), "^out of memory"),
        (
            torch.OutOfMemoryError("CUDA out of memory."),
            "^out of memory .CUDA out of memory.*--gradient_checkpointing",
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            "^a process that reads .*num_workers",
        ),
    ],
)
def test_failures_are_one_line(tmp_path, error, match):
    with pytest.raises(ValueError, match=match) as raised, failures.one_line_failures(tmp_path / "out"):
        raise error
    assert "\n" not in str(raised.value) and raised.value.__cause__ is error


def test_a_worker_that_was_gone_when_its_batch_was_fetched_is_named(tmp_path):
    """Killed a moment later than in PyTorch's own message: the connection to it breaks, or leads nowhere."""
    here, there = multiprocessing.Pipe()
    there.close()
    told = "^a process that reads photos was killed, .*--dataloader_num_workers; there was no checkpoint"
    with pytest.raises(ValueError, match=told) as raised, failures.one_line_failures(tmp_path):
        here.recv()
    assert isinstance(raised.value.__cause__, EOFError)
    with pytest.raises(ValueError, match=told), failures.one_line_failures(tmp_path):
        Client(str(tmp_path / "no-socket"), family="AF_UNIX")
    with pytest.raises(ValueError, match="^FileNotFoundError: "), failures.one_line_failures(tmp_path):
        open(tmp_path / "nothing")
    with pytest.raises(EOFError), failures.one_line_failures(tmp_path):
        raise EOFError("of the code's own")


def test_a_mistake_in_the_code_keeps_its_traceback(tmp_path):
    with pytest.raises(RuntimeError, match="size mismatch"), failures.one_line_failures(tmp_path):
        raise RuntimeError("size mismatch")


# resuming what has changed


def test_resuming_on_other_photos_is_refused(run, photo_folder):
    run("gan", max_train_steps=1)
    next((photo_folder / "train").iterdir()).unlink()
    with pytest.raises(ValueError, match="was trained on 12 photos, now there are 11; resume on the same data set"):
        run("gan", max_train_steps=2, resume_from_checkpoint="latest")


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stream_goes_on_exactly_where_it_was(run, workers, monkeypatch):
    monkeypatch.setattr(loop, "STATISTICS_IMAGES", 8)
    options = {"streaming": True, "random_crop": True, "dataloader_num_workers": workers, "train_batch_size": 2}
    options |= {"max_train_samples": None}
    straight = run("gan", "straight", max_train_steps=8, **options)
    run("gan", "parts", max_train_steps=8, **options, resume_from_checkpoint=str(straight / "checkpoint-7"))
    assert_equal(states(straight), states(straight.parent / "parts"))
    with pytest.raises(ValueError, match=f"with --dataloader_num_workers {workers}, which decides the order"):
        options["dataloader_num_workers"] += 1
        run("gan", "straight", max_train_steps=9, resume_from_checkpoint="latest", **options)


@pytest.mark.parametrize("damage", ["settings", "shape"])
def test_a_checkpoint_that_does_not_fit_is_refused(run, damage):
    folder = run("gan", max_train_steps=1)
    path = folder / "checkpoint-1" / "state.json"
    state = json.loads(path.read_text())
    if damage == "settings":
        del state["info"]["config"]
    else:
        state["structures"]["decoder"]["items"].pop()
    path.write_text(json.dumps(state))
    with pytest.raises(ValueError, match="lacks its settings|does not fit this run") as error:
        run("gan", max_train_steps=2, resume_from_checkpoint="latest")
    assert "\n" not in str(error.value)
