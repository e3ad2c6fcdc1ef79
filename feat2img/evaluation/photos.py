"""The photos of a comparison: a data set, or the photographs that come with scikit-image."""

import io

import datasets
import numpy as np
from PIL import Image

from ..data.sources import IMAGENETTE, load_photos

SCIKIT_IMAGE = "scikit-image"
# The colour photographs inside scikit-image's wheel (function name in skimage.data), everyday scenes first.
SCIKIT_IMAGE_PHOTOS = (
    "astronaut",
    "chelsea",
    "coffee",
    "rocket",
    "stereo_motorcycle",
    "hubble_deep_field",
    "retina",
    "immunohistochemistry",
)


def load_comparison_photos(
    dataset: str = IMAGENETTE, split: str = "validation", *, num_images: int | None = None, seed: int = 0, **options
) -> datasets.Dataset:
    """Load the photos to reconstruct: `load_photos`, or with `dataset="scikit-image"` that package's photographs.

    Args:
        num_images: a seeded choice of so many photos; of scikit-image's the first so many.
        options: further arguments of `load_photos`.

    Returns:
        Columns "image" (undecoded) and, when there are labels, "label".
    """
    if dataset == SCIKIT_IMAGE:
        return scikit_image_photos(num_images)
    return load_photos(dataset, split, num_images=num_images, seed=seed, **options)


def scikit_image_photos(num_images: int | None = None) -> datasets.Dataset:
    """The photographs that scikit-image ships, at most eight, always in the same order.

    Raises:
        ImportError: when scikit-image is not installed.
    """
    if num_images is not None and num_images < 1:
        raise ValueError(f"num_images must be at least 1, got {num_images}")
    try:
        import skimage.data
    except ImportError as error:
        raise ImportError(
            "the data set 'scikit-image' is in the package scikit-image: pip install 'feat2img[demo]'"
        ) from error
    rows = []
    for name in SCIKIT_IMAGE_PHOTOS[:num_images]:
        photo = getattr(skimage.data, name)()
        photo = photo[0] if isinstance(photo, tuple) else photo  # left and right view, disparity
        content = io.BytesIO()
        Image.fromarray(np.asarray(photo)).save(content, "png", compress_level=1)
        rows.append({"bytes": content.getvalue(), "path": f"{name}.png"})
    features = datasets.Features({"image": datasets.Image(decode=False)})
    return datasets.Dataset.from_dict({"image": rows}, features=features)


def class_names_of(photos: datasets.Dataset) -> list[str]:
    """Names of the classes; empty without labels or where the labels have none."""
    return list(getattr(photos.features.get("label"), "names", None) or [])
