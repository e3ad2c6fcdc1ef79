import json
import os
import shutil

import pytest
import torch
from diffusers.training_utils import EMAModel

from feat2img.training import checkpoints
from feat2img.training.checkpoints import (
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
    tidy_checkpoints,
)

INFO = {"config": {"seed": 3}, "minutes": 1.5}


def assert_equal(first, second):
    """Equal nested states; tuples may have become lists."""
    if torch.is_tensor(first):
        assert torch.equal(first, second) and first.dtype == second.dtype and first.shape == second.shape
    elif isinstance(first, dict):
        assert list(first) == list(second)
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal(one, other)
    else:
        assert first == second and type(first) is type(second)


def save(folder, step, limit=None):
    return save_checkpoint(folder, step, {"model": {"weight": torch.full((2,), float(step))}}, INFO, limit)


def test_nested_states_round_trip(tmp_path):
    state = {
        "scalar": torch.tensor(3.5), "half": torch.randn(2, 3).half(), "count": torch.tensor([1, 2]),
        "empty": torch.zeros(0, 4), 7: {"7": torch.ones(1), 8: [torch.zeros(2), None, True, 1.5, "text"]},
        "items": {"__tensor": 1}, "nothing": {}, "list": [],
    }  # fmt: skip
    path = save_checkpoint(tmp_path, 12, {"first": state, "second": {}}, INFO, None)
    assert path == tmp_path / "checkpoint-12"
    step, states, info = load_checkpoint(path)
    assert step == 12 and info == INFO
    assert_equal(state, states["first"])
    assert states["second"] == {}


def test_views_of_one_tensor_are_saved_apart(tmp_path):
    base = torch.arange(6.0)
    state = {"a": base[:3], "b": base, "c": base.view(2, 3).T}
    path = save_checkpoint(tmp_path, 1, {"model": state}, INFO, None)
    assert_equal(state, load_checkpoint(path)[1]["model"])


def make_training():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    return model, torch.optim.AdamW(model.parameters(), lr=0.1), EMAModel(model.parameters(), decay=0.9)


