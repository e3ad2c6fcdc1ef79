"""Inputs by the thousand: every one ends in a result, or in a ValueError or exit code 2 with one line. None hangs."""

import dataclasses
import io
import json
import shutil
import signal
import typing

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from feat2img import Feat2ImgPipeline
from feat2img.cli import main
from feat2img.data import ImageTransform, PhotoFiles, SkipTally, pixels_to_uint8, to_rgb, uint8_to_pixels
from feat2img.data.sources import load_photos
from feat2img.evaluation import CompareSettings, feature_cosine, psnr, ssim
from feat2img.evaluation.sweep import SweepSettings
from feat2img.features import TimmFeatureEncoder
from feat2img.models import FeatureGenerator, FeatureProjector
from feat2img.training import DIFFUSION_PRESETS, GAN_PRESETS, DiffusionConfig, GANConfig, parse_config
from feat2img.training.checkpoints import load_checkpoint, save_checkpoint
from feat2img.training.examples import EndlessBatches
from tests.drawn import JSON, NUMBERS, WORDS, damaged, pictures, tensors

FEW, MANY = 10, 720
SECONDS = 60  # a case that takes longer hangs

# what may come out


def ends_well(action, *also):
    """The result, or None where it was refused in one line (or with an error of the kinds in `also`)."""
    try:
        return action()
    except ValueError as error:
        assert str(error) and "\n" not in str(error), repr(error)
    except also:
        pass


@pytest.fixture(scope="module")
def things(make_gan, make_diffusion, tmp_path_factory):
    """What the properties work on: pipelines in memory and on disk, a checkpoint, photos."""
    folder = tmp_path_factory.mktemp("things")
    pipes = {"gan": make_gan(), "diffusion": make_diffusion()}
    for name, pipe in pipes.items():
        pipe.save_pretrained(folder / name)
        pipe.set_progress_bar_config(disable=True)
    model = torch.nn.Linear(2, 3)
    state = {"model": model.state_dict(), "optimizer": torch.optim.AdamW(model.parameters()).state_dict()}
    save_checkpoint(folder, 3, state, {"config": {}}, None)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8))
    files = {}
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"):
        content = io.BytesIO()
        noise.save(content, kind)
        files[kind] = content.getvalue()
    (folder / "photos").mkdir()
    (folder / "photos" / "one.png").write_bytes(files["PNG"])
    return {"folder": folder, "pipes": pipes, "files": files, "model": model}


# the properties: pixels and photos


def pixel_ranges(data, things):
    values = data.draw(tensors())
    ends_well(lambda: uint8_to_pixels(values))
    result = ends_well(lambda: pixels_to_uint8(values))
    assert result is None or result.dtype == torch.uint8


def transforms(data, things):
    options = {name: data.draw(st.integers(-1, 48)) for name in ("image_size", "resize_size")}
    flags = {name: data.draw(st.booleans()) for name in ("random_crop", "random_flip")}
    transform = ends_well(lambda: ImageTransform(**options, **flags))
    picture = data.draw(pictures())
    if transform is not None:
        result = ends_well(lambda: transform(picture))
        size = options["image_size"]
        assert result is None or (result.shape == (3, size, size) and -1 <= result.min() and result.max() <= 1)
    result = ends_well(lambda: to_rgb(picture))
    assert result is None or result.mode == "RGB"


def photo_files(data, things):
    kind = data.draw(st.sampled_from(sorted(things["files"])))
    path = things["folder"] / "damaged"
    path.write_bytes(data.draw(damaged(things["files"][kind])))
    example = PhotoFiles([path], ImageTransform(16, 16))[0]
    assert "skipped" in example or example["pixel_values"].shape == (3, 16, 16)
    assert "skipped" not in example or ("\n" not in example["skipped"].reason and example["skipped"].reason)


def data_sets(data, things):
    source = data.draw(st.sampled_from(["photos", "photos/one.png", "nowhere", "", "gan"]))
    split = data.draw(st.sampled_from(["train", "test", "train[:1]", "train[5:", "train+x", "[", ""]) | WORDS)
    num_images = data.draw(st.none() | st.integers(-1, 3))
    photos = ends_well(lambda: load_photos(str(things["folder"] / source) + "/", split, num_images=num_images))
    assert photos is None or "image" in photos.column_names


def tallies(data, things):
    share, seen = data.draw(NUMBERS), data.draw(st.none() | st.integers(0, 5))
    tally = ends_well(lambda: SkipTally(share, seen))
    if tally is not None:
        for good in data.draw(st.lists(st.integers(0, 200), max_size=3)):
            ends_well(lambda good=good: tally.add({"indices": range(good), "skipped": []}))
        ends_well(tally.finish)
        assert "\n" not in tally.summary()


# pipelines


def features_in(data, things):
    pipe = things["pipes"][data.draw(st.sampled_from(["gan", "gan", "diffusion"]))]
    features = data.draw(tensors((1, 48, 4, 4)) | JSON)
    steps = {"num_inference_steps": 1} if pipe.kind == "diffusion" else {}
    output = ends_well(lambda: pipe(features=features, output_type="pt", **steps))
    assert output is None or (0 <= output.images.min() and output.images.max() <= 1)


