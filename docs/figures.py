"""Draw the figures of the concepts page as SVG: `make figures` writes them to docs/source/figures.

What is drawn is computed where it can be: sizes of features come from timm, the photos from the quickstart pair.
"""

import base64
import io
from html import escape
from pathlib import Path

import timm
import torch
from PIL import Image

from feat2img import Feat2ImgPipeline, TimmFeatureEncoder
from feat2img.data import ImageTransform, pixels_to_uint8

ROOT = Path(__file__).parent
FOLDER = ROOT / "source" / "figures"
QUICKSTART = ROOT.parent / "examples" / "quickstart"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
INK, MUTED, LINE, PAPER = "#1b1f24", "#5b6472", "#c9ced6", "#ffffff"
KINDS = {"frozen": "#e7edf6", "trained": "#dff1ed", "data": "#f5f1e6", "loss": "#f8e4e1"}
SEED = 0


class Figure:
    """An SVG picture of a fixed size on a light sheet, which reads on dark pages too."""

    def __init__(self, width: int, height: int, title: str):
        self.width, self.height, self.title = width, height, title
        self.parts: list[str] = []

    def box(self, x, y, width, height, lines: list[str], kind: str) -> None:
        """A rounded box with a bold first line and small further lines."""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="9" fill="{KINDS[kind]}" stroke="{LINE}"/>'
        )
        top = y + height / 2 - (len(lines) - 1) * 8.5 + 4.5
        for number, line in enumerate(lines):
            style = dict(size=13.5, weight=600) if number == 0 else dict(size=11.5, colour=MUTED)
            self.text(x + width / 2, top + 17 * number, line, anchor="middle", **style)

    def text(self, x, y, text: str, size=12.0, weight=400, colour=INK, anchor="start") -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
            f'text-anchor="{anchor}">{escape(text)}</text>'
        )

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """A line through the points with a head at the last."""
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<path d="{path}" fill="none" stroke="{MUTED}" stroke-width="1.6" marker-end="url(#head)"{dash}/>'
        )

    def bar(self, x, y, width, height, colour) -> None:
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{height}" rx="3" fill="{colour}"/>')

    def photo(self, x, y, side, image: Image.Image) -> None:
        content = io.BytesIO()
        image.resize((2 * side, 2 * side), Image.Resampling.LANCZOS).save(content, "jpeg", quality=82)
        data = base64.b64encode(content.getvalue()).decode()
        self.parts.append(
            f'<image x="{x}" y="{y}" width="{side}" height="{side}" href="data:image/jpeg;base64,{data}"/>'
        )

    def write(self, name: str) -> Path:
        head = (
            f'<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0L8 4L0 8z" fill="{MUTED}"/></marker>'
        )
        sheet = f'<rect width="{self.width}" height="{self.height}" rx="12" fill="{PAPER}"/>'
        path = FOLDER / name
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" font-family="{FONT}" role="img"><title>{escape(self.title)}</title>'
            f"<defs>{head}</defs>{sheet}{''.join(self.parts)}</svg>\n",
            encoding="utf-8",
        )
        return path


def draw_overview() -> Path:
    """Photo => encoder => features => projector => one of two decoders => photo."""
    figure = Figure(760, 232, "From a photo to its features and back")
    figure.box(16, 86, 88, 60, ["photo", "224 × 224"], "data")
    figure.box(136, 76, 122, 80, ["encoder", "timm network", "up to a layer"], "frozen")
    figure.box(290, 86, 108, 60, ["features", "C × h × w"], "data")
    figure.box(430, 86, 98, 60, ["projector", "spatial map"], "trained")
    figure.box(566, 22, 178, 72, ["GAN", "generator: one pass"], "trained")
    figure.box(566, 138, 178, 72, ["diffusion", "denoiser: several steps"], "trained")
    for left, right in ((104, 136), (258, 290), (398, 430)):
        figure.arrow((left, 116), (right - 2, 116))
    figure.arrow((528, 116), (547, 116), (547, 58), (564, 58))
    figure.arrow((528, 116), (547, 116), (547, 174), (564, 174))
    figure.text(655, 121, "the same features, two answers", 11.5, colour=MUTED, anchor="middle")
    for x, kind, label in ((16, "frozen", "frozen"), (92, "trained", "trained"), (174, "data", "numbers")):
        figure.bar(x, 202, 13, 13, KINDS[kind])
        figure.text(x + 19, 213, label, 11.5, colour=MUTED)
    return figure.write("overview.svg")


def feature_sizes() -> list[tuple[str, tuple[int, int, int]]]:
    """(name, (C, h, w)) of ResNet-101's levels and of the quickstart encoder at 224 px, as timm says."""
    network = timm.create_model("resnet101", pretrained=False, features_only=True)
    with torch.no_grad():
        maps = network(torch.zeros(1, 3, 224, 224))
    names = ["act1", "layer1", "layer2", "layer3", "layer4"]
    sizes = [(f"ResNet-101 {name}", tuple(m.shape[1:])) for name, m in zip(names, maps, strict=True)]
    quickstart = TimmFeatureEncoder.from_pretrained(QUICKSTART / "gan" / "encoder")
    sizes.append(("EfficientNet-Lite0 blocks.4", tuple(quickstart.feature_shape)))
    return [*sizes, ("ResNet-101 pooled", (maps[-1].shape[1], 1, 1))]


