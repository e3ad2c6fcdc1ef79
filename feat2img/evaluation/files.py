"""Folders for results, and pictures that appear only when they are complete."""

import io
from pathlib import Path

from PIL import Image

from ..data.files import write_atomically


def make_output_dir(path: str | Path) -> Path:
    """Make a folder for results. Raises ValueError when something else lies there."""
    folder = Path(path).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir {folder} is a file: name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def png_bytes(image: Image.Image) -> bytes:
    """The content of a PNG file."""
    content = io.BytesIO()
    image.save(content, "png")
    return content.getvalue()


def write_image(path: Path, image: Image.Image) -> None:
    """Write a PNG file; it appears only when it is complete."""
    write_atomically(path, png_bytes(image))
