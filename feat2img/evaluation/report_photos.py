"""The photos of a report: grids in which every photo opens beside its reconstructions."""

import base64
import io
import math
from html import escape

from PIL import Image

from .grid import Column
from .report_data import ReportData
from .report_terms import metric_of, show

TILE_METRICS = ("lpips", "psnr")
CASES = {"best": "Best", "worst": "Worst"}
JPEG_QUALITY = 92


def photo_grid(columns: list[Column], group: str, captions: list[list[str]] | None = None) -> str:
    """Columns as one grid, row by row, originals kept in view while it scrolls sideways.

    Args:
        columns: equally long, originals first.
        group: name of the set that the zoom goes through.
        captions: one line per column and photo, shown in the zoom; the subtitle without them.
    """
    heads = [
        f'<div class="head{" original" if i == 0 else ""}" title="{escape(c.title)}"><span>{escape(c.title)}</span>'
        f"<small>{escape(c.subtitle)}</small></div>"
        for i, c in enumerate(columns)
    ]
    tiles = []
    for photo in range(len(columns[0].images)):
        for place, column in enumerate(columns):
            caption = captions[place][photo] if captions else column.subtitle
            tiles.append(_tile(column, photo, group, caption, is_original=place == 0))
    side = max(image.width for column in columns for image in column.images)
    grid = f'<div class="grid" style="--columns: {len(columns)}; --side: {side}px">{"".join(heads + tiles)}</div>'
    return f'<div class="scroll photos" role="region" aria-label="Photos, {escape(group)}">{grid}</div>'


def _tile(column: Column, photo: int, group: str, caption: str, is_original: bool) -> str:
    image = column.images[photo]
    name = f"{column.title}, {column.subtitle}" if column.subtitle else column.title
    texts = {
        "data-set": group,
        "data-photo": str(photo),
        "data-title": column.title,
        "data-caption": caption,
        "class": "tile original" if is_original else "tile",
    }
    attributes = " ".join(f'{key}="{escape(value)}"' for key, value in texts.items())
    alt = escape(f"{name}, photo {photo + 1}")
    size = f'width="{image.width}" height="{image.height}"'
    return f'<button type="button" {attributes}><img src="{inlined(image)}" {size} alt="{alt}"></button>'


def inlined(image: Image.Image) -> str:
    """A photo at its own size as a data URI.

    PNG takes five times as much: a page with a hundred photos would weigh 10 MB. Colour keeps its full resolution,
    which WebP and JPEG's usual subsampling halve: a decoder's coloured texture must not get lost in the codec.
    """
    content = io.BytesIO()
    # not optimize=True, which fails where a noisy image is larger than Pillow's guess
    image.convert("RGB").save(content, "jpeg", quality=JPEG_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def first_photos(data: ReportData) -> str:
    """The grid of the first photos; under each zoomed reconstruction its own scores, under an original its class."""
    if not data.columns or not data.columns[0].images:
        return ""
    photos = range(len(data.columns[0].images))
    captions = [[_class_of(data, photo) or data.columns[0].subtitle for photo in photos]]
    captions += [[_scores_of(data, column, photo) for photo in photos] for column in data.columns[1:]]
    return photo_grid(data.columns, "the first", captions)


def _class_of(data: ReportData, photo: int) -> str:
    number = data.labels[photo] if photo < len(data.labels) else -1
    return data.class_names[number] if 0 <= number < len(data.class_names) else ""


def _scores_of(data: ReportData, column: Column, photo: int) -> str:
    """The photo's scores, or the column's subtitle where they are not known."""
    scores = data.per_image.get(f"{column.title}, {column.subtitle}", data.per_image.get(column.title, {}))
    texts = []
    for name in TILE_METRICS:
        values = scores.get(name, [])
        if photo < len(values) and not math.isnan(values[photo]):
            texts.append(f"{metric_of(name).title}\u00a0{show(name, values[photo])}")
    is_steps = column.subtitle.endswith(("step", "steps"))
    return " · ".join([column.subtitle] * is_steps + texts) if texts else column.subtitle


def case_grids(data: ReportData) -> str:
    """Best and worst photos, one grid each, side by side where there is room; a photo's columns lie in one line."""
    parts, widest = [], 0
    for key, title in CASES.items():
        places = list(zip(*(photo for photo in data.cases.get(key, []) if photo), strict=True))
        if not places:
            continue
        captions = [[column.subtitle for column in photos] for photos in places]
        columns = [
            Column(photos[0].title, lines[0] if len(set(lines)) == 1 else "", [c.images[0] for c in photos])
            for photos, lines in zip(places, captions, strict=True)
        ]
        widest = max(widest, len(columns))
        parts.append(f"<div><h3>{title}</h3>{photo_grid(columns, title.lower(), captions)}</div>")
    return f'<div class="cases" style="--columns: {widest}">{"".join(parts)}</div>' if parts else ""
