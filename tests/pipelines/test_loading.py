"""Saving and loading: the file format, the round trip, and what is refused."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file

from feat2img.pipelines import Feat2ImgDiffusionPipeline, Feat2ImgGANPipeline, Feat2ImgPipeline

KINDS = ["gan", "diffusion"]
CLASSES = {"gan": Feat2ImgGANPipeline, "diffusion": Feat2ImgDiffusionPipeline}


@pytest.fixture
def save(make_gan, make_diffusion, tmp_path):
    """`save(kind, dtype=torch.float32)` writes a tiny pipeline and returns its folder."""

    def write(kind: str, dtype: torch.dtype = torch.float32) -> Path:
        pipe = make_gan() if kind == "gan" else make_diffusion()
        for component in pipe.components.values():
            if isinstance(component, torch.nn.Module):
                torch.nn.Module.to(component, dtype)
        pipe.save_pretrained(tmp_path / kind)
        return tmp_path / kind

    return write


def run(pipe, **inputs):
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 2} if pipe.kind == "diffusion" else {}
    return pipe(generator=torch.Generator().manual_seed(0), output_type="pt", **options, **inputs).images


def edit_index(folder: Path, **changes) -> None:
    path = folder / "model_index.json"
    index = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in index.items() if value != "REMOVE"}))


def assert_refused(folder: Path, match: str, cls=Feat2ImgPipeline, **kwargs) -> None:
    with pytest.raises(ValueError, match=match) as error:
        cls.from_pretrained(folder, **kwargs)
    assert "\n" not in str(error.value)


# the format and the round trip


ENCODER = ["feat2img.features.encoder", "TimmFeatureEncoder"]
PROJECTOR = ["feat2img.models.projector", "FeatureProjector"]
INDEX = {
    "gan": {
        "_class_name": "Feat2ImgGANPipeline",
        "encoder": ENCODER,
        "projector": PROJECTOR,
        "generator": ["feat2img.models.generator", "FeatureGenerator"],
        "image_size": 32,
        "resize_size": 32,
    },
    "diffusion": {
        "_class_name": "Feat2ImgDiffusionPipeline",
        "encoder": ENCODER,
        "projector": PROJECTOR,
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "image_size": 32,
        "resize_size": 32,
        "patch_size": 4,
        "conditioning": "both",
        "residual_scale": 0.25,
        "num_inference_steps": 25,
        "guess_projector": [None, None],
        "guess_generator": [None, None],
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_index_is_a_file_format(save, kind):
    index = json.loads((save(kind) / "model_index.json").read_text())
    index.pop("_diffusers_version")
    assert index == INDEX[kind]


def test_an_index_from_before_it_held_steps_and_guess_still_loads(save):
    folder = save("diffusion")
    index = json.loads((folder / "model_index.json").read_text())
    for name in ("num_inference_steps", "guess_projector", "guess_generator"):
        del index[name]
    (folder / "model_index.json").write_text(json.dumps(index))
    assert Feat2ImgPipeline.from_pretrained(folder).config.num_inference_steps == 25


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(save, make_gan, make_diffusion, photos, kind):
    folder = save(kind)
    loaded = Feat2ImgPipeline.from_pretrained(folder)
    assert type(loaded) is CLASSES[kind] is type(CLASSES[kind].from_pretrained(str(folder)))
    pipe = make_gan() if kind == "gan" else make_diffusion()
    assert torch.equal(run(loaded, images=photos), run(pipe, images=photos))
    assert {name: loaded.config[name] for name in INDEX[kind] if isinstance(INDEX[kind][name], int)} == {
        name: value for name, value in INDEX[kind].items() if isinstance(value, int)
    }
    assert not loaded.encoder.training and not loaded.projector.training
    files = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert files == {".json", ".safetensors", ".md"}


def test_round_trip_in_a_fresh_process(save, make_gan, make_diffusion, tmp_path):
    features = torch.randn(2, 48, 4, 4, generator=torch.Generator().manual_seed(5))
    np.save(tmp_path / "features.npy", features.numpy())
    script = f"""
