"""What both pipelines share: inputs, outputs, preprocessing, the check of the encoder."""

import numpy as np
import pytest
import torch
from PIL import Image

from feat2img.data import ImageTransform
from feat2img.pipelines import Feat2ImgDiffusionPipeline, Feat2ImgGANPipeline, Feat2ImgPipelineOutput


@pytest.fixture(params=["gan", "diffusion"])
def pipe(request, make_gan, make_diffusion):
    return make_gan() if request.param == "gan" else make_diffusion()


def run(pipe, **inputs):
    """Two steps where there are steps, always from the same noise."""
    options = {"num_inference_steps": 2} if pipe.kind == "diffusion" else {}
    return pipe(generator=torch.Generator().manual_seed(0), **options, **inputs)


def assert_refused(pipe, match, **inputs):
    with pytest.raises(ValueError, match=match) as error:
        pipe(**inputs)
    assert "\n" not in str(error.value)


def test_images_and_their_features_give_the_same(pipe, photos):
    features = pipe.encode(photos)
    assert features.shape == (2, 48, 4, 4)
    pixels = torch.stack([ImageTransform(32, 32)(photo) for photo in photos])
    assert torch.equal(pipe.encode(pixels), features)
    torch.testing.assert_close(pipe.encode(photos[0]), features[:1])
    from_images = run(pipe, images=photos, output_type="pt").images
    assert from_images.shape == (2, 3, 32, 32)
    assert torch.equal(from_images, run(pipe, features=features, output_type="pt").images)
    assert torch.equal(from_images, run(pipe, images=pixels, output_type="pt").images)


def test_encoding_runs_the_encoder_on_resized_and_cropped_photos(pipe):
    """The oracle is a photo whose centre alone is not black: resize and crop keep nothing else."""
    photo = np.zeros((32, 96, 3), dtype=np.uint8)
    photo[:, 32:64] = 200
    torch.testing.assert_close(
        pipe.encode(Image.fromarray(photo)), pipe.encoder(torch.full((1, 3, 32, 32), 200 / 127.5 - 1))
    )


def test_output_types_agree(pipe, photos):
    outputs = {kind: run(pipe, images=photos, output_type=kind) for kind in ("pt", "np", "pil")}
    assert all(isinstance(output, Feat2ImgPipelineOutput) for output in outputs.values())
    tensor, array, images = (output.images for output in outputs.values())
    assert tensor.dtype == torch.float32 and tensor.min() >= 0 and tensor.max() <= 1 and tensor.std() > 0.01
    assert array.shape == (2, 32, 32, 3)
    np.testing.assert_allclose(array, tensor.permute(0, 2, 3, 1).numpy(), atol=1e-6)
    for image, values in zip(images, array, strict=True):
        assert image.mode == "RGB" and image.size == (32, 32)
        np.testing.assert_allclose(np.asarray(image), values * 255, atol=0.501)


def test_return_dict_false_gives_a_tuple(pipe, photos):
    plain = run(pipe, images=photos, output_type="pt", return_dict=False)
    assert isinstance(plain, tuple) and len(plain) == 1
    assert torch.equal(plain[0], run(pipe, images=photos, output_type="pt").images)


def test_values_outside_the_range_are_clamped(pipe):
    pixels = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0]).view(1, 1, 1, 5).expand(1, 3, 5, 5)
    images = pipe.output(pixels, "pt", return_dict=True).images
    assert images[0, 0, 0].tolist() == [0, 0, 0.5, 1, 1]


