import pytest
import torch

from feat2img.models import FeatureGenerator


def make_generator(**options):
    torch.manual_seed(0)
    options = {"map_size": (4, 4), "block_out_channels": (12, 8, 4), "layers_per_block": 1, **options}
    return FeatureGenerator(in_channels=8, head_channels=4, **options).eval()


@pytest.mark.parametrize(
    "image_size, widths, factor",
    [(64, (12, 8, 4), 4), (64, (8,), 16), (16, (12, 8, 4), 1), (48, (8, 4), 6), (8, (8, 4), 1)],
)
def test_shapes(image_size, widths, factor):
    generator = make_generator(image_size=image_size, block_out_channels=widths)
    assert generator.to_pixels.shuffle.upscale_factor == factor
    output = generator(torch.randn(2, 8, 4, 4))
    assert output.shape == (2, 3, image_size, image_size) and torch.isfinite(output).all()


@pytest.mark.parametrize("options", [{"image_size": 40}, {"image_size": 8}, {"image_size": 64, "map_size": (4, 2)}])
def test_impossible_size_is_refused(options):
    with pytest.raises(ValueError, match=f"image_size {options['image_size']} is not a whole multiple of 16 x"):
        make_generator(**options)


def test_each_cell_of_the_map_paints_its_part_of_the_image():
    generator = make_generator(image_size=64, layers_per_block=0)
    generator.norm = torch.nn.Identity()  # it couples all cells
    feature_map = torch.randn(1, 8, 4, 4)
    changed = feature_map.clone()
    changed[:, :, 0, 0] += 1
    change = (generator(feature_map) - generator(changed)).abs().sum(dim=1)[0]
    # convolutions of radius 1 at 4, 8, 16, 16 cells and at 64 pixels: cells 0..1, 0..4, 0..10, 0..11, pixels 0..48
    painted = change.nonzero()
    assert painted.min().item() == 0 and painted.max(dim=0).values.tolist() == [48, 48]


def test_gradients_reach_every_weight():
    generator = make_generator(image_size=64)
    generator(torch.randn(2, 8, 4, 4)).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in generator.parameters())


def test_save_and_load(tmp_path):
    generator = make_generator(image_size=64)
    generator.save_pretrained(tmp_path)
    loaded = FeatureGenerator.from_pretrained(tmp_path)
    feature_map = torch.randn(2, 8, 4, 4)
    assert torch.equal(loaded(feature_map), generator(feature_map))
    assert loaded.config.block_out_channels == [12, 8, 4] and loaded.config.image_size == 64