import numpy, torch
from feat2img import Feat2ImgPipeline
torch.set_num_threads({torch.get_num_threads()})
features = torch.from_numpy(numpy.load(r"{tmp_path}/features.npy"))
for kind in {KINDS}:
    pipe = Feat2ImgPipeline.from_pretrained(rf"{tmp_path}/{{kind}}")
    options = dict(num_inference_steps=2) if pipe.kind == "diffusion" else dict()
    images = pipe(features=features, generator=torch.Generator().manual_seed(0), output_type="np", **options).images
    numpy.save(rf"{tmp_path}/{{kind}}.npy", images)
    print(type(pipe).__name__)
"""
    for kind in KINDS:
        save(kind)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["Feat2ImgGANPipeline", "Feat2ImgDiffusionPipeline"]
    for kind, pipe in zip(KINDS, (make_gan(), make_diffusion()), strict=True):
        images = np.load(tmp_path / f"{kind}.npy")
        np.testing.assert_array_equal(images, run(pipe, features=features).permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_half_precision_folder_loads_in_every_type(save, make_gan, make_diffusion, photos, kind, dtype):
    """Rounding moves the fingerprint a little; loading must accept that, and the images must stay what they are."""
    loaded = Feat2ImgPipeline.from_pretrained(save(kind, torch.float16), torch_dtype=dtype)
    assert loaded.dtype == loaded.encoder.dtype == loaded.projector.dtype == dtype
    original = run(make_gan() if kind == "gan" else make_diffusion(), images=photos)
    images = run(loaded, images=photos)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images, original, atol=0.05 if dtype == torch.bfloat16 else 0.01, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_without_encoder(save, photos, kind, tmp_path):
    folder = save(kind)
    whole = Feat2ImgPipeline.from_pretrained(folder)
    features = whole.encode(photos)
    bare = Feat2ImgPipeline.from_pretrained(folder, encoder=None)
    assert bare.encoder is None
    assert torch.equal(run(bare, features=features), run(whole, features=features))
    with pytest.raises(ValueError, match="without its encoder; load it with one or pass features="):
        run(bare, images=photos)
    bare.save_pretrained(tmp_path / "bare")
    again = Feat2ImgPipeline.from_pretrained(tmp_path / "bare")
    assert again.encoder is None and torch.equal(run(again, features=features), run(whole, features=features))
    complete = Feat2ImgPipeline.from_pretrained(tmp_path / "bare", encoder=whole.encoder)
    assert torch.equal(run(complete, images=photos), run(whole, images=photos))


def test_another_scheduler_is_saved_and_loaded(save, tmp_path):
    pipe = Feat2ImgPipeline.from_pretrained(save("diffusion"))
    pipe.scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    pipe.save_pretrained(tmp_path / "ddpm")
    loaded = Feat2ImgPipeline.from_pretrained(tmp_path / "ddpm")
    assert type(loaded.scheduler) is DDPMScheduler and loaded.scheduler.config.prediction_type == "v_prediction"


# what is refused


def test_the_other_kind_is_refused(save):
    assert_refused(save("gan"), "holds a Feat2ImgGANPipeline, not a Feat2ImgDiff", Feat2ImgDiffusionPipeline)
    assert_refused(save("diffusion"), "use Feat2ImgPipeline.from_pretrained", Feat2ImgGANPipeline)


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "Feat2ImgPipeline", None, ["pipeline", "Evil"], 3])
def test_a_foreign_pipeline_is_refused(save, name):
    folder = save("gan")
    edit_index(folder, _class_name=name)
    assert_refused(folder, "not a feat2img pipeline .Feat2ImgDiffusionPipeline or Feat2ImgGANPipeline")


@pytest.mark.parametrize(
    "component", [["planted_module", "Evil"], ["os", "system"], ["diffusers", "UNet2DModel"], ["diffusers"], []]
)
@pytest.mark.parametrize("name", ["projector", "encoder", "generator"])
def test_a_foreign_component_is_refused_without_import(save, component, name, tmp_path, monkeypatch):
    (tmp_path / "planted_module.py").write_text(f"open(r'{tmp_path}/imported', 'w')\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = save("gan")
    edit_index(folder, **{name: component})
    assert_refused(folder, f"as {name}, which is no component of feat2img")
    assert not (tmp_path / "imported").exists() and "planted_module" not in sys.modules


@pytest.mark.parametrize("component", [["planted_module", "EvilScheduler"], ["diffusers", "AutoModel"], [], [None, 1]])
def test_a_foreign_scheduler_is_refused(save, component):
    folder = save("diffusion")
    edit_index(folder, scheduler=component)
    assert_refused(folder, "as scheduler, which is no component of feat2img")


@pytest.mark.parametrize("changes", [{"projector": [None, None]}, {"projector": "REMOVE"}, {"generator": "REMOVE"}])
def test_an_index_without_a_component_is_refused(save, changes):
    folder = save("gan")
    edit_index(folder, **changes)
    assert_refused(folder, next(iter(changes)))


def test_an_unknown_component_is_refused(save):
    folder = save("gan")
    edit_index(folder, safety_checker=["os", "system"])
    assert_refused(folder, "as safety_checker, which is no component")


def test_folders_without_a_readable_index_are_refused(tmp_path):
    assert_refused(tmp_path, "has no model_index.json; expected a folder that `save_pretrained` wrote")
    for content, match in (("{not json", "is not valid JSON"), ("[1, 2]", "holds a list, expected an object")):
        (tmp_path / "model_index.json").write_text(content)
        assert_refused(tmp_path, match)
    (tmp_path / "model_index.json").write_bytes(b"\xff\xfe\x00 binary")
    assert_refused(tmp_path, "is not valid JSON")


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "nowhere", "a/b/c", "~/nowhere-at-all"])
def test_a_folder_that_is_not_there_is_refused(name):
    assert_refused(Path(name) if name == "nowhere" else name, "neither a folder nor a Hub repository")


@pytest.mark.parametrize("kind", KINDS)
def test_missing_files_are_named(save, kind):
    weights = "diffusion_pytorch_model.safetensors"
    names = ["encoder/config.json", f"encoder/{weights}", "projector/config.json", f"projector/{weights}"]
    names += ["generator/config.json"] if kind == "gan" else [f"unet/{weights}", "scheduler/scheduler_config.json"]
    folder = save(kind)
    for name in names:
        (folder / name).rename(folder / "aside")
        assert_refused(folder, f"lacks {name}; copy or download it again")
        (folder / "aside").rename(folder / name)
    Feat2ImgPipeline.from_pretrained(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_refused(save, kind):
    folder = save(kind)
    paths = sorted([*folder.glob("*/*.safetensors"), *folder.glob("*/*.json")])
    assert len(paths) == (6 if kind == "gan" else 7)
    for path in paths:
        content = path.read_bytes()
        for damaged in (content[: len(content) // 2], b""):
            path.write_bytes(damaged)
            assert_refused(folder, "damaged|not valid JSON")
        path.write_bytes(content)
    Feat2ImgPipeline.from_pretrained(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_do_not_fit_their_config_are_refused(save, kind):
    folder = save(kind)
    path = folder / "projector" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_channels": 32}))
    assert_refused(folder, "does not fit its config.json: .* expected shape")


class Planted:
    """Unpickling it makes a folder."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.mkdir, (self.marker,)