def test_each_feature_map_makes_its_own_image(pipe, photos):
    """One image does not depend on its neighbours in the batch."""
    features = pipe.encode(photos)

    def generators(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    steps = {"num_inference_steps": 2} if pipe.kind == "diffusion" else {}
    together = pipe(features=features, generator=generators(1, 2), output_type="pt", **steps).images
    for index in range(2):
        alone = pipe(
            features=features[index : index + 1], generator=generators(index + 1), output_type="pt", **steps
        ).images
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_the_call_keeps_no_gradients_and_changes_no_weights(pipe, photos):
    before = {name: value.clone() for name, value in pipe.projector.state_dict().items()}
    assert not run(pipe, images=photos, output_type="pt").images.requires_grad
    assert all(torch.equal(before[name], value) for name, value in pipe.projector.state_dict().items())


def test_bad_inputs_are_refused(pipe, photos):
    features = pipe.encode(photos)
    broken = features.clone()
    broken[0, 0, 0, 0] = float("nan")
    assert_refused(pipe, "either images=.* or features=")
    assert_refused(pipe, "either images=.* or features=", images=photos, features=features)
    assert_refused(pipe, "NaN", features=broken)
    assert_refused(pipe, "NaN or infinity", features=torch.full_like(features, float("inf")))
    assert_refused(pipe, "features is a list", features=features.tolist())
    assert_refused(pipe, r"shape \(2, 48, 4, 3\), expected \(batch, 48, 4, 4\)", features=features[..., :3])
    assert_refused(pipe, r"shape \(48, 4, 4\)", features=features[0])
    assert_refused(pipe, "output_type is 'jpg'", images=photos, output_type="jpg")
    assert_refused(pipe, "num_images_per_feature is 0", images=photos, num_images_per_feature=0)
    assert_refused(pipe, "num_images_per_feature is 1.5", images=photos, num_images_per_feature=1.5)
    assert_refused(
        pipe, "num_images_per_feature is 1000000; .*from 1 to 1000", images=photos, num_images_per_feature=10**6
    )
    three = [torch.Generator() for _ in range(3)]
    assert_refused(pipe, "3 generators for 2 images", features=features, generator=three)
    assert_refused(pipe, "3 generators for 2 images", images=photos, generator=three)


def test_bad_images_are_refused(pipe):
    assert_refused(pipe, "images holds an empty list", images=[])
    assert_refused(pipe, "images holds str", images=["photo.jpg"])
    assert_refused(pipe, "images is a ndarray", images=np.zeros((1, 32, 32, 3)))
    assert_refused(pipe, r"\(1, 3, 16, 16\)", images=torch.zeros(1, 3, 16, 16))
    assert_refused(pipe, "uint8", images=torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_sizes_and_kind(pipe):
    assert (pipe.image_size, pipe.resize_size) == (32, 32)
    assert pipe.kind == ("gan" if isinstance(pipe, Feat2ImgGANPipeline) else "diffusion")
    assert isinstance(pipe, Feat2ImgGANPipeline) or isinstance(pipe, Feat2ImgDiffusionPipeline)
    assert pipe.device.type == "cpu" and pipe.dtype == torch.float32


def test_another_encoder_is_refused(pipe, make_encoder):
    def replace(encoder):
        arguments = {**pipe.components, "encoder": encoder}
        return type(pipe)(**arguments, **{k: pipe.config[k] for k in ("image_size", "resize_size")})

    assert replace(make_encoder()).encoder is not None
    assert replace(None).encoder is None
    with pytest.raises(ValueError, match="encoder test_resnet.r160_in1k layer2 gives other features"):
        replace(make_encoder(seed=1))
    with pytest.raises(ValueError, match=r"encoder test_resnet.r160_in1k layer3 gives .*\(192, 2, 2\).*\(48, 4, 4\)"):
        replace(make_encoder(layers=("layer3",)))
    with pytest.raises(ValueError, match=r"\(48, 8, 8\)"):
        replace(make_encoder(image_size=64))


def test_another_normalisation_is_refused(pipe, make_encoder):
    from feat2img.features import TimmFeatureEncoder

    encoder = make_encoder()
    other = TimmFeatureEncoder(encoder.config.model_name, encoder.config.layers, 32, mean=[0.2] * 3, std=[1.0] * 3)
    other.load_state_dict(encoder.state_dict())
    with pytest.raises(ValueError, match="its weights or its normalisation differ"):
        pipe.check_encoder(other, pipe.projector)


def test_an_encoder_that_gives_no_numbers_is_refused(pipe, make_encoder):
    encoder = make_encoder()
    torch.nn.init.constant_(next(encoder.parameters()), float("nan"))
    with pytest.raises(ValueError, match="gives other features"):
        pipe.check_encoder(encoder, pipe.projector)
