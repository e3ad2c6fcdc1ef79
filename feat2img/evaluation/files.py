"""Folders for results, and files that appear only when they are complete."""

import io
import os
from pathlib import Path

from PIL import Image


def make_output_dir(path: str | Path) -> Path:
    """Make a folder for results. Raises ValueError when something else lies there."""
    folder = Path(path).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir {folder} is a file: name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the file and rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def png_bytes(image: Image.Image) -> bytes:
    """The content of a PNG file."""
    content = io.BytesIO()
    image.save(content, "png")
    return content.getvalue()


def write_image(path: Path, image: Image.Image) -> None:
    """Write a PNG file; it appears only when it is complete."""
    write_atomically(path, png_bytes(image))