def images_in(data, things):
    pipe = things["pipes"]["gan"]
    one = pictures() | tensors((1, 3, 32, 32))
    images = data.draw(one | st.lists(one | JSON, max_size=2) | JSON)
    output = ends_well(lambda: pipe(images=images, output_type="np"))
    assert output is None or output.images.shape[1:] == (32, 32, 3)


def options_in(data, things):
    pipe = things["pipes"][data.draw(st.sampled_from(["gan", "diffusion"]))]
    options = {
        "num_images_per_feature": data.draw(st.integers(-1, 2) | JSON | st.just(10**6)),
        "output_type": data.draw(st.sampled_from(["pil", "np", "pt"]) | JSON),
        "generator": data.draw(st.sampled_from([None, torch.Generator(), [torch.Generator()], [], 3, "x", [None]])),
    }
    if pipe.kind == "diffusion":
        options["num_inference_steps"] = data.draw(st.integers(-1, 3) | st.sampled_from([1001, 10**9, True, 1.5, "4"]))
        options["guidance_scale"] = data.draw(
            st.sampled_from([1.0, 2.0, 0.0]) | NUMBERS | st.sampled_from(["3", None])
        )
        options["eta"] = data.draw(st.sampled_from([0.0, 1.0]) | NUMBERS | st.sampled_from(["0", None]))
    ends_well(lambda: pipe(features=torch.zeros(1, 48, 4, 4), **options))


def pipelines_on_disk(data, things):
    kind = data.draw(st.sampled_from(["gan", "diffusion"]))
    folder = things["folder"] / "edited"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(things["folder"] / kind, folder)
    path = data.draw(st.sampled_from(sorted(file for file in folder.rglob("*") if file.is_file())))
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        for name in data.draw(st.lists(st.sampled_from(sorted(content)), min_size=1, max_size=2)):
            content[name] = data.draw(JSON)
        path.write_text(json.dumps(content))
    else:
        path.write_bytes(data.draw(damaged(path.read_bytes())))
    ends_well(lambda: Feat2ImgPipeline.from_pretrained(folder))


def checkpoints_on_disk(data, things):
    folder = things["folder"] / "edited-checkpoint"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(things["folder"] / "checkpoint-3", folder)
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    if path.suffix == ".json" and data.draw(st.booleans()):
        content = json.loads(path.read_text())
        content[data.draw(st.sampled_from(sorted(content)))] = data.draw(JSON)
        path.write_text(json.dumps(content))
    else:
        path.write_bytes(data.draw(damaged(path.read_bytes())))
    model = things["model"]
    targets = {"model": model, "optimizer": torch.optim.AdamW(model.parameters())}
    ends_well(lambda: load_checkpoint(folder, data.draw(st.sampled_from([None, targets]))))


# networks and metrics


def networks(data, things):
    encoder, projector = (things["pipes"]["gan"].components[name] for name in ("encoder", "projector"))
    ends_well(lambda: encoder(data.draw(tensors((1, 3, 32, 32)))))
    ends_well(lambda: projector(data.draw(tensors((1, 48, 4, 4)))))


def network_settings(data, things):
    small = st.integers(-1, 12) | st.sampled_from([16, 32])
    grid = st.tuples(small, small)
    kind = data.draw(st.sampled_from(["projector", "generator", "encoder"]))
    if kind == "projector":
        names = ("feature_channels", "hidden_channels", "num_blocks", "map_channels", "token_dim")
        options = {name: data.draw(small) for name in names}
        options |= {"feature_size": data.draw(grid), "map_size": data.draw(grid)}
        ends_well(lambda: FeatureProjector(**options))
    elif kind == "generator":
        options = {
            name: data.draw(small) for name in ("in_channels", "image_size", "layers_per_block", "head_channels")
        }
        widths = data.draw(st.lists(small, max_size=3))
        ends_well(lambda: FeatureGenerator(map_size=data.draw(grid), block_out_channels=widths, **options))
    else:
        layers = data.draw(st.lists(st.sampled_from(["layer1", "layer2", "fc", ""]) | WORDS, max_size=2) | JSON)
        name = data.draw(st.sampled_from(["test_resnet", "test_vit"]) | WORDS)
        ends_well(lambda: TimmFeatureEncoder(name, layers, data.draw(small)))


def metrics(data, things):
    first, second = data.draw(tensors()), data.draw(tensors())
    if data.draw(st.booleans()):
        first, second = first.to(torch.uint8), second.to(torch.uint8)
    for metric in (psnr, ssim, feature_cosine):
        ends_well(lambda metric=metric: metric(first, second))


# settings and command lines


