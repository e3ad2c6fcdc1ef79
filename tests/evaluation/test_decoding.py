import warnings

import pytest
import torch

from feat2img.evaluation.decoding import (
    DTYPES,
    SCHEDULERS,
    decode,
    load_pipeline,
    resolve_device,
    swap_scheduler,
    takes_steps,
    unique_names,
)

SIZE = 32  # of the tiny pipelines, in pixels


def test_names_are_the_folders_made_unique(tmp_path):
    assert unique_names(["runs/gan", "user/diffusion/"]) == ["gan", "diffusion"]
    assert unique_names(["a/gan", "b/gan", "c/vae"]) == ["a/gan", "b/gan", "vae"]
    assert unique_names(["x/a/gan", "y/a/gan"]) == ["x/a/gan", "y/a/gan"]
    assert unique_names(["a/gan", "a/gan"]) == ["gan", "gan (2)"]
    (tmp_path / "gan").mkdir()
    assert unique_names([str(tmp_path / "gan" / "..")]) == [tmp_path.name]


def test_an_image_depends_on_its_index_and_the_seed_not_on_its_batch(make_diffusion):
    pipeline = make_diffusion()
    features = torch.rand(3, *pipeline.encoder.feature_shape, generator=torch.Generator().manual_seed(0))
    together = decode(pipeline, features, [5, 6, 7], seed=1, num_inference_steps=2)
    alone = decode(pipeline, features[1:2], torch.tensor([6]), seed=1, num_inference_steps=2)
    assert together.shape == (3, 3, SIZE, SIZE) and together.dtype == torch.uint8
    # convolutions of another batch size may round differently in the last float32 digit
    assert (together[1].int() - alone[0].int()).abs().max() <= 1
    other_seed = decode(pipeline, features[1:2], [6], seed=2, num_inference_steps=2)
    other_index = decode(pipeline, features[1:2], [7], seed=1, num_inference_steps=2)
    assert (other_seed != alone).float().mean() > 0.5 and (other_index != alone).float().mean() > 0.5


def test_decoding_gives_the_pipeline_s_own_8_bit_images(make_gan):
    pipeline = make_gan()
    features = torch.rand(2, *pipeline.encoder.feature_shape, generator=torch.Generator().manual_seed(0))
    expected = (torch.from_numpy(pipeline(features=features, output_type="np").images) * 255).round()
    decoded = decode(pipeline, features, [0, 1], seed=0, num_inference_steps=9).permute(0, 2, 3, 1)
    assert (decoded - expected).abs().max() <= 1 and (decoded == expected).float().mean() > 0.999


def test_images_that_are_not_finite_are_an_error(make_gan):
    pipeline = make_gan()
    torch.nn.init.constant_(pipeline.generator.last.bias, float("nan"))
    with pytest.raises(ValueError, match="not finite.*--dtype float32"):
        decode(pipeline, torch.zeros(1, *pipeline.encoder.feature_shape), [0], seed=0)


def test_only_sampling_pipelines_take_steps(make_gan, make_diffusion):
    assert takes_steps(make_diffusion()) and not takes_steps(make_gan())


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_can_be_swapped(name, diffusion_path):
    pipeline = load_pipeline(str(diffusion_path), torch.device("cpu"), "float32", scheduler=name)
    assert type(pipeline.scheduler).__name__ == SCHEDULERS[name]
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    features = torch.zeros(1, *pipeline.encoder.feature_shape)
    assert decode(pipeline, features, [0], seed=0, num_inference_steps=3).shape == (1, 3, SIZE, SIZE)


def test_dtype_is_that_of_all_weights(gan_path):
    pipeline = load_pipeline(str(gan_path), torch.device("cpu"), "bfloat16")
    assert {p.dtype for p in pipeline.encoder.parameters()} == {DTYPES["bfloat16"]}
    assert {p.dtype for p in pipeline.generator.parameters()} == {DTYPES["bfloat16"]}


def test_what_cannot_be_used_is_named(gan_path, diffusion_path, tmp_path, make_gan, make_diffusion):
    device = torch.device("cpu")
    with pytest.raises(ValueError, match="unknown dtype 'float8'"):
        load_pipeline(str(gan_path), device, "float8")
    with pytest.raises(ValueError, match="unknown scheduler 'euler'"):
        swap_scheduler(make_diffusion(), "euler")
    with pytest.raises(ValueError, match="quantum"):
        resolve_device("quantum")
    pipeline = make_gan()
    pipeline.register_modules(encoder=None)
    pipeline.save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match="bare.*without an encoder"):
        load_pipeline(str(tmp_path / "bare"), device, "float32")


def test_loading_tells_of_emulated_bfloat16(make_gan, native_bfloat16, tmp_path):
    make_gan().save_pretrained(tmp_path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        load_pipeline(str(tmp_path), torch.device("cpu"), "float32")
        assert not [one for one in told if "emulates" in str(one.message)]
        load_pipeline(str(tmp_path), torch.device("cpu"), "bfloat16")
    assert bool([one for one in told if "emulates bfloat16" in str(one.message)]) is not native_bfloat16
