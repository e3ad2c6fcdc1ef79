import io
import sys

import pytest
from PIL import Image

from feat2img.data import ImageTransform, PhotoDataset
from feat2img.evaluation.photos import SCIKIT_IMAGE_PHOTOS, load_comparison_photos


def test_scikit_image_s_photographs_are_in_its_wheel_and_always_the_same():
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    photos = load_comparison_photos("scikit-image", num_images=3, seed=5)
    assert len(photos) == 3 and [row["image"]["path"] for row in photos] == [
        "astronaut.png",
        "chelsea.png",
        "coffee.png",
    ]
    astronaut = Image.open(io.BytesIO(photos[0]["image"]["bytes"]))
    assert astronaut.size == (512, 512) and astronaut.tobytes() == data.astronaut().tobytes()
    everything = PhotoDataset(load_comparison_photos("scikit-image"), ImageTransform(64, 72))
    assert len(everything) == len(SCIKIT_IMAGE_PHOTOS) == 8
    assert all(everything[i]["pixel_values"].shape == (3, 64, 64) for i in range(8))


def test_without_scikit_image_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r"pip install 'feat2img\[demo\]'"):
        load_comparison_photos("scikit-image")


def test_other_data_sets_come_from_load_photos(photo_folder):
    assert len(load_comparison_photos(str(photo_folder), "validation", num_images=5)) == 5
    with pytest.raises(ValueError, match="num_images"):
        load_comparison_photos("scikit-image", num_images=0)
