"""Originals and reconstructions with their figures, as HTML."""

import base64
from html import escape

from PIL import Image

from ..evaluation.files import png_bytes
from ..evaluation.formatting import ARROWS, format_number
from ..evaluation.metrics import METRICS
from .studio import Reconstructed

SHOWN = ("psnr", "lpips", "feature_cosine")
UNITS = {"psnr": " dB"}


def render_results(results: list[Reconstructed], note: str | None = None) -> str:
    """The original's card and one for each reconstruction, then what was left out."""
    if not results:
        return render_empty()
    first = results[0]
    shape = " × ".join(map(str, first.feature_shape))
    kept = [
        ("features", shape),
        ("of the photo's numbers", f"{100 * first.share_kept:.0f} %"),
        ("encode", ms(first.encode_ms)),
    ]
    best = best_of(results)
    cards = [_card("original", f"{first.original.width} px", first.original, kept, "original")]
    for result in results:
        cards.append(_card(result.name, result.detail, result.image, figures(result), "", best))
    notes = "" if note is None else f'<p class="f2i-note">LPIPS was left out. {escape(note)}</p>'
    return f'<div class="f2i-cards">{"".join(cards)}</div>{notes}'


def render_empty() -> str:
    """What stands there before the first photo."""
    return '<div class="f2i-empty">Drop in a photo or choose an example. Its reconstructions appear here.</div>'


def figures(result: Reconstructed) -> list[tuple[str, str]]:
    """Label and value of what was measured of a reconstruction; metrics that are not at hand are left out."""
    shown = [
        (f"{METRICS[name].title} {ARROWS[METRICS[name].higher_is_better]}", value(name, result))
        for name in SHOWN
        if name in result.scores
    ]
    return [*shown, ("decode", ms(result.decode_ms))]


def value(name: str, result: Reconstructed) -> str:
    """A score with its unit."""
    return format_number(result.scores[name], METRICS[name].digits) + UNITS.get(name, "")


def best_of(results: list[Reconstructed]) -> set[tuple[str, str]]:
    """The (label, value) pairs that are best among several results, to be set off."""
    if len(results) < 2:
        return set()
    best = set()
    for name in SHOWN:
        scored = [result for result in results if name in result.scores]
        if scored:
            choose = max if METRICS[name].higher_is_better else min
            winner = choose(scored, key=lambda result: result.scores[name])
            best |= {pair for pair in figures(winner) if pair[0].startswith(METRICS[name].title)}
    return best


def ms(milliseconds: float) -> str:
    """A time as people read it: "8.4 ms", "120 ms", "2.5 s"."""
    if milliseconds >= 999.5:
        return f"{milliseconds / 1000:.1f} s"
    return f"{milliseconds:.1f} ms" if milliseconds < 9.95 else f"{milliseconds:.0f} ms"


def data_url(image: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(png_bytes(image)).decode()


def _card(name, detail, image, rows, kind: str, best: set | frozenset = frozenset()) -> str:
    lines = "".join(_line(label, shown, (label, shown) in best) for label, shown in rows)
    title = escape(f"{name}, {detail}")
    return (
        f'<figure class="f2i-card {kind}"><img src="{data_url(image)}" alt="{title}">'
        f"<figcaption><b>{escape(name)}</b><span>{escape(detail)}</span></figcaption><dl>{lines}</dl></figure>"
    )


def _line(label: str, shown: str, is_best: bool) -> str:
    mark = ' class="f2i-best"' if is_best else ""
    return f"<div{mark}><dt>{escape(label)}</dt><dd>{escape(shown)}</dd></div>"