def draw_sizes() -> Path:
    """How many numbers the features of each layer are, over those of the photo."""
    sizes = feature_sizes()
    figure = Figure(760, 72 + 34 * len(sizes), "How many numbers each layer hands on")
    pixels = 3 * 224 * 224
    figure.text(16, 28, "Numbers per photo, as a share of its 3 × 224 × 224 pixel values", 13.5, 600)
    scale = 330 / max(c * h * w for _, (c, h, w) in sizes)
    for row, (name, (c, h, w)) in enumerate(sizes):
        y = 48 + 34 * row
        share = c * h * w / pixels
        figure.text(16, y + 15, name, 12.5)
        figure.text(206, y + 15, f"{c} × {h} × {w}", 11.5, colour=MUTED)
        figure.bar(304, y + 2, max(2.0, scale * c * h * w), 18, "#0b6b5f" if share < 1 else "#9fb9d6")
        end = 304 + scale * max(c * h * w, pixels if share < 1 else 0)  # clear of the dashed line
        figure.text(end + 10, y + 15, f"{100 * share:.3g} %", 12, 600)
    x = 304 + scale * pixels
    figure.parts.append(f'<path d="M{x:.1f} 44V{60 + 34 * len(sizes)}" stroke="{INK}" stroke-dasharray="3 4"/>')
    figure.text(x + 6, 58 + 34 * len(sizes), "as many as the photo", 11, colour=MUTED)
    return figure.write("feature-sizes.svg")


def draw_gan() -> Path:
    """What trains the generator."""
    figure = Figure(760, 262, "How the adversarial decoder is trained")
    figure.box(16, 96, 98, 60, ["features", "C × h × w"], "data")
    figure.box(146, 96, 110, 60, ["projector", "mixes the map"], "trained")
    figure.box(288, 86, 128, 80, ["generator", "ResNet blocks,", "upsampling"], "trained")
    figure.box(448, 96, 106, 60, ["image", "3 × S × S"], "data")
    figure.box(590, 16, 154, 52, ["L1", "pixel for pixel"], "loss")
    figure.box(590, 100, 154, 52, ["perceptual", "encoder's network"], "loss")
    figure.box(590, 184, 154, 52, ["adversarial", "discriminator"], "loss")
    for left, right in ((114, 146), (256, 288), (416, 448)):
        figure.arrow((left, 126), (right - 2, 126))
    figure.arrow((554, 126), (572, 126), (572, 42), (588, 42))
    figure.arrow((554, 126), (588, 126))
    figure.arrow((554, 126), (572, 126), (572, 210), (588, 210), dashed=True)
    figure.text(16, 226, "Dashed: joins later in the run, when the image is good enough to be judged.",
                11.5, colour=MUTED)  # fmt: skip
    return figure.write("gan.svg")


def to_photo(pixels: torch.Tensor) -> Image.Image:
    """(1, 3, S, S) in [-1, 1] => PIL image."""
    return Image.fromarray(pixels_to_uint8(pixels[0]).permute(1, 2, 0).numpy())


def denoising_panels(photo: Image.Image) -> list[tuple[str, Image.Image]]:
    """The quickstart diffusion decoder at work: the photo, its first guess where it makes one, what is denoised at
    the start and after some steps (in units that fill the range), and the result."""
    pipeline = Feat2ImgPipeline.from_pretrained(QUICKSTART / "diffusion")
    pipeline.set_progress_bar_config(disable=True)
    config = pipeline.config
    seen = ImageTransform(config.image_size, config.resize_size)(photo)[None]
    features = pipeline.encode(seen)
    guess = pipeline.prepare_guess(features, 1)
    states = [pipeline.prepare_latents(1, torch.float32, torch.Generator().manual_seed(SEED))]

    def after_step(pipe, index, timestep, tensors):
        states.append(tensors["latents"])
        return tensors

    result = pipeline(
        features=features, generator=torch.Generator().manual_seed(SEED), callback_on_step_end=after_step
    ).images[0]

    def show(patches: torch.Tensor, scale: float = 1.0) -> Image.Image:
        return to_photo(torch.nn.functional.pixel_shuffle(patches, config.patch_size) * scale)

    count = len(states) - 1
    chosen = sorted({round(count * share) for share in (0, 0.25, 0.5, 1)})
    panels = [("photo", to_photo(seen))]
    if guess is not None:
        panels.append(("first guess", show(guess)))
    for step in chosen:
        panels.append(("start: noise" if step == 0 else f"step {step} of {count}", show(states[step], 1 / 3)))
    return [*panels, ("result", result)]


def draw_diffusion() -> Path:
    """The quickstart diffusion decoder at work."""
    import skimage.data

    panels = denoising_panels(Image.fromarray(skimage.data.astronaut()))
    side, gap = 96, 10
    figure = Figure(2 * 16 + len(panels) * (side + gap) - gap, side + 56, "Denoising, step by step")
    for number, (label, image) in enumerate(panels):
        x = 16 + number * (side + gap)
        figure.photo(x, 16, side, image)
        figure.text(x + side / 2, side + 36, label, 11.5, colour=MUTED, anchor="middle")
    return figure.write("diffusion-steps.svg")


if __name__ == "__main__":
    for draw in (draw_overview, draw_sizes, draw_gan, draw_diffusion):
        print(draw())