def train_step(model, optimizer, ema):
    model(torch.ones(1, 3)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    ema.step(model.parameters())


def test_optimizer_and_ema_go_on_where_they_were(tmp_path):
    straight, resumed = make_training(), make_training()
    for _ in range(2):
        train_step(*straight)
    names = ("model", "optimizer", "ema")
    states = {name: part.state_dict() for name, part in zip(names, straight, strict=True)}
    assert set(states["optimizer"]["state"]) == {0, 1, 2, 3}
    path = save_checkpoint(tmp_path, 2, states, INFO, None)
    for name, part in zip(names, resumed, strict=True):
        part.load_state_dict(load_checkpoint(path)[1][name])
    for training in (straight, resumed):
        train_step(*training)
    for one, other in zip(straight, resumed, strict=True):
        assert_equal(one.state_dict(), other.state_dict())


def test_only_json_and_safetensors(tmp_path):
    path = save_checkpoint(tmp_path, 1, {"model": {"w": torch.ones(1)}, "ema": {"w": torch.ones(1)}}, INFO, None)
    assert sorted(file.name for file in path.iterdir()) == ["ema.safetensors", "model.safetensors", "state.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_the_limit_keeps_the_newest(tmp_path):
    for step in (2, 4, 10, 100):
        save(tmp_path, step, limit=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-10", "checkpoint-100"]
    assert find_checkpoint(tmp_path, "latest").name == "checkpoint-100"
    assert not (tmp_path / "checkpoint-2").exists()


def test_saving_a_step_again_replaces_it(tmp_path):
    save(tmp_path, 1)
    save_checkpoint(tmp_path, 1, {"model": {"weight": torch.zeros(5)}}, INFO, 1)
    assert load_checkpoint(tmp_path / "checkpoint-1")[1]["model"]["weight"].shape == (5,)


def test_what_is_not_complete_is_not_the_latest(tmp_path):
    save(tmp_path, 2)
    for name in (".checkpoint-9.partial", "checkpoint-8", "checkpoint-x", "checkpoint-10-old"):
        (tmp_path / name).mkdir()
    (tmp_path / ".checkpoint-9.partial" / "state.json").write_text("{}")
    (tmp_path / "checkpoint-10-old" / "state.json").write_text("{}")
    (tmp_path / "checkpoint-8" / "model.safetensors").write_bytes(b"half")
    (tmp_path / "checkpoint-12").write_text("a file")
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-2"]
    assert find_checkpoint(tmp_path, "latest").name == "checkpoint-2"


def test_a_failed_save_leaves_the_earlier_ones_and_can_be_repeated(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 1, {"model": {"weight": torch.zeros(2)}}, {"not json": object()}, 1)
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 2, {"model": {"weight": torch.zeros(2)}}, {"not json": object()}, 1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-1"]
    assert load_checkpoint(tmp_path / "checkpoint-1")[1]["model"]["weight"].tolist() == [1, 1]
    save(tmp_path, 2)
    assert not list(tmp_path.glob(".checkpoint-2*"))


@pytest.mark.parametrize("damage", ["truncated weights", "truncated json", "missing weights", "foreign json"])
def test_damaged_checkpoints_are_refused(tmp_path, damage):
    path = save(tmp_path, 3)
    file = path / ("model.safetensors" if "weights" in damage else "state.json")
    content = file.read_bytes()
    if damage == "missing weights":
        file.unlink()
    else:
        file.write_bytes(b"[1]" if damage == "foreign json" else content[: len(content) // 2])
    with pytest.raises(ValueError, match="checkpoint-3 is no complete checkpoint .*; resume from an earlier") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


def test_finding(tmp_path):
    assert find_checkpoint(tmp_path, "latest") is None
    assert find_checkpoint(tmp_path / "not there yet", "latest") is None
    path = save(tmp_path, 5)
    assert find_checkpoint(tmp_path, "checkpoint-5") == find_checkpoint(tmp_path / "elsewhere", str(path)) == path
    with pytest.raises(ValueError, match="no checkpoint checkpoint-6 .*checkpoint-5.*; give one of these"):
        find_checkpoint(tmp_path, "checkpoint-6")


def test_the_state_is_readable_json(tmp_path):
    content = json.loads((save(tmp_path, 4) / "state.json").read_text())
    assert content["step"] == 4 and content["info"] == INFO


# killed while saving


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("step", [4, 6], ids=["a step that is there", "a new step"])
def test_killed_at_any_moment_of_saving_the_latest_is_complete(tmp_path, step, killed_before_event):
    for earlier in (2, 4):
        save(tmp_path / "before", earlier)
    for moment in range(1, 1000):
        folder = tmp_path / "now"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "before", folder)
        if not killed_before_event(moment, lambda: save(folder, step, limit=2)):  # noqa: B023
            break
        assert [load_checkpoint(path)[0] for path in list_checkpoints(folder)]  # each of them is complete
        tidy_checkpoints(folder)
        found = [load_checkpoint(path)[0] for path in list_checkpoints(folder)]
        assert found[-1] in (4, step) and len(found) >= 2
        assert not list(folder.glob(".*"))
        save(folder, step, limit=2)
        assert find_checkpoint(folder, "latest").name == f"checkpoint-{step}"
    assert moment > 8


def test_what_was_just_saved_is_kept_beside_later_ones(tmp_path):
    """As after going on from an earlier checkpoint than the last."""
    for step in (4, 6):
        save(tmp_path, step)
    save(tmp_path, 3, limit=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-3", "checkpoint-6"]
    save(tmp_path, 5, limit=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-5"]


# what does not fit, or reaches out


def assert_refused(path, targets, match):
    with pytest.raises(ValueError, match=match) as error:
        load_checkpoint(path, targets)
    assert "\n" not in str(error.value)


def test_shapes_that_do_not_fit_are_refused_before_they_are_read(tmp_path, monkeypatch):
    model, optimizer, ema = make_training()
    train_step(model, optimizer, ema)
    targets = {"model": model, "optimizer": optimizer, "ema": ema}
    path = save_checkpoint(tmp_path, 1, {name: target.state_dict() for name, target in targets.items()}, INFO, None)
    load_checkpoint(path, targets)
    wide = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))
    others = {
        "model": wide,
        "optimizer": torch.optim.AdamW(wide.parameters()),
        "ema": EMAModel(wide.parameters()),
    }
    monkeypatch.setattr(checkpoints, "load_file", lambda path: pytest.fail(f"{path} was read"))
    for name, other in others.items():
        assert_refused(path, {**targets, name: other}, rf"{name}\S* has shape \(\d.*\), expected \(")
    assert_refused(path, {"model": model}, r"it holds \['ema', 'model', 'optimizer'\], expected \['model'\]")


def test_what_reaches_out_of_the_folder_is_refused(tmp_path):
    save(tmp_path / "elsewhere", 1)
    path = save(tmp_path / "run", 2)
    state = json.loads((path / "state.json").read_text())
    for name in ("../../elsewhere/checkpoint-1/model", "/etc/passwd", ".."):
        (path / "state.json").write_text(json.dumps({**state, "structures": {name: {}}}))
        assert_refused(path, None, "names a state '")
    (path / "state.json").write_text(json.dumps(state))
    (path / "model.safetensors").unlink()
    (path / "model.safetensors").symlink_to(tmp_path / "elsewhere" / "checkpoint-1" / "model.safetensors")
    assert_refused(path, None, "model.safetensors is a link to a file elsewhere")


@pytest.mark.parametrize("changes", [{"step": -1}, {"step": "2"}, {"info": []}, {"structures": 3}])
def test_a_state_of_other_kinds_is_refused(tmp_path, changes):
    path = save(tmp_path, 2)
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**state, **changes}))
    assert_refused(path, None, "is no complete checkpoint")
    (path / "state.json").write_text('{"structures": ' + "[" * 100_000)
    assert_refused(path, None, "is no complete checkpoint")