def any_value(data, kind):
    """Of a field's type, or of none."""
    if data.draw(st.integers(0, 3)) == 0:
        return data.draw(JSON)
    if isinstance(kind, type) and issubclass(kind, bool):
        return data.draw(st.booleans())
    if kind in (int, float):
        return data.draw(NUMBERS)
    if kind is str:
        return data.draw(WORDS)
    parts = typing.get_args(kind)
    return (
        any_value(data, data.draw(st.sampled_from(parts))) if parts and isinstance(parts[0], type) else data.draw(JSON)
    )


def configurations(data, things):
    cls = data.draw(st.sampled_from([GANConfig, DiffusionConfig, CompareSettings, SweepSettings]))
    fields = data.draw(st.lists(st.sampled_from(dataclasses.fields(cls)), max_size=4))
    changes = {field.name: any_value(data, field.type) for field in fields}
    ends_well(lambda: cls(**changes))


def orders(data, things):
    count, size, seed = (
        data.draw(st.integers(-1, 20)),
        data.draw(st.integers(-1, 6)),
        data.draw(st.integers(-1, 2**40)),
    )
    rank, world = data.draw(st.sampled_from([(0, 1), (0, 2), (1, 2)]))
    batches = ends_well(lambda: EndlessBatches(count, size, seed, rank, world, data.draw(st.integers(0, 50))))
    if batches is not None:
        assert len(next(iter(batches))) == size


def training_lines(data, things):
    presets = data.draw(st.sampled_from([GAN_PRESETS, DIFFUSION_PRESETS]))
    names = [f"--{field.name}" for field in dataclasses.fields(presets["debug"])]
    line = data.draw(
        st.lists(st.sampled_from([*names, "--preset", "debug", "--no-use_ema", "--nonsense"]) | WORDS, max_size=5)
    )
    try:
        ends_well(lambda: parse_config(presets, "x", line))
    except SystemExit as stop:
        assert stop.code in (0, 2)


def command_lines(data, things, capsys):
    folder = things["folder"]
    places = ["GAN", "DATA", "OUT", "NOWHERE", "FILE"]
    names = dict(
        zip(
            places,
            map(str, (folder / "gan", folder / "photos", folder / "out", "./nowhere", folder / "damaged")),
            strict=True,
        )
    )
    options = [
        "--output_dir", "--dataset", "--split", "--num_images", "--batch_size", "--dtype", "--seed", "--scheduler",
        "--verifier", "--layers", "--encoder", "--random_weights", "--device", "--guidance_scale", "--debugg",
        "--num_inference_steps",
    ]  # fmt: skip
    # a device that is nowhere: what is right up to there is refused there, before anything is computed
    tail = data.draw(st.sampled_from([[], ["--output_dir", "OUT"], ["--output_dir", "OUT", "--dataset", "NOWHERE"]]))
    words = st.sampled_from(places) | st.sampled_from(options) | WORDS
    line = [
        data.draw(st.sampled_from(["compare", "sweep", "reconstruct", "--version", "x"])),
        *data.draw(st.lists(words, max_size=6)),
    ]
    line += [*tail, "--device", "quantum"]
    code = main([names.get(word, word) for word in line])
    errors = [text for text in capsys.readouterr().err.splitlines() if "error" in text.lower()]
    assert code == 0 and not errors or code == 2 and len(errors) == 1 and errors[0].startswith("feat2img: error: ")


PROPERTIES = [
    pixel_ranges, transforms, photo_files, data_sets, tallies, features_in, images_in, options_in, pipelines_on_disk,
    checkpoints_on_disk, networks, network_settings, metrics, configurations, orders, training_lines,
]  # fmt: skip


FEWER = {training_lines: 200, pipelines_on_disk: 400, data_sets: 400}  # that take tenths of a second each


def hold(property_, count, *arguments):
    """Draw so many cases; each must end in time."""
    ran = 0

    @settings(
        max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def cases(data):
        nonlocal ran
        ran += 1
        signal.alarm(SECONDS)
        try:
            property_(data, *arguments)
        finally:
            signal.alarm(0)

    previous = signal.signal(signal.SIGALRM, lambda number, frame: pytest.fail("a case hangs"))
    try:
        cases()
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert ran >= count


@pytest.fixture(autouse=True)
def nothing_of_the_user_s(monkeypatch, tmp_path_factory):
    """No cache of the user's, no network."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets-cache"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))


@pytest.mark.parametrize("property_", PROPERTIES, ids=lambda property_: property_.__name__)
def test_a_few_inputs(property_, things):
    hold(property_, FEW, things)


def test_a_few_command_lines(things, capsys):
    hold(command_lines, FEW, things, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("property_", PROPERTIES, ids=lambda property_: property_.__name__)
def test_many_inputs(property_, things):
    hold(property_, FEWER.get(property_, MANY), things)


@pytest.mark.slow
def test_many_command_lines(things, capsys):
    hold(command_lines, MANY, things, capsys)


def test_many_are_ten_thousand():
    counts = [FEWER.get(property_, MANY) for property_ in [*PROPERTIES, command_lines]]
    assert sum(counts) >= 10_000
