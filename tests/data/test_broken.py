"""A folder of photos as people have them: each strange file is read as one expects, or refused by name."""

import dataclasses
import io
import json
import struct
import zlib

import datasets
import numpy as np
import pytest
from PIL import Image

from feat2img.data import ImageTransform, PhotoDataset, PhotoFiles, load_photos, pixels_to_uint8

SIZE = 16
GREY, RED, WHITE = (100, 100, 100), (255, 0, 0), (255, 255, 255)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def noise(width=200, height=200) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file by hand, also one that promises what it does not hold."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def two_frames() -> tuple[Image.Image, dict]:
    return Image.new("RGB", (20, 20), RED), {"save_all": True, "append_images": [Image.new("RGB", (20, 20), "blue")]}


def turned() -> bytes:
    photo = Image.new("RGB", (40, 20), "black")
    photo.paste("white", (0, 0, 20, 20))  # on the left; upright it is above
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(photo, "JPEG", exif=exif, quality=100)


def see_through() -> bytes:
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    return saved(palette, "PNG", transparency=0)


READ = {  # file name: content, and the colour of the first pixel
    "cmyk.jpg": (saved(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG", quality=100), RED),
    "grey16.png": (saved(Image.fromarray(np.full((20, 20), 257 * 100, np.uint16)), "PNG"), GREY),
    "colour16.png": (png(20, 20, 16, 2, (b"\0" + struct.pack(">3H", 257 * 100, 25700, 25700) * 20) * 20), GREY),
    "palette.png": (see_through(), WHITE),
    "palette.gif": (saved(Image.new("P", (20, 20), 0), "GIF", transparency=0), WHITE),
    "one_pixel.png": (saved(Image.new("RGB", (1, 1), RED), "PNG"), RED),
    "turned.jpg": (turned(), WHITE),
    "moving.gif": (saved(two_frames()[0], "GIF", **two_frames()[1]), RED),
    "moving.webp": (saved(two_frames()[0], "WEBP", lossless=True, **two_frames()[1]), RED),
    "moving.png": (saved(two_frames()[0], "PNG", **two_frames()[1]), RED),
    "pages.tif": (saved(two_frames()[0], "TIFF", **two_frames()[1]), RED),
    "bitmap.bmp": (saved(Image.new("1", (20, 20), 1), "BMP"), WHITE),
}
REFUSED = {  # file name: content, and the reason
    "truncated.jpg": (saved(noise(), "JPEG")[:3000], "OSError: image file is truncated"),
    "truncated.png": (saved(noise(), "PNG")[:3000], "OSError: "),
    "empty.jpg": (b"", "not an image file of a known kind"),
    "text.jpg": (b"just a note\n" * 50, "not an image file of a known kind"),
    "page.jpg": (b"<html><body>404</body></html>", "not an image file of a known kind"),
    "program.jpg": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
        "not an image file of a known kind",
    ),
    "strip.png": (saved(Image.new("RGB", (20_000, 20)), "PNG"), "ValueError: photo of 20000 x 20 pixels"),
    "bomb.png": (png(30_000, 30_000, 8, 2, bytes(1000)), "DecompressionBombError: Image size (900000000"),
    "bomb_below.png": (png(10_000, 10_000, 8, 2, bytes(1000)), "DecompressionBombWarning: Image size (100000000"),
    "float.tif": (saved(Image.new("F", (20, 20), 0.5), "TIFF"), "ValueError: photo of float values"),
    "header.png": (b"\x89PNG\r\n\x1a\n", "not an image file of a known kind"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")
    (tmp_path / "photos").mkdir()
    for name, (content, _) in {**READ, **REFUSED}.items():
        (tmp_path / "photos" / name).write_bytes(content)
    return tmp_path / "photos"


@pytest.mark.parametrize("name", READ)
def test_what_is_read(folder, name):
    example = PhotoFiles([folder / name], ImageTransform(SIZE, SIZE))[0]
    assert "skipped" not in example
    colours = pixels_to_uint8(example["pixel_values"])
    assert colours[:, 0, 0].tolist() == pytest.approx(READ[name][1], abs=2)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_by_name(folder, name):
    skipped = PhotoFiles([folder / name], ImageTransform(SIZE, SIZE))[0]["skipped"]
    assert skipped.name == str(folder / name) and skipped.reason.startswith(REFUSED[name][1])
    assert "\n" not in skipped.reason


def test_a_whole_folder_of_them_as_a_data_set(folder):
    photos = PhotoDataset(load_photos(folder), ImageTransform(SIZE, SIZE))
    examples = [photos[index] for index in range(len(photos))]
    skipped = [example["skipped"] for example in examples if "skipped" in example]
    assert {photo.name.rsplit("/")[-1] for photo in skipped} == set(REFUSED)
    assert len(examples) == len(READ) + len(REFUSED)


# a run over a folder with 5 % of them


@pytest.fixture
def mixed(tmp_path, monkeypatch):
    """40 training and 20 validation photos, of which 2 and 1 cannot be read; and their names."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")
    names = iter(["truncated.jpg", "bomb.png", "text.jpg"])
    for split, count, broken in (("train", 40, 2), ("validation", 20, 1)):
        (tmp_path / "mixed" / split).mkdir(parents=True)
        for number in range(count - broken):
            noise(40, 36).save(tmp_path / "mixed" / split / f"photo{number:02}.png")
        for name in (next(names) for _ in range(broken)):
            (tmp_path / "mixed" / split / name).write_bytes(REFUSED[name][0])
    return tmp_path / "mixed"


@pytest.mark.parametrize("streaming", [False, True])
def test_a_training_finishes_and_says_how_many_and_which(mixed, tmp_path, capsys, monkeypatch, streaming):
    from feat2img.training import GAN_PRESETS, loop, train

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(loop, "STATISTICS_IMAGES", 8)
    config = dataclasses.replace(
        GAN_PRESETS["debug"], dataset_name=str(mixed), output_dir=str(tmp_path / "out"), report_to="none",
        image_size=32, resize_size=32, encoder_layers=("layer2",), max_train_steps=20, max_train_samples=None,
        checkpointing_steps=100, streaming=streaming,
    )  # fmt: skip
    folder = train(config)
    said = capsys.readouterr().out
    named = json.loads((folder / "training.json").read_text())["skipped_photos"]
    assert {name.rsplit("/")[-1] for name in named} == {"truncated.jpg", "bomb.png"}
    assert ("skipped 4 of 8" if streaming else "skipped 2 of 40 photos: ") in said and "bomb.png" in said


def test_a_comparison_finishes_and_says_how_many_and_which(mixed, make_gan, tmp_path, monkeypatch, capsys):
    from feat2img.cli import main

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    make_gan().save_pretrained(tmp_path / "gan")
    out = tmp_path / "out"
    arguments = ["compare", tmp_path / "gan", "--dataset", mixed, "--output_dir", out, "--verifier", "none"]
    assert main([*map(str, arguments), "--device", "cpu", "--baselines", "--batch_size", "4"]) == 0
    assert "1 photos could not be read and were skipped: " in capsys.readouterr().out
    assert "text.jpg,not an image file of a known kind" in (out / "skipped.csv").read_text()
    assert {row["num_skipped"] for row in json.loads((out / "results.json").read_text())} == {1}
