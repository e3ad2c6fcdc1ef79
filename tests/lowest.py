"""Print the lowest versions that setup.cfg allows, as requirements: `python tests/lowest.py [EXTRA ...]`."""

import configparser
import sys
from pathlib import Path


def lowest(setup_cfg: Path, extras: list[str]) -> list[str]:
    """ "name >= 1.2" => "name==1.2" for the package's requirements and those of its extras."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(setup_cfg)
    lists = [config["options"]["install_requires"], *(config["options.extras_require"][extra] for extra in extras)]
    lines = [line.strip() for text in lists for line in text.splitlines() if line.strip() and "%(" not in line]
    return [line.replace(" ", "").replace(">=", "==") for line in lines]


if __name__ == "__main__":
    print("\n".join(lowest(Path(__file__).parents[1] / "setup.cfg", sys.argv[1:])))
