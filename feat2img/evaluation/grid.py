"""Pictures of reconstructions: originals on the left, one labelled column per decoder."""

from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

GAP = 6  # pixels between tiles
INK, PAPER = (28, 30, 34), (255, 255, 255)


class Column(NamedTuple):
    """One column of a grid: two label lines (the second may be empty) and its images."""

    title: str
    subtitle: str
    images: list[Image.Image]


def to_pil(image: Tensor) -> Image.Image:
    """uint8 (3, H, W) => PIL image."""
    return Image.fromarray(image.permute(1, 2, 0).cpu().numpy())


def shorten(text: str, font: ImageFont.ImageFont, width: float) -> str:
    """The text, cut in the middle until it fits into so many pixels."""
    if font.getlength(text) <= width:
        return text
    for keep in range(len(text) - 1, 1, -1):
        short = text[: (keep + 1) // 2] + "…" + text[len(text) - keep // 2 :]
        if font.getlength(short) <= width:
            return short
    return text[:1]


def image_grid(columns: list[Column]) -> Image.Image:
    """Draw columns of equally many images side by side, labels above.

    Tiles have the size of the largest image, so that images of that size are shown pixel for pixel; smaller ones are
    enlarged (Lanczos).

    Raises:
        ValueError: without images, or when columns differ in length.
    """
    lengths = {len(column.images) for column in columns}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"a grid needs columns of equally many images, at least one; got {sorted(lengths)}")
    side = max(max(image.size) for column in columns for image in column.images)
    rows = lengths.pop()
    text_size = max(9, round(side * 0.075))
    header = 2 * GAP + round((2.5 if any(column.subtitle for column in columns) else 1.3) * text_size)
    width = GAP + len(columns) * (side + GAP)
    canvas = Image.new("RGB", (width, header + rows * (side + GAP)), PAPER)
    draw = ImageDraw.Draw(canvas)
    title_font = ImageFont.load_default(text_size)
    subtitle_font = ImageFont.load_default(round(text_size * 0.85))
    for i, column in enumerate(columns):
        x = GAP + i * (side + GAP)
        draw.text((x, GAP), shorten(column.title, title_font, side), INK, title_font)
        subtitle = shorten(column.subtitle, subtitle_font, side)
        draw.text((x, GAP + round(1.35 * text_size)), subtitle, (96, 100, 108), subtitle_font)
        for j, image in enumerate(column.images):
            tile = image if image.size == (side, side) else image.resize((side, side), Image.Resampling.LANCZOS)
            canvas.paste(tile, (x, header + j * (side + GAP)))
    return canvas
