import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from feat2img.data import ImageTransform, pixels_to_uint8, to_rgb, uint8_to_pixels


def noise_photo(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_every_value_survives_the_round_trip():
    values = torch.arange(256, dtype=torch.uint8)
    pixels = uint8_to_pixels(values)
    assert pixels[0] == -1 and pixels[255] == 1 and pixels.dtype == torch.float32
    assert torch.equal(pixels_to_uint8(pixels), values)
    assert pixels_to_uint8(torch.tensor([-3.0, -1.0, 0.0, 1.0, 7.0])).tolist() == [0, 0, 128, 255, 255]
    assert torch.equal(pixels_to_uint8(pixels.half()), values)


def test_wrong_types_are_refused():
    with pytest.raises(ValueError, match="expected a uint8 tensor"):
        uint8_to_pixels(torch.zeros(3))
    with pytest.raises(ValueError, match="expected a float tensor"):
        pixels_to_uint8(torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("size", [(60, 40), (41, 67), (32, 32), (20, 30), (300, 40)])
def test_equals_torchvision(size):
    photo = noise_photo(*size)
    oracle = v2.Compose(
        [
            v2.Resize(32, v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(24),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5], [0.5]),
        ]
    )
    pixels = ImageTransform(24, 32)(photo)
    assert pixels.shape == (3, 24, 24)
    torch.testing.assert_close(pixels, oracle(photo), rtol=0, atol=1e-6)


def test_a_cropped_photo_is_used_as_it_is():
    photo = noise_photo(24, 24)
    expected = torch.from_numpy(np.array(photo)).permute(2, 0, 1) / 127.5 - 1
    assert torch.equal(ImageTransform(24, 32)(photo), expected)
    cropped = ImageTransform(24, 32, random_crop=True)(photo)
    assert cropped.shape == (3, 24, 24) and not torch.equal(cropped, expected)


def test_random_crop_and_flip_reach_everything():
    columns = np.broadcast_to(np.arange(8, dtype=np.uint8)[None, :, None], (8, 8, 3))
    photo = Image.fromarray(np.ascontiguousarray(columns))
    torch.manual_seed(0)
    lefts = set()
    for _ in range(100):
        row = pixels_to_uint8(ImageTransform(6, 8, random_crop=True, random_flip=True)(photo))[0, 0].tolist()
        assert row in ([row[0] + i for i in range(6)], [row[0] - i for i in range(6)])
        lefts.add((row[0], row[1] > row[0]))
    assert lefts == {(0, True), (1, True), (2, True), (5, False), (6, False), (7, False)}


def test_transparency_is_laid_over_white():
    photo = Image.new("RGBA", (2, 1), (200, 0, 0, 0))
    photo.putpixel((1, 0), (200, 0, 0, 128))
    assert to_rgb(photo).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(photo).getpixel((1, 0)) == pytest.approx((227, 127, 127), abs=1)
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    palette.info["transparency"] = 0
    assert [to_rgb(palette).getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (40, 50, 60)]
    assert to_rgb(Image.new("LA", (1, 1), (9, 0))).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("L", (1, 1), 77), (77, 77, 77)),
        (Image.new("1", (1, 1), 1), (255, 255, 255)),
        (Image.fromarray(np.full((1, 1), 65535, dtype=np.uint16)), (255, 255, 255)),
        (Image.fromarray(np.full((1, 1), 257 * 100, dtype=np.uint16)), (100, 100, 100)),
        (Image.new("I", (1, 1), 257 * 100), (100, 100, 100)),
        (Image.new("HSV", (1, 1), (0, 0, 50)), (50, 50, 50)),
    ],
)
def test_modes(image, expected):
    assert to_rgb(image).mode == "RGB"
    assert to_rgb(image).getpixel((0, 0)) == expected


def test_exif_orientation_turns_the_photo(tmp_path):
    photo = Image.new("RGB", (40, 20), "black")
    photo.paste("white", (0, 0, 20, 20))  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown after a quarter turn clockwise
    photo.save(tmp_path / "turned.png", exif=exif)
    upright = to_rgb(Image.open(tmp_path / "turned.png"))
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5)) == (255, 255, 255) and upright.getpixel((10, 35)) == (0, 0, 0)


def test_one_pixel_and_strips():
    pixels = ImageTransform(24, 32)(Image.new("RGB", (1, 1), (255, 0, 0)))
    assert torch.equal(pixels, torch.tensor([1.0, -1.0, -1.0]).view(3, 1, 1).expand(3, 24, 24))
    with pytest.raises(ValueError, match="photo of 1 x 1000 pixels"):
        ImageTransform(24, 32)(Image.new("RGB", (1, 1000)))


def test_settings_are_checked_and_plain():
    assert ImageTransform().as_dict() == {
        "image_size": 224,
        "resize_size": 256,
        "random_crop": False,
        "random_flip": False,
    }
    for image_size, resize_size in ((32, 24), (0, 24), (-1, 24)):
        with pytest.raises(ValueError, match="image_size must be"):
            ImageTransform(image_size, resize_size)
