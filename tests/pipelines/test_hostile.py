"""Pipelines from strangers: what they may name, where they may reach, and how much they may ask for."""

import json
import os
import resource
import shutil
import struct
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from feat2img import Feat2ImgPipeline

WEIGHTS = "diffusion_pytorch_model.safetensors"
ALLOWED_MEGABYTES = 100  # beyond what the process has already; each of these files would ask for gigabytes


@pytest.fixture(scope="module")
def saved(make_gan, make_diffusion, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    make_gan().save_pretrained(folder / "gan")
    make_diffusion().save_pretrained(folder / "diffusion")
    return folder


@pytest.fixture
def gan(saved, tmp_path):
    return shutil.copytree(saved / "gan", tmp_path / "gan")


@pytest.fixture
def diffusion(saved, tmp_path):
    return shutil.copytree(saved / "diffusion", tmp_path / "diffusion")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def assert_refused(folder, match):
    with pytest.raises(ValueError, match=match) as error:
        Feat2ImgPipeline.from_pretrained(folder)
    assert "\n" not in str(error.value)


def assert_refused_in_little_memory(folder, match, mapped=0):
    """In a process of its own that may not take more than a little, nor map more than so many megabytes of files."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        resource.setrlimit(resource.RLIMIT_AS, (used + (ALLOWED_MEGABYTES + mapped << 20),) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
        try:
            Feat2ImgPipeline.from_pretrained(folder)
            said = "loaded"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident) >> 10
        os.write(tell, (said if grown < ALLOWED_MEGABYTES else f"took {grown} MiB").encode())
        os._exit(0)
    os.close(tell)
    with os.fdopen(told) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    assert said.startswith("ValueError: ") and "\n" not in said
    assert match in said


# where they reach


def test_links_out_of_the_folder_are_refused(gan, tmp_path):
    secret = tmp_path / "secret"
    shutil.move(gan / "projector", secret)
    (gan / "projector").symlink_to(secret)
    assert_refused(gan, "gan/projector is a link to a file elsewhere; put the file itself there")
    (gan / "projector").unlink()
    shutil.move(secret, gan / "projector")
    (tmp_path / WEIGHTS).write_bytes((gan / "projector" / WEIGHTS).read_bytes())
    (gan / "projector" / WEIGHTS).unlink()
    (gan / "projector" / WEIGHTS).symlink_to(f"../../{WEIGHTS}")
    assert_refused(gan, f"{WEIGHTS} is a link to a file elsewhere")


def test_links_of_the_hub_s_cache_and_to_the_folder_itself_are_followed(gan, tmp_path):
    repository = tmp_path / "models--someone--gan"
    snapshot = shutil.copytree(gan, repository / "snapshots" / "0123abc")
    (repository / "blobs").mkdir()
    for number, file in enumerate(path for path in sorted(snapshot.rglob("*")) if path.is_file()):
        file.rename(repository / "blobs" / str(number))
        file.symlink_to(os.path.relpath(repository / "blobs" / str(number), file.parent))
    Feat2ImgPipeline.from_pretrained(snapshot)
    (tmp_path / "alias").symlink_to(gan)
    Feat2ImgPipeline.from_pretrained(tmp_path / "alias")


@pytest.mark.parametrize("name", ["../projector", "projector/../../secret", "/etc", ""])
def test_components_outside_the_folder_are_no_components(gan, name):
    index = json.loads((gan / "model_index.json").read_text())
    edit(gan / "model_index.json", **{name: index["projector"]})
    assert_refused(gan, "which is no component of feat2img")


def test_weights_in_several_files_are_refused(gan):
    """Their index could name any file."""
    names = load_file(gan / "projector" / WEIGHTS)
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, f"../../{WEIGHTS}")}
    (gan / "projector" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert_refused(gan, "holds weights in several files, which feat2img does not write")


# how much they ask for


HUGE = [
    ("gan", "projector/config.json", {"hidden_channels": 4 * 10**9}, "describes no FeatureProjector: Storage size"),
    ("gan", "projector/config.json", {"feature_channels": 10**10}, "expected shape (10000000000,)"),
    ("gan", "projector/config.json", {"num_blocks": 10**6}, "has num_blocks 1000000, its weights are 15 tensors"),
    ("gan", "projector/config.json", {"feature_size": [10**5, 10**5]}, "the decoder was trained on (48, 100000, 100"),
    ("gan", "generator/config.json", {"block_out_channels": [10**5, 10**5]}, "expected shape (100000,"),
    ("gan", "generator/config.json", {"layers_per_block": 10**7}, "has layers_per_block 10000000, its weights"),
    ("gan", "encoder/config.json", {"image_size": 10**5}, "has image_size 100000, the pipeline 32"),
    ("gan", "encoder/config.json", {"model_name": "wide_resnet101_2"}, "is (32,), expected shape (64,)"),
    ("gan", "encoder/config.json", {"model_name": "hf-hub:evil/network"}, "timm has no model 'hf-hub:evil/network'"),
    ("gan", "encoder/config.json", {"model_name": "local-dir:/tmp"}, "timm has no model 'local-dir:/tmp'"),
    ("gan", "model_index.json", {"image_size": 10**7}, "holds image_size 10000000 and resize_size 32"),
    ("gan", "model_index.json", {"resize_size": 10**7}, "holds image_size 32 and resize_size 10000000"),
    ("gan", "model_index.json", {"image_size": "32"}, "holds the size '32'; expected a whole number from 1"),
    ("diffusion", "model_index.json", {"patch_size": 0}, "holds the size 0"),
    ("diffusion", "unet/config.json", {"block_out_channels": [10**5, 10**5]}, "expected shape (100000,"),
    ("diffusion", "unet/config.json", {"layers_per_block": 10**5}, "has layers_per_block 100000, its weights are"),
    ("diffusion", "unet/config.json", {"down_block_types": ["os.system", "x"]}, "describes no UNet2DConditionModel"),
    ("diffusion", "scheduler/scheduler_config.json", {"num_train_timesteps": 10**11}, "expected 1 to 100000"),
    ("diffusion", "scheduler/scheduler_config.json", {"trained_betas": []}, "describes no DDIMScheduler: "),
    ("diffusion", "scheduler/scheduler_config.json", {"beta_schedule": "x"}, "describes no DDIMScheduler: x is not"),
]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and /proc")
@pytest.mark.parametrize("kind, file, changes, match", HUGE, ids=[f"{h[0]}-{h[1]}-{next(iter(h[2]))}" for h in HUGE])
def test_sizes_that_do_not_fit_are_refused_before_memory_is_taken(kind, file, changes, match, request):
    folder = request.getfixturevalue(kind)
    edit(folder / file, **changes)
    assert_refused_in_little_memory(folder, match)


def header_of(shape, offsets) -> bytes:
    header = json.dumps({"feature_mean": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()
    return struct.pack("<Q", len(header)) + header


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and /proc")
@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 1 << 20) + b"{" * 100,
        header_of([10**12], [0, 4 * 10**12]),
        header_of([2**62, 4], [0, 16]) + bytes(16),
        header_of([-1], [0, 16]) + bytes(16),
        header_of([4], [16, 0]) + bytes(16),
        b"",
    ],
    ids=["endless header", "no header", "beyond the end", "overflow", "negative", "backwards", "empty"],
)
def test_safetensors_that_lie_are_refused_by_name(gan, content):
    (gan / "projector" / WEIGHTS).write_bytes(content)
    assert_refused_in_little_memory(gan, f"projector/{WEIGHTS} is damaged")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and /proc")
def test_a_huge_file_of_other_shapes_is_refused_unread(gan):
    path = gan / "projector" / WEIGHTS
    path.write_bytes(header_of([1 << 32], [0, 1 << 34]))
    os.truncate(path, path.stat().st_size + (1 << 34))  # 16 GiB of nothing, which take no room
    assert_refused_in_little_memory(gan, "feature_mean is (4294967296,), expected shape (48,)", mapped=34 << 10)


def test_a_tensor_more_or_less_is_refused(gan):
    path = gan / "generator" / WEIGHTS
    weights = load_file(path)
    save_file({**weights, "more": torch.zeros(1)}, path)
    assert_refused(gan, r"more is \(1,\), expected shape nothing of this name")
    save_file({name: weight for name, weight in weights.items() if name != "last.bias"}, path)
    assert_refused(gan, r"last.bias is missing, expected shape \(3,\)")


@pytest.mark.parametrize("file", ["model_index.json", "projector/config.json"])
@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, " " * (2 << 20) + "{}", "3", '{"a": 1' + "0" * 5000 + "}"],
    ids=["deep", "large", "a number", "digits"],
)
def test_json_that_is_none_of_ours_is_refused(gan, file, content):
    (gan / file).write_text(content)
    assert_refused(gan, "is not valid JSON|is larger than 1024 KiB|expected an object")
