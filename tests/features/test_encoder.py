import json
import time
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from feat2img.features import TimmFeatureEncoder, fingerprint_distance

WEIGHTS = Path(__file__).resolve().parents[3] / "shared" / "weights"


def hooked_output(network, layer, pixels):
    """Oracle: a plain hook on timm's whole network, with torchvision's way to normalise."""
    kept = {}
    network.get_submodule(layer).register_forward_hook(lambda module, args, output: kept.update(output=output))
    mean, std = (torch.tensor(network.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        network.eval()(((pixels + 1) / 2 - mean) / std)
    return kept["output"]


def shaken(name, seed=0, **options):
    """A network whose batch-norm statistics and zero-initialised weights are not trivial."""
    torch.manual_seed(seed)
    network = timm.create_model(name, **options)
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            value.add_(0.1 * torch.rand_like(value) if "running" in key else 0.01 * torch.randn_like(value))
    return network.eval()


def encoder_of(network, name, layers, image_size, tmp_path):
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    return TimmFeatureEncoder.from_timm(name, layers, image_size, weights=tmp_path / "weights.safetensors")


def random_pixels(size, batch=2):
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return TimmFeatureEncoder("test_resnet", ["layer3"], image_size=64)


@pytest.mark.parametrize(
    ("name", "layer", "size", "shape"),
    [
        ("test_resnet", "layer3", 64, (192, 4, 4)),
        ("resnet50", "layer3", 64, (1024, 4, 4)),
        ("resnet101", "layer3", 64, (1024, 4, 4)),
        ("tf_efficientnet_lite0", "blocks.4", 64, (112, 4, 4)),
    ],
)
def test_equals_hook_on_whole_network(name, layer, size, shape, tmp_path):
    network = shaken(name)
    encoder = encoder_of(network, name, [layer], size, tmp_path)
    pixels = random_pixels(size)
    features = encoder(pixels)
    assert features.shape[1:] == encoder.feature_shape == shape
    assert features.std() > 1e-4
    torch.testing.assert_close(features, hooked_output(network, layer, pixels), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("size", "grid"), [(224, 14), (96, 6)])
def test_vit_tokens_become_the_patch_grid(size, grid, tmp_path):
    options = {"img_size": size} if size != 224 else {}
    network = shaken("vit_tiny_patch16_224", **options)
    encoder = encoder_of(network, "vit_tiny_patch16_224", ["blocks.5"], size, tmp_path)
    pixels = random_pixels(size, batch=1)
    tokens = hooked_output(network, "blocks.5", pixels)
    features = encoder(pixels)
    assert features.shape == (1, 192, grid, grid)
    for row, column in ((0, 0), (1, 3), (grid - 1, grid - 1)):
        token = tokens[:, 1 + row * grid + column]  # the class token comes first
        torch.testing.assert_close(features[:, :, row, column], token, rtol=0, atol=1e-5)


def test_swin_channels_last_becomes_nchw(tmp_path):
    network = shaken("swin_tiny_patch4_window7_224")
    encoder = encoder_of(network, "swin_tiny_patch4_window7_224", ["layers.1"], 224, tmp_path)
    pixels = random_pixels(224, batch=1)
    expected = hooked_output(network, "layers.1", pixels).permute(0, 3, 1, 2)
    torch.testing.assert_close(encoder(pixels), expected, rtol=0, atol=1e-5)
    encoder.save_pretrained(tmp_path / "saved")  # Swin's masks are in no file
    assert torch.equal(TimmFeatureEncoder.from_pretrained(tmp_path / "saved")(pixels), encoder(pixels))


def test_several_layers_share_the_coarsest_grid_without_loss(tmp_path):
    network = shaken("test_resnet")
    encoder = encoder_of(network, "test_resnet", ["layer3", "layer1"], 64, tmp_path)
    pixels = random_pixels(64)
    coarse, fine = (hooked_output(network, layer, pixels) for layer in ("layer3", "layer1"))
    features = encoder(pixels)
    assert features.shape[1:] == encoder.feature_shape
    torch.testing.assert_close(features[:, :192], coarse, rtol=0, atol=1e-5)
    restored = F.pixel_shuffle(features[:, 192:], fine.shape[2] // coarse.shape[2])
    torch.testing.assert_close(restored, fine, rtol=0, atol=1e-5)


def test_pooled_vector_becomes_one_by_one():
    encoder = TimmFeatureEncoder("test_resnet", ["global_pool"], image_size=64)
    assert encoder(random_pixels(64)).shape[1:] == encoder.feature_shape == (96, 1, 1)


def test_nothing_behind_the_hook_runs_or_is_kept():
    encoder = TimmFeatureEncoder("test_resnet", ["layer2"], image_size=64)
    ran = []
    for name, module in encoder.network.named_modules():
        module.register_forward_hook(lambda module, args, output, name=name: ran.append(name))
    encoder(random_pixels(64))
    assert ran[-1] == "layer2"
    assert not [name for name in ran if name.startswith(("layer3", "layer4", "global_pool", "fc"))]
    assert {key.split(".")[1] for key in encoder.state_dict()} == {"conv1", "bn1", "layer1", "layer2"}
    whole = {f"network.{name}": value.shape for name, value in timm.create_model("test_resnet").state_dict().items()}
    assert all(whole[key] == value.shape for key, value in encoder.state_dict().items())


def test_part_of_a_stage_can_be_hooked(tmp_path):
    network = shaken("resnet18")
    encoder = encoder_of(network, "resnet18", ["layer3.0"], 64, tmp_path)
    pixels = random_pixels(64)
    torch.testing.assert_close(encoder(pixels), hooked_output(network, "layer3.0", pixels), rtol=0, atol=1e-5)
    assert not [key for key in encoder.state_dict() if key.startswith("network.layer3.1")]


def test_always_frozen_and_in_eval_mode(tiny):
    tiny.train()
    assert not any(module.training for module in tiny.modules())
    assert not any(parameter.requires_grad for parameter in tiny.parameters())
    before = tiny.weights_hash()
    tiny(random_pixels(64))
    assert tiny.weights_hash() == before


def test_gradients_reach_the_pixels(tiny):
    pixels = random_pixels(64).requires_grad_()
    tiny.feature_maps(pixels, ["layer1", "layer3"])["layer1"].square().mean().backward()
    assert pixels.grad.abs().sum() > 0
    (from_forward,) = torch.autograd.grad(tiny(pixels).square().mean(), pixels)
    assert torch.isfinite(from_forward).all() and from_forward.abs().sum() > 0


def test_feature_maps_are_raw_outputs(tmp_path):
    network = shaken("test_resnet")
    encoder = encoder_of(network, "test_resnet", ["layer3"], 64, tmp_path)
    pixels = random_pixels(64)
    maps = encoder.feature_maps(pixels, ["layer2", "layer1"])
    assert list(maps) == ["layer2", "layer1"]
    for layer, output in maps.items():
        torch.testing.assert_close(output, hooked_output(network, layer, pixels), rtol=0, atol=1e-5)
    torch.testing.assert_close(encoder.feature_maps(pixels)["layer3"], encoder(pixels), rtol=0, atol=0)
    # the activation behind bn1 works in place, and must not change what bn1 gave
    assert encoder.feature_maps(pixels, ["layer1.0.bn1", "layer1"])["layer1.0.bn1"].min() < 0
    with pytest.raises(ValueError, match="ends behind"):
        encoder.feature_maps(pixels, ["layer4"])
    with pytest.raises(ValueError, match="no module 'layr1'; did you mean .*layer1"):
        encoder.feature_maps(pixels, ["layr1"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model_name": "resnet1O1"}, "no model 'resnet1O1'; did you mean .*resnet101"),
        ({"model_name": "resnet101.nonsense"}, "its weights are .*resnet101.a1h_in1k"),
        ({"layers": ["layer33"]}, "no module 'layer33'; did you mean .*layer3"),
        ({"layers": []}, "layers must be a list"),
        ({"layers": "layer3"}, "layers must be a list"),
        ({"layers": ["layer3", "layer3"]}, "layers must be a list of different"),
        ({"mean": [0.5]}, "mean and std must be three numbers"),
        ({"std": [0.5, 0.5, 0.0]}, "mean and std must be three numbers"),
        ({"layers": ["layer1", "layer4"], "image_size": 80}, "expected a multiple of"),
    ],
)
def test_wrong_arguments_give_one_clear_line(arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        TimmFeatureEncoder(**{"model_name": "test_resnet", "image_size": 64, **arguments})
    assert "\n" not in str(raised.value)


def test_size_that_a_network_cannot_take_is_refused():
    cases = [("test_vit", "blocks.1", 8), ("test_maxvit", "stages.2", 100), ("test_resnet", "layer3", 0)]
    for name, layer, size in (case for case in cases if timm.is_model(case[0])):  # test_maxvit is new in timm
        with pytest.raises(ValueError, match=f"{name} does not take images of {size} x {size}"):
            TimmFeatureEncoder(name, [layer], image_size=size)


@pytest.mark.parametrize(
    "pixels",
    [
        torch.zeros(3, 64, 64),
        torch.zeros(1, 1, 64, 64),
        torch.zeros(1, 3, 32, 32),
        torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
    ],
)
def test_wrong_input_is_refused(tiny, pixels):
    with pytest.raises(ValueError, match=r"expected float pixels \(B, 3, 64, 64\) in \[-1, 1\]"):
        tiny(pixels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_save_and_load_is_bit_exact(dtype, tmp_path):
    network = shaken("test_resnet")
    encoder = encoder_of(network, "test_resnet", ["layer3"], 64, tmp_path).to(dtype)
    encoder.save_pretrained(tmp_path / "saved")
    loaded = TimmFeatureEncoder.from_pretrained(tmp_path / "saved", torch_dtype=dtype)
    pixels = random_pixels(64).to(dtype)
    assert loaded.dtype == dtype and not loaded.training
    assert torch.equal(loaded(pixels), encoder(pixels))
    assert loaded.weights_hash() == encoder.weights_hash()
    assert loaded.fingerprint() == encoder.fingerprint()
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_saved_config_holds_the_resolved_values(tmp_path):
    encoder = TimmFeatureEncoder.from_timm("tf_efficientnet_lite0", ("blocks.4",), 64, pretrained=False)
    encoder.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_name"] == "tf_efficientnet_lite0.in1k"
    assert config["layers"] == ["blocks.4"] and config["image_size"] == 64
    assert config["mean"] == [0.5, 0.5, 0.5] and config["std"] == [0.5, 0.5, 0.5]
    assert TimmFeatureEncoder.from_timm("resnet101", image_size=64, pretrained=False).config.model_name == (
        "resnet101.a1h_in1k"
    )


def test_weights_of_half_precision_and_of_the_needed_part_load(tmp_path):
    network = shaken("test_resnet")
    needed = {k: v.half() for k, v in network.state_dict().items() if not k.startswith(("layer4", "fc"))}
    needed = {k: v for k, v in needed.items() if "num_batches" not in k}
    save_file(needed, tmp_path / "part.safetensors")
    encoder = TimmFeatureEncoder.from_timm("test_resnet", ["layer3"], 64, weights=tmp_path / "part.safetensors")
    assert encoder.dtype == torch.float32 and encoder.config.model_name == "test_resnet"
    assert torch.equal(encoder.network.conv1[0].weight, network.conv1[0].weight.half().float())
    with pytest.raises(ValueError, match="lacks weights of test_resnet up to layer4: layer4"):
        TimmFeatureEncoder.from_timm("test_resnet", ["layer4"], 64, weights=tmp_path / "part.safetensors")


def test_weights_of_another_network_are_refused(tmp_path):
    # every weight that resnet18 needs has its shape, but the file holds a deeper network
    save_file(timm.create_model("resnet34").state_dict(), tmp_path / "deeper.safetensors")
    with pytest.raises(ValueError, match="holds unknown weights of resnet18 up to layer3: layer1.2"):
        TimmFeatureEncoder.from_timm("resnet18", ["layer3"], 64, weights=tmp_path / "deeper.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        TimmFeatureEncoder.from_timm("resnet18", ["layer3"], 64, weights=tmp_path / "text.safetensors")
    with pytest.raises(ValueError, match="there is no weights file"):
        TimmFeatureEncoder.from_timm("resnet18", ["layer3"], 64, weights=tmp_path / "absent.safetensors")


def test_missing_download_says_how_to_get_the_weights(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"cannot get the weights of resnet26.bt_in1k .* path as weights=") as raised:
        TimmFeatureEncoder.from_timm("resnet26", ["layer3"], 64)
    assert "\n" not in str(raised.value)
    assert time.monotonic() - start < 20


def test_fingerprint_tells_networks_apart():
    prints = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        encoder = TimmFeatureEncoder("test_resnet", ["layer3"], image_size=64)
        prints.append(encoder.fingerprint())
        assert encoder.fingerprint() == prints[-1]
        assert json.loads(json.dumps(prints[-1])) == prints[-1] and len(prints[-1]) == 32
        assert fingerprint_distance(encoder.half().fingerprint(), prints[-1]) < 0.02
    assert fingerprint_distance(*prints) > 0.1
    assert fingerprint_distance([3.0, 4.0], [3.0, 4.0]) == 0
    assert fingerprint_distance([3.0, 0.0], [3.0, 4.0]) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="same length"):
        fingerprint_distance([1.0], [1.0, 2.0])


def test_weights_hash_sees_one_changed_weight(tiny):
    before = tiny.weights_hash()
    weight = tiny.network.layer3[0].conv1.weight
    with torch.no_grad():
        weight[0, 0, 0, 0] += 1
        assert tiny.weights_hash() != before
        weight[0, 0, 0, 0] -= 1


@pytest.mark.parametrize(
    ("file", "name", "layer"),
    [
        ("resnet50_imagenet_to_layer3", "resnet50", "layer3"),
        ("tf_efficientnet_lite0_imagenet", "tf_efficientnet_lite0", "blocks.4"),
    ],
)
def test_real_weights(file, name, layer):
    path = WEIGHTS / f"{file}.safetensors"
    if not path.exists():
        pytest.skip(f"needs the weights {path.name} in ../shared/weights")
    encoder = TimmFeatureEncoder.from_timm(name, [layer], image_size=224, weights=path)
    network = timm.create_model(name)
    network.load_state_dict({key: value.float() for key, value in load_file(path).items()}, strict=False)
    pixels = random_pixels(224, batch=1)
    torch.testing.assert_close(encoder(pixels), hooked_output(network, layer, pixels), rtol=0, atol=1e-5)
