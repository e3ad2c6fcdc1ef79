"""Start-up: how long the command line, the import and the first reconstructed photo keep a user waiting."""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .measure import Section, main, race, ratio, table
from .photos import write_photos

QUICKSTART = Path(__file__).parents[1] / "examples" / "quickstart"
HELP_SECONDS, IMPORT_RATIO, FIRST_IMAGE_RATIO = 1.0, 1.2, 1.5  # the targets

BARE = "import torch, diffusers, timm"
USED = "from diffusers import DiffusionPipeline, UNet2DConditionModel; import timm"  # bare, diffusers imports little
# name => code for a fresh interpreter
IMPORTS = {
    "bare": BARE,
    "bare + feat2img": f"{BARE}, feat2img",
    "used": USED,
    "used + Feat2ImgPipeline": f"{USED}; from feat2img import Feat2ImgPipeline",
    "feat2img": "import feat2img",
}
# name, what it is divided by, target of the ratio (None: only shown)
RATIOS = (
    ("bare + feat2img", "bare", IMPORT_RATIO),
    ("used + Feat2ImgPipeline", "used", IMPORT_RATIO),
    ("first image, GAN", "bare", FIRST_IMAGE_RATIO),
    ("first image, GAN", "used", None),
    ("first image, diffusion", "bare", None),
)


def python(*arguments: str | Path) -> None:
    """Run a fresh interpreter. Raises RuntimeError with its errors when it fails."""
    finished = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments))} failed: {finished.stderr}")


def processor_seconds(call: Callable[[], None]) -> float:
    """Processor time that a call's child processes took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def reconstruct(kind: str, folder: Path) -> None:
    """The command line from its start to the end, with one photo."""
    photo = folder / "train" / "000000.jpg"
    python("-m", "feat2img.cli", "reconstruct", QUICKSTART / kind, photo, "--output_dir", folder / kind)


def run(options: argparse.Namespace) -> Section:
    """Wall times of fresh interpreters, in turns, and their ratios."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_photos(options, Path(temporary), 1)
        rivals = {"help": lambda: python("-m", "feat2img.cli", "--help")}
        rivals |= {name: lambda code=code: python("-c", code) for name, code in IMPORTS.items()}
        rivals |= {
            "first image, GAN": lambda: reconstruct("gan", folder),
            "first image, diffusion": lambda: reconstruct("diffusion", folder),
        }
        spent: dict[str, list[float]] = {name: [] for name in rivals}
        counted = {
            name: lambda name=name, call=call: spent[name].append(processor_seconds(call))
            for name, call in rivals.items()
        }
        rounds, warm_up = (1, 0) if options.quick else (3, 1)
        times = race(counted, rounds, warm_up)
        spent = {name: values[warm_up:] for name, values in spent.items()}
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {f"{name} / {base}": ratio(times, name, base) for name, base, _ in RATIOS}
    processor = {f"{name} / {base}": ratio(spent, name, base)[0] for name, base, _ in RATIOS}
    rows = [["`feat2img --help`, seconds", medians["help"], "", "", f"under {HELP_SECONDS:g}"]]
    for name, base, target in RATIOS:
        median, smallest, largest = ratios[f"{name} / {base}"]
        target = "" if target is None else f"at most {target:g}"
        spread = f"{smallest:.2f} to {largest:.2f}"
        rows.append([f"{name} / {base}", median, spread, processor[f"{name} / {base}"], target])
    text = (
        f"Median of {rounds} fresh interpreters each, started in turns; a ratio is the median over the rounds. "
        "`import feat2img` alone is lazy and imports nothing else, so `bare + feat2img` costs nothing by design; what "
        "a user waits for is `used + Feat2ImgPipeline`. Processor times depend less on what else the machine does.\n\n"
        + table(["", "measured", "range", "of processor time", "target"], rows)
        + "\n"
        + table(["seconds", "median", "what runs"], [[name, medians[name], explain(name)] for name in rivals])
    )
    figures = {f"seconds: {name}": seconds for name, seconds in medians.items()}
    figures |= {f"ratio: {name}": values[0] for name, values in ratios.items()}
    figures |= {f"ratio of processor time: {name}": value for name, value in processor.items()}
    return Section("Start-up", text, figures)


def explain(name: str) -> str:
    """What was started."""
    if name in IMPORTS:
        return f"`python -c '{IMPORTS[name]}'`"
    if name == "help":
        return "`feat2img --help`"
    return f"`feat2img reconstruct examples/quickstart/{'gan' if 'GAN' in name else 'diffusion'} PHOTO`"


if __name__ == "__main__":
    main(run, __doc__)
