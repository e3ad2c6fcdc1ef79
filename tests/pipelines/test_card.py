"""The model card: written with every pipeline, true to what lies beside it, and valid metadata for the Hub."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from PIL import Image

from feat2img.pipelines import Feat2ImgPipeline
from feat2img.pipelines.card import OWN_CARD, PLACES, hide_places, write_card
from feat2img.training import DiffusionConfig, GANConfig
from tests.hub_server import card_errors

TRAINING = {
    "config": {
        "dataset_name": "frgfm/imagenette",
        "train_split": "train",
        "learning_rate": 2e-4,
        "perceptual_weight": 1.0,
        "output_dir": "/home/me/runs/gan",
        "encoder_weights": "/home/me/w.safetensors",
        "encoder_random_weights": False,
    },
    "steps": 12345,
    "images_seen": 197520,
    "minutes": 61.5,
    "device": "cpu",
    "num_processes": 1,
}
EVALUATION = {
    "dataset": "frgfm/imagenette",
    "split": "validation",
    "verifier": "tf_efficientnet_lite2.in1k",
    "rows": [
        {
            "num_inference_steps": steps,
            "num_images": 1000,
            "metrics": [
                {"type": "lpips", "name": "LPIPS", "value": 0.41246, "low": 0.4059, "high": 0.419,
                 "higher_is_better": False, "digits": 3},
                {"type": "kid", "name": "KID", "value": 0.0895 * steps, "higher_is_better": False, "digits": 4},
            ],
        }
        for steps in (4, 25)
    ],
}  # fmt: skip


@pytest.fixture
def folder(make_diffusion, tmp_path) -> Path:
    """A diffusion pipeline with everything that a card is made from."""
    path = tmp_path / "decoder"
    pipe = make_diffusion()
    pipe.save_pretrained(path)
    (path / "training.json").write_text(json.dumps(TRAINING))
    (path / "evaluation.json").write_text(json.dumps(EVALUATION))
    Image.new("RGB", (8, 8)).save(path / "samples.jpg")
    write_card(pipe, path, license="apache-2.0")
    return path


def load(folder) -> Feat2ImgPipeline:
    return Feat2ImgPipeline.from_pretrained(folder)


def test_a_card_comes_with_every_pipeline(make_gan, tmp_path):
    make_gan().save_pretrained(tmp_path / "tiny")
    card = ModelCard.load(tmp_path / "tiny" / "README.md")
    assert card.data.library_name == "feat2img" and card.data.pipeline_tag == "image-to-image"
    assert {"gan", "feature-inversion"} <= set(card.data.tags) and card.data.license is None
    assert "holds no record of a training" in card.text and "Not measured yet" in card.text
    assert "named no licence" in card.text and "samples.jpg" not in card.text
    assert 'from_pretrained("tiny")' in card.text and "48 x 4 x 4" in card.text
    assert card_errors(str(card)) == []


def test_a_card_says_what_training_and_comparison_found(folder):
    card = ModelCard.load(folder / "README.md")
    for expected in (
        "| LPIPS ↓ | 0.412 [0.406, 0.419] | 0.412 [0.406, 0.419] |", "| KID ↓ | 0.3580 | 2.2375 |",
        "| metric | 4 steps | 25 steps |", "1,000 photos of [frgfm/imagenette]", "| steps | 12,345 |",
        "| `learning_rate` | 0.0002 |", "![Photographs above", "feature cosine flatters", "apache-2.0.",
        "timm's `test_resnet", "| denoising steps | 25 |",
    ):  # fmt: skip
        assert expected in card.text, expected
    assert "/home/me" not in str(card)
    assert card.data.datasets == ["frgfm/imagenette"]


def test_a_card_tells_the_type_on_disk_not_the_one_it_was_loaded_as(folder):
    pipe = load(folder)
    pipe.unet.half()
    pipe.save_pretrained(folder)
    write_card(load(folder), folder)  # loads everything as float32
    text = (folder / "README.md").read_text()
    assert re.search(r"parameters of the unet \| [\d,]+ \(float16\)", text)
    assert re.search(r"parameters of the projector \| [\d,]+ \(float32\)", text)


def test_the_metadata_are_the_hubs(folder):
    content = (folder / "README.md").read_text()
    assert card_errors(content) == []
    card = ModelCard(content)
    assert str(ModelCard(str(card))) == str(card)
    name, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert name == "decoder"
    assert [(r.metric_type, r.metric_value, r.metric_args) for r in results][:2] == [
        ("lpips", 0.41246, {"num_inference_steps": 4}),
        ("kid", 0.358, {"num_inference_steps": 4}),
    ]
    assert {(r.task_type, r.dataset_type, r.dataset_split) for r in results} == {
        ("image-to-image", "frgfm/imagenette", "validation")
    }


def test_the_checks_of_the_test_server_find_bad_cards(folder):
    content = (folder / "README.md").read_text()
    assert card_errors(content.replace("license: apache-2.0", "license: do what you like"))
    assert card_errors(content.replace("value: 0.41246", "value: good"))
    assert card_errors("# no metadata")


def test_card_and_documents_follow_the_pipeline(folder, make_diffusion, tmp_path):
    load(folder).save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / "samples.jpg").read_bytes() == (folder / "samples.jpg").read_bytes()
    text = (tmp_path / "copy" / "README.md").read_text()
    assert "license: apache-2.0" in text and "12,345" in text and "# copy" in text
    make_diffusion().save_pretrained(tmp_path / "copy")  # another pipeline, of which nothing is known
    assert not (tmp_path / "copy" / "samples.jpg").exists()
    assert "12,345" not in (tmp_path / "copy" / "README.md").read_text()


def test_a_card_that_was_taken_over_by_hand_stays(folder, tmp_path):
    card = folder / "README.md"
    card.write_text(card.read_text().replace(OWN_CARD, "") + "\nMy own words.\n")
    load(folder).save_pretrained(folder)
    load(folder).save_pretrained(tmp_path / "copy")
    assert card.read_text().endswith("My own words.\n")
    assert (tmp_path / "copy" / "README.md").read_text() == card.read_text()


def test_a_card_with_damaged_metadata_is_named(folder):
    card = folder / "README.md"
    card.write_text(card.read_text().replace("license: apache-2.0", "license: [apache"))
    with pytest.raises(ValueError, match="README.md has damaged metadata"):
        load(folder).save_pretrained(folder)


def test_photos_of_a_folder_are_no_data_set_of_the_hub(folder):
    private = {**TRAINING, "config": {**TRAINING["config"], "dataset_name": "/home/me/photos"}}
    (folder / "training.json").write_text(json.dumps(private))
    (folder / "evaluation.json").write_text(json.dumps({**EVALUATION, "dataset": "/home/me/photos"}))
    load(folder).save_pretrained(folder)
    content = (folder / "README.md").read_text()
    assert "/home/me" not in content and "`photos` (a folder)" in content and card_errors(content) == []
    assert ModelCard(content).data.datasets is None


def test_every_path_among_the_settings_is_hidden():
    """Whatever a training can be given by path must be in the list, also what is added later."""
    names = {field.name for config in (GANConfig, DiffusionConfig) for field in dataclasses.fields(config)}
    paths = {name for name in names if re.search(r"_dir$|_weights$|_from|dataset_name|first_guess", name)}
    assert paths - {"encoder_random_weights"} == set(PLACES)


def test_an_upload_names_no_places_of_this_machine(folder):
    content = json.loads((folder / "training.json").read_text())
    content["config"] |= {"init_from": "/home/me/out/earlier", "first_guess": "someone/gan"}
    (folder / "training.json").write_text(json.dumps(content))
    hide_places(folder)
    settings = json.loads((folder / "training.json").read_text())["config"]
    assert settings["output_dir"] == "gan" and settings["encoder_weights"] == "w.safetensors"
    assert settings["dataset_name"] == "frgfm/imagenette" and settings["learning_rate"] == 2e-4
    assert settings["init_from"] == "earlier" and settings["first_guess"] == "someone/gan"


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"config": 3}', '{"config": {"dataset_name": 3}}'])
def test_documents_that_feat2img_did_not_write_are_refused(folder, content):
    (folder / "training.json").write_text(content)
    with pytest.raises(ValueError, match="training.json") as error:
        load(folder).save_pretrained(folder)
    assert "\n" not in str(error.value)


def test_a_pipeline_without_encoder_says_so(folder, tmp_path):
    Feat2ImgPipeline.from_pretrained(folder, encoder=None).save_pretrained(tmp_path / "bare")
    text = (tmp_path / "bare" / "README.md").read_text()
    assert "features = ..." in text and "feat2img reconstruct" not in text


def test_other_weights_than_safetensors_are_refused(make_gan, tmp_path):
    with pytest.raises(ValueError, match="safetensors only"):
        make_gan().save_pretrained(tmp_path / "tiny", safe_serialization=False)
