"""To the Hub and back, against a Hub on loopback; nothing of the client is replaced.

The client reads its settings when it is imported, so every test runs a fresh process with an empty cache of its own.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.utils import filter_repo_objects

from feat2img.pipelines.hub import ALLOWED_PATTERNS, NOT_TO_BE_HAD, is_hub_name
from tests.hub_server import HubServer, Repository

PRELUDE = """
import json, sys
import torch
from feat2img import Feat2ImgGANPipeline, Feat2ImgPipeline
torch.set_num_threads(1)

def load(*args, **kwargs):
    try:
        return type(Feat2ImgPipeline.from_pretrained(*args, **kwargs)).__name__
    except ValueError as error:
        return str(error)
"""


@pytest.fixture
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture
def saved(make_gan, tmp_path) -> Path:
    """A tiny GAN pipeline in a folder."""
    make_gan().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def python(hub, tmp_path):
    """`python(code, cache="cache", **environment)` runs code in a fresh process; returns what it prints, as JSON."""

    def run(code: str, cache: str = "cache", **environment):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / cache), "OMP_NUM_THREADS": "1"}
        environment = {**clean, **own, "NO_PROXY": "127.0.0.1", **environment}
        command = [sys.executable, "-c", PRELUDE + textwrap.dedent(code)]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout.splitlines()[-1])

    return run


def publish(hub: HubServer, name: str, folder: Path, private: bool = False) -> str:
    """Put a folder on the server without a client; returns the commit."""
    hub.repositories[name] = Repository(private)
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return hub.repositories[name].commit("main", files)


def images(pipe) -> np.ndarray:
    features = torch.linspace(0, 1, 48 * 16).view(1, 48, 4, 4)
    return pipe(features=features, output_type="np").images


def test_the_round_trip_of_a_private_repository(hub, python, saved, make_gan, tmp_path):
    hub.repositories["someone/edited"] = Repository(False)
    hub.repositories["someone/edited"].commit("main", {"README.md": b"---\nlicense: mit\n---\nMy own words."})
    address = python(
        f"""
        pipe = Feat2ImgPipeline.from_pretrained(r"{saved}")
        first = pipe.push_to_hub("tiny", private=True, license="apache-2.0")
        pipe.push_to_hub("tiny", revision="half")
        pipe.push_to_hub("edited")
        print(json.dumps(first))
        """,
        HF_TOKEN="hf_owner",
    )
    assert address.startswith(f"{hub.address}/someone/tiny/commit/")
    assert hub.repositories["someone/tiny"].private
    assert set(hub.repositories["someone/tiny"].branches) == {"main", "half"}
    weights = "diffusion_pytorch_model.safetensors"
    parts = [f"{name}/{file}" for name in ("encoder", "generator", "projector") for file in ("config.json", weights)]
    assert set(hub.files("someone/tiny")) == {".gitattributes", "README.md", "model_index.json", *parts}
    assert hub.requests["POST /api/validate-yaml"] >= 2  # the client has a card checked before it sends it
    card = ModelCard(hub.files("someone/tiny")["README.md"].decode())
    assert card.data.license == "apache-2.0" and 'from_pretrained("someone/tiny")' in card.text
    assert "model_index.json" in hub.files("someone/edited")
    assert hub.files("someone/edited")["README.md"].endswith(b"My own words.")  # a card that others wrote stays

    found = python(
        f"""
        import numpy
        names = [load("someone/tiny", token="hf_owner", revision=revision) for revision in ("main", "half", "third")]
        pipe = Feat2ImgGANPipeline.from_pretrained("someone/tiny", token="hf_owner")
        features = torch.linspace(0, 1, 48 * 16).view(1, 48, 4, 4)
        numpy.save(r"{tmp_path}/images.npy", pipe(features=features, output_type="np").images)
        print(json.dumps(names))
        """,
        cache="another",
    )
    assert found[:2] == ["Feat2ImgGANPipeline"] * 2
    assert found[2] == f"someone/tiny {NOT_TO_BE_HAD}: it has no revision third; name a branch, a tag or a commit"
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), images(make_gan()))

    offline = python(
        'print(json.dumps([load("someone/tiny"), load("someone/tiny", revision="half"), load("someone/other")]))',
        cache="another",
        HF_HUB_OFFLINE="1",
    )
    assert offline[:2] == ["Feat2ImgGANPipeline"] * 2
    assert offline[2].startswith(f"someone/other {NOT_TO_BE_HAD}: it is not in the cache, and the Hub is not")


def test_what_the_hub_refuses_and_what_is_no_pipeline(hub, python, saved):
    publish(hub, "someone/secret", saved, private=True)
    publish(hub, "someone/open", saved)
    weights = "generator/diffusion_pytorch_model.safetensors"
    hub.failures[weights] = [429]  # a Hub that is busy is asked again
    for name, files in {
        "someone/sd": {"model_index.json": b'{"_class_name": "StableDiffusionPipeline"}', "unet/w.safetensors": b""},
        "someone/empty": {"README.md": b"nothing yet"},
    }.items():
        hub.repositories[name] = Repository(False)
        hub.repositories[name].commit("main", files)
    unread, loaded, others, unmade, unwritten = python(
        f"""
        pipe = Feat2ImgPipeline.from_pretrained(r"{saved}")
        def push(*args, **kwargs):
            try:
                return pipe.push_to_hub(*args, **kwargs)
            except ValueError as error:
                return str(error)
        print(json.dumps([
            [load("someone/secret"), load("someone/secret", token="hf_stranger"), load("someone/nothing")],
            load("someone/open"),
            [load("someone/sd"), load("someone/empty")],
            [push("mine"), push("someone/new", token="hf_stranger")],
            push("someone/open", token="hf_stranger"),
        ]))
        """
    )
    for name, message in zip(("secret", "secret", "nothing"), unread, strict=True):
        assert message.startswith(f"someone/{name} {NOT_TO_BE_HAD}: there is no such repository, or it is ")
    assert "no token is set, see `hf auth login`" in unread[0] and "see the token that was given" in unread[1]
    assert loaded == "Feat2ImgGANPipeline" and hub.failures[weights] == []
    assert others[0].startswith("someone/sd holds a StableDiffusionPipeline, not a feat2img pipeline")
    assert not any("unet" in request for request in hub.requests)  # nothing large is fetched of another pipeline
    assert others[1] == f"someone/empty {NOT_TO_BE_HAD}: it holds no model_index.json and so no pipeline"
    assert unmade[0].startswith("mine cannot be made on the Hub: ") and "`hf auth login`" in unmade[0]
    assert unmade[1].startswith("someone/new cannot be made on the Hub: it refuses (403)")
    assert unwritten.startswith("someone/open cannot be written on the Hub: it refuses (403)")
    assert not any("\n" in message for message in [*unread, *others, *unmade, unwritten])
    assert "someone/new" not in hub.repositories and "stranger/mine" not in hub.repositories


@pytest.mark.slow
def test_a_hub_that_is_down_is_named(hub, python, saved):
    publish(hub, "someone/tiny", saved)
    hub.failures |= {"/resolve/main/model_index.json": [503] * 1000, "/commit/main": [500] * 1000}
    down, unwritten = python(
        f"""
        try:
            pushed = Feat2ImgPipeline.from_pretrained(r"{saved}").push_to_hub("tiny", token="hf_owner")
        except ValueError as error:
            pushed = str(error)
        print(json.dumps([load("someone/tiny"), pushed]))
        """
    )
    assert down.startswith(f"someone/tiny {NOT_TO_BE_HAD}: ") and "503" in down and "\n" not in down
    assert unwritten.startswith("someone/tiny cannot be written on the Hub: ") and "500" in unwritten
    away = python('print(json.dumps(load("someone/tiny")))', HF_ENDPOINT="http://127.0.0.1:9")
    assert away.startswith(f"someone/tiny {NOT_TO_BE_HAD}: ") and "http://127.0.0.1:9" in away


def test_only_json_safetensors_and_texts_are_fetched():
    harmless = [
        "model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "README.md", "NOTICE",
        "training.json", "samples.jpg",
    ]  # fmt: skip
    others = [
        "unet/diffusion_pytorch_model.bin", "pipeline.py", "unet/modeling.py", "model.pt", "weights.ckpt", "x.pkl",
    ]  # fmt: skip
    assert list(filter_repo_objects(harmless + others, allow_patterns=ALLOWED_PATTERNS)) == harmless


def test_what_can_be_a_name_on_the_hub():
    assert is_hub_name("someone/tiny")
    assert not any(map(is_hub_name, ("tiny", "./tiny", "/some/tiny", "~/tiny", "a/b/c", "someone/")))
