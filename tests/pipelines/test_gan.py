import torch


def test_the_pipeline_is_the_two_networks(make_gan, photos):
    pipe = make_gan()
    features = pipe.encode(photos)
    with torch.no_grad():
        pixels = pipe.generator(pipe.projector(features).map)
    images = pipe(features=features, output_type="pt").images
    torch.testing.assert_close(images, ((pixels + 1) / 2).clamp(0, 1))


def test_images_per_feature_are_equal_and_next_to_each_other(make_gan, photos):
    pipe = make_gan()
    one = pipe(images=photos, output_type="pt").images
    three = pipe(images=photos, num_images_per_feature=3, output_type="pt").images
    assert three.shape == (6, 3, 32, 32)
    assert torch.equal(three, one[[0, 0, 0, 1, 1, 1]])


def test_reference_slice(make_gan):
    pipe = make_gan()
    features = torch.linspace(-1, 1, 2 * 48 * 4 * 4).view(2, 48, 4, 4)
    images = pipe(features=features, output_type="pt").images
    expected = torch.tensor(REFERENCE)
    torch.testing.assert_close(images[0, 0, 3::12, 3::12].flatten(), expected, atol=1e-4, rtol=0)


REFERENCE = [0.65168, 0.60368, 0.60024, 0.63206, 0.62549, 0.50444, 0.59627, 0.6261, 0.60001]
