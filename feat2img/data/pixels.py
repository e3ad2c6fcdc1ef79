"""Photos to pixels and back: the one place where pixel ranges change.

uint8 in [0, 255] lives in files and PIL images; everything between is float NCHW in [-1, 1].
"""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from PIL import Image, ImageOps

MAX_ASPECT_RATIO = 50  # resizing the short side of a narrower strip would need gigabytes


def uint8_to_pixels(values: torch.Tensor) -> torch.Tensor:
    """uint8 in [0, 255], any shape => float32 in [-1, 1]."""
    if values.dtype != torch.uint8:
        raise ValueError(f"expected a uint8 tensor with values 0 to 255, got {values.dtype}")
    return values.float() / 127.5 - 1


def pixels_to_uint8(pixels: torch.Tensor) -> torch.Tensor:
    """Float in [-1, 1] (values outside are clamped), any shape => uint8 in [0, 255], rounded."""
    if not pixels.is_floating_point():
        raise ValueError(f"expected a float tensor with values in [-1, 1], got {pixels.dtype}")
    return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _sixteen_to_eight_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64).clip(0, 65535)
    return Image.fromarray(np.round(values / 257).astype(np.uint8))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image => mode RGB, turned upright by its EXIF orientation, transparency laid over white.

    16-bit greyscale (modes I;16 and I) is scaled to 8 bits; CMYK, palettes and greyscale are converted by PIL. Of an
    animation this is the first frame. Raises ValueError for float values, whose range nobody knows.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("photo of float values, whose range is not known: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = _sixteen_to_eight_bit(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


@dataclass(frozen=True)
class ImageTransform:
    """PIL image of any mode and size => float32 pixels (3, image_size, image_size) in [-1, 1].

    The short side is resized to ``resize_size`` (bicubic, antialiased), then ``image_size`` is cropped from the
    centre. A photo whose two sides already are ``image_size`` is used as it is when ``random_crop`` is off: it has
    been cropped before. Random choices are drawn from torch's global generator, which data loaders seed per worker.
    """

    image_size: int = 224  # side of the result in pixels
    resize_size: int = 256  # short side before the crop, in pixels
    random_crop: bool = False  # crop anywhere instead of from the centre
    random_flip: bool = False  # mirror every second photo on average

    def __post_init__(self) -> None:
        if not 1 <= self.image_size <= self.resize_size:
            raise ValueError(
                f"image_size must be at least 1 and at most resize_size, got image_size={self.image_size}, "
                f"resize_size={self.resize_size}"
            )

    def as_dict(self) -> dict:
        """The settings as plain JSON."""
        return asdict(self)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Raises ValueError for a photo more than 50 times as long as wide."""
        image = to_rgb(image)
        if self.random_crop or image.size != (self.image_size, self.image_size):
            image = self._crop(self._resize(image))
        if self.random_flip and torch.rand(()) < 0.5:
            image = ImageOps.mirror(image)
        return uint8_to_pixels(torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous())

    def _resize(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        short, long = min(width, height), max(width, height)
        if long > MAX_ASPECT_RATIO * short:
            raise ValueError(f"photo of {width} x {height} pixels: one side may be {MAX_ASPECT_RATIO} times the other")
        if short == self.resize_size:
            return image
        scaled = int(self.resize_size * long / short)
        size = (self.resize_size, scaled) if width <= height else (scaled, self.resize_size)
        return image.resize(size, Image.Resampling.BICUBIC)

    def _crop(self, image: Image.Image) -> Image.Image:
        spare_x, spare_y = image.width - self.image_size, image.height - self.image_size
        if self.random_crop:
            left, top = int(torch.randint(spare_x + 1, ())), int(torch.randint(spare_y + 1, ()))
        else:
            left, top = round(spare_x / 2), round(spare_y / 2)
        return image.crop((left, top, left + self.image_size, top + self.image_size))
