"""What all benchmarks share: fair timing of rivals in one run, the machine's own speed, and how results are shown."""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from tqdm.auto import tqdm

PACKAGES = ("torch", "diffusers", "accelerate", "timm", "torchmetrics")


@dataclass
class Section:
    """One benchmark's part of the results: markdown, and the figures in it by name."""

    title: str
    text: str
    figures: dict = field(default_factory=dict)


def table(header: list[str], rows: list[list]) -> str:
    """A markdown table; floats are shown with three significant digits."""
    lines = [header, ["---"] * len(header), *([shown(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def shown(value) -> str:
    """A number with three significant digits, anything else as it is."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def seconds_of(call: Callable[[], object]) -> float:
    """Wall time of one call in seconds."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def race(rivals: dict[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Wall times of rivals, run in turns so that whatever else the machine does meets all of them alike."""
    for _ in range(warm_up):
        for call in rivals.values():
            call()
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in tqdm(range(rounds), desc=" / ".join(rivals), disable=None, leave=False):
        for name, call in rivals.items():
            times[name].append(seconds_of(call))
    return times


def ratio(times: dict[str, list[float]], slow: str, fast: str) -> tuple[float, float, float]:
    """How many times as fast `fast` is: median over the rounds of slow / fast, and the smallest and largest."""
    ratios = [a / b for a, b in zip(times[slow], times[fast], strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def matrix_rate(dtype: torch.dtype, size: int = 2048, repeats: int = 8) -> float:
    """The machine's rate of multiplying square matrices in GFLOP/s, the best of several tries: the floor's measure."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    a @ b
    return 2 * size**3 / min(seconds_of(lambda: a @ b) for _ in range(repeats)) / 1e9


def machine() -> str:
    """The processor, its cores, memory, and the versions of what runs."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return (
        f"{name}, {os.cpu_count()} cores ({torch.get_num_threads()} threads), {memory:.0f} GiB{gpu}; "
        f"Python {platform.python_version()}, {versions}"
    )


def parser(description: str) -> argparse.ArgumentParser:
    """Options that every benchmark has."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--dataset", help="folder or Hub name of photos; default: crops of scikit-image's photos")
    options.add_argument("--quick", action="store_true", help="few repetitions: does it run at all?")
    return options


def main(run: Callable[[argparse.Namespace], Section], description: str) -> None:
    """Run one benchmark alone and print its section."""
    section = run(parser(description).parse_args())
    sys.stdout.write(f"## {section.title}\n\n{section.text}\n")