@pytest.mark.parametrize("beside", [False, True], ids=["instead", "beside"])
def test_a_pickle_is_never_opened(save, tmp_path, beside):
    folder = save("gan")
    weights = folder / "projector" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    planted = weights.with_suffix(".bin")
    planted.write_bytes(pickle.dumps({"stem.weight": Planted(tmp_path / "opened")}))
    if beside:
        Feat2ImgPipeline.from_pretrained(folder)
    else:
        weights.unlink()
        assert_refused(folder, "lacks projector/diffusion_pytorch_model.safetensors")
        weights.with_name("other.safetensors").write_bytes(b"")
        assert_refused(folder, "damaged")
        trap = planted.read_bytes()
        torch.save(state, planted)  # not even one that torch would load
        assert_refused(folder, "damaged")
        planted.write_bytes(trap)
    assert not (tmp_path / "opened").exists()
    pickle.loads(planted.read_bytes())
    assert (tmp_path / "opened").exists()  # the trap works


def test_a_wrong_encoder_is_refused(save, make_encoder, tmp_path):
    folder = save("gan")
    assert_refused(folder, "test_resnet.r160_in1k layer2 gives other features", encoder=make_encoder(seed=1))
    assert_refused(folder, r"layer3 gives features \(192, 2, 2\)", encoder=make_encoder(layers=("layer3",)))
    make_encoder(seed=1).save_pretrained(folder / "encoder")
    assert_refused(folder, "test_resnet.r160_in1k layer2 gives other features")
    Feat2ImgPipeline.from_pretrained(folder, encoder=make_encoder())
