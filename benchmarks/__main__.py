"""Run the benchmarks, all or those that are named, and write benchmarks/results.md and results.json.

python -m benchmarks [--dataset FOLDER] [--quick] [NAME ...]
"""

import datetime
import importlib
import json
import sys
import time
from pathlib import Path

from . import measure

NAMES = (
    "start", "extraction", "training_step", "sampling", "compiled", "profiles", "scale", "imagenet", "memory",
    "allocation",
)  # fmt: skip
FOLDER = Path(__file__).parent


def main() -> None:
    parser = measure.parser(__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--output_dir", default=str(FOLDER), help="for results.md and results.json")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}: choose of {', '.join(NAMES)}")
    data = options.dataset or "crops of scikit-image's photographs"
    head = (
        "# Benchmarks\n\nWritten by `make bench`. Every claim is a ratio of rivals that were run in turns.\n\n"
        f"{datetime.date.today()}; {measure.machine()}. Photos: {Path(data).name}.\n"
    )
    folder = Path(options.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    sections, figures = [], {}
    for name in options.names or NAMES:
        began = time.monotonic()
        section = importlib.import_module(f"benchmarks.{name}").run(options)
        minutes = (time.monotonic() - began) / 60
        sections.append(
            f"## {section.title}\n\n{section.text}\n`python -m benchmarks.{name}`, {minutes:.1f} minutes.\n"
        )
        figures[name] = section.figures
        print(sections[-1], flush=True)
        # after each, so that nothing is lost when a later one fails
        (folder / "results.md").write_text("\n".join([head, *sections]))
        (folder / "results.json").write_text(json.dumps(figures, indent=2) + "\n")
    sys.stdout.write(f"wrote {folder / 'results.md'}\n")


if __name__ == "__main__":
    main()
