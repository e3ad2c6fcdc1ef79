"""The app as a Space: with the pipelines that FEAT2IMG_PIPELINES names (folders or Hub names, separated by spaces), or
else those in `pipelines/` beside this file."""

import os
from pathlib import Path

from feat2img.app import launch

HERE = Path(__file__).parent


def pipelines() -> list[str]:
    """What to load. Raises SystemExit with one line when there is nothing."""
    named = os.environ.get("FEAT2IMG_PIPELINES", "").split()
    found = named or [str(index.parent) for index in sorted((HERE / "pipelines").glob("*/model_index.json"))]
    if not found:
        raise SystemExit("no pipeline: set the variable FEAT2IMG_PIPELINES, or put folders into pipelines/")
    return found


if __name__ == "__main__":
    launch(pipelines())
