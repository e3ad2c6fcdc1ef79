import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from feat2img.evaluation.judge import Judge
from feat2img.evaluation.verifier import Opinion, Verifier, VerifierUnavailable, agreement


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "test_resnet.safetensors"
    save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), path)
    return str(path)


def photos(size: int = 40) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)) for _ in range(3)]
    return [image.resize((size, size), Image.Resampling.BICUBIC) for image in coarse]


def as_tensor(images: list[Image.Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)


def test_opinion_is_timm_s_with_its_own_preprocessing(weights):
    verifier = Verifier("test_resnet", weights)
    network = verifier.network
    config = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**config | {"interpolation": "bicubic", "crop_pct": 1.0})
    with torch.no_grad():
        pixels = torch.stack([transform(photo) for photo in photos()])
        logits, pooled = network(pixels), network.forward_head(network.forward_features(pixels), pre_logits=True)
    opinion = verifier(as_tensor(photos()))
    assert opinion.classes[:, 0].tolist() == logits.argmax(1).tolist()
    # Pillow rounds after each direction of a resize
    torch.testing.assert_close(opinion.features, pooled, atol=5e-3, rtol=5e-3)
    same_size = as_tensor(photos(160))
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = network((same_size / 255 - mean) / std).topk(5).indices
    assert torch.equal(verifier(same_size).classes, expected)


def test_agreement_by_hand():
    originals = Opinion(torch.tensor([[3, 1, 2, 4, 5], [7, 8, 9, 1, 2], [6, 1, 2, 3, 4]]), torch.zeros(3, 1))
    answers = Opinion(torch.tensor([[3, 9, 8, 7, 6], [1, 2, 3, 4, 7], [1, 2, 3, 4, 5]]), torch.zeros(3, 1))
    assert {name: values.tolist() for name, values in agreement(answers, originals).items()} == {
        "verifier_top1": [1, 0, 0],
        "verifier_top5": [1, 1, 0],
    }
    assert all(values.min() == 1 for values in agreement(originals, originals).values())


def test_imagenette_s_classes_are_imagenet_s(weights):
    verifier = Verifier("test_resnet", weights)
    info = timm.data.ImageNetInfo("imagenet-1k")
    names = ["tench", "English springer", "cassette player", "chain saw", "church"]
    names += ["French horn", "garbage truck", "gas pump", "golf ball", "parachute"]
    indices = verifier.class_indices(names)
    for name, index in zip(names, indices, strict=True):
        assert name.lower().replace("chain saw", "chain") in info.index_to_description(index).lower()
    assert verifier.class_indices([info.index_to_label_name(index) for index in indices]) == indices
    assert verifier.class_indices(["cat", "tench"]) is None and verifier.class_indices([]) is None


def test_true_label_needs_known_classes_and_labels(weights):
    judge = Judge(torch.device("cpu"), ["parachute", "tench"], "test_resnet", weights)
    opinions = {"verifier": Opinion(torch.tensor([[701, 1], [701, 1], [0, 1]]), torch.zeros(3, 1))}
    assert judge.true_label(opinions, torch.tensor([0, 1, 1]))["true_label_top1"].tolist() == [1, 0, 1]
    assert judge.true_label(opinions, torch.tensor([0, -1, 1])) == {}
    assert Judge(torch.device("cpu"), ["cat"], "test_resnet", weights).true_label(opinions, torch.tensor([0])) == {}


def test_weights_that_cannot_be_had_leave_the_verifier_out_by_name(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "/nonexistent")
    with pytest.raises(VerifierUnavailable, match="--verifier_weights"):
        Verifier("test_vit.r160_in1k")
    judge = Judge(torch.device("cpu"), [], "test_vit.r160_in1k")
    assert judge.verifier is None and {"verifier_top1", "verifier_top5"} <= set(judge.left_out)


def test_wrong_use(weights, tmp_path):
    with pytest.raises(ValueError, match="did you mean"):
        Verifier("test_resnt")
    with pytest.raises(ValueError, match="no weights file"):
        Verifier("test_resnet", tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="does not hold the weights of test_vit"):
        Verifier("test_vit", weights)
    with pytest.raises(ValueError, match="uint8"):
        Verifier("test_resnet", weights)(torch.zeros(1, 3, 8, 8))
