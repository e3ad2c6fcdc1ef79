import pytest
import torch

from feat2img.evaluation.stitched import StitchedDecoder

COARSE = torch.rand(60, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
PIXELS = torch.nn.functional.interpolate(COARSE, (32, 32), mode="nearest")


def own_images(pipeline):
    return pipeline(images=PIXELS, output_type="pt").images * 255


@torch.no_grad()
def fitted(pipeline, encoder):
    decoder = StitchedDecoder(pipeline, encoder.feature_shape)
    for part in PIXELS.split(16):
        decoder.update(encoder(part), part)
    return decoder.solve()


def test_its_own_layer_gives_its_own_images(make_gan):
    pipeline = make_gan()
    before = {name: value.clone() for name, value in pipeline.projector.state_dict().items()}
    decoder = fitted(pipeline, pipeline.encoder)
    images = decoder(pipeline.encode(PIXELS))
    assert images.dtype == torch.uint8 and images.shape == PIXELS.shape
    assert (images.float() - own_images(pipeline)).abs().mean() < 1.5  # of 255; ridge shrinks a little
    assert decoder.count == 60 * 4 * 4
    assert all(torch.equal(value, before[name]) for name, value in pipeline.projector.state_dict().items())


def test_a_finer_layer_tells_more_than_a_coarser_one(make_gan, make_encoder):
    """layer1 has 8 x 8 cells and comes before what the decoder knows, 4 x 4 of layer2; layer3 has 2 x 2."""
    pipeline = make_gan()
    expected = own_images(pipeline)
    encoders = [make_encoder(layers=(layer,)) for layer in ("layer1", "layer3")]
    errors = [(fitted(pipeline, e)(e(PIXELS)).float() - expected).square().mean() for e in encoders]
    assert errors[0] < 0.25 * (expected - expected.mean(0)).square().mean()
    assert errors[1] > 2 * errors[0]


def test_finer_grids_fold_and_others_are_interpolated(make_gan):
    decoder = StitchedDecoder(make_gan(), (5, 7, 7))
    features = torch.rand(2, 5, 7, 7)
    expected = torch.nn.functional.interpolate(features, (4, 4), mode="bilinear")
    torch.testing.assert_close(decoder.regrid(features), expected)
    folded = StitchedDecoder(make_gan(), (5, 8, 8)).regrid(torch.arange(320.0).view(1, 5, 8, 8))
    assert folded.shape == (1, 20, 4, 4) and set(folded[0, :4, 0, 0].tolist()) == {0.0, 1.0, 8.0, 9.0}


def test_a_coarser_grid_tells_apart_what_lies_in_a_cell(make_gan):
    """Features that hold the known ones of four cells in one are worth as much as these."""
    pipeline = make_gan()
    known = pipeline.encode(PIXELS)
    coarse = torch.nn.functional.pixel_unshuffle(known, 2)
    decoder = StitchedDecoder(pipeline, tuple(coarse.shape[1:]))
    decoder.update(coarse, PIXELS)
    images = decoder.solve()(coarse).float()
    assert decoder.count == 60 * 2 * 2
    assert (images - own_images(pipeline)).abs().mean() < 1.5  # of 255; ridge shrinks a little


def test_what_cannot_go_over(make_gan, make_diffusion):
    with pytest.raises(ValueError, match="a diffusion decoder; a GAN pipeline with its encoder"):
        StitchedDecoder(make_diffusion(), (8, 4, 4))
    with pytest.raises(ValueError, match="seen no rows"):
        StitchedDecoder(make_gan(), (8, 4, 4)).solve()
    pipeline = make_gan()
    pipeline.encoder = None
    with pytest.raises(ValueError, match="has no encoder"):
        StitchedDecoder(pipeline, (8, 4, 4))
