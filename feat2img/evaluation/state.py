"""What an unfinished comparison has measured so far, on disk, so that a run that was cut off goes on from there.

One folder per run, named by a hash of everything that changes its results; in it one folder per pipeline:

====================  ================================================================================
``batches.jsonl``     one line per finished batch: photos, labels, skipped photos, scores, cost
``<k>.features``      float32 rows: pooled features of what contender k answered
``originals.features``  the same of the originals
``pictures/``         the first reconstructions as PNG files
====================  ================================================================================

A line is written after everything that belongs to its batch; what lies behind the last whole line is dropped.
"""

import hashlib
import json
import shutil
from pathlib import Path

from PIL import Image

from .distributions import FeatureFile

STATE_FOLDER = ".partial"


def state_folder(parent: str | Path, description: dict) -> Path:
    """The folder of a run that is described by plain JSON; it is made if need be."""
    key = hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode()).hexdigest()
    folder = Path(parent) / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def discard_state(parent: str | Path) -> None:
    """Remove what was kept of unfinished runs."""
    shutil.rmtree(parent, ignore_errors=True)


class PassState:
    """What was measured of one pipeline's contenders.

    Args:
        folder: of this pipeline; made if need be.

    Attributes:
        records: one dict per finished batch, oldest first.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        self.path = folder / "batches.jsonl"
        self.records = self._read()
        self.feature_files: dict[str, FeatureFile] = {}
        for record in self.records:
            for name, dim in record["feature_dims"].items():
                self.feature_files[name] = FeatureFile(folder / f"{name}.features", dim)
        for name, file in self.feature_files.items():
            file.truncate(sum(record["counts"].get(name, 0) for record in self.records))

    def _read(self) -> list[dict]:
        if not self.path.is_file():
            return []
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with open(self.path, "r+b") as file:
                file.truncate(len(whole))
        return [json.loads(line) for line in whole.splitlines()]

    def add_features(self, name: str, features) -> None:
        """Keep pooled features (B, D) of contender or "originals" `name`."""
        if name not in self.feature_files:
            path = self.folder / f"{name}.features"
            if not any(name in record["feature_dims"] for record in self.records):
                path.unlink(missing_ok=True)  # of a batch that was never finished
            self.feature_files[name] = FeatureFile(path, features.shape[1])
        self.feature_files[name].append(features)

    def append(self, record: dict) -> None:
        """Keep a finished batch."""
        record["feature_dims"] = {name: file.dim for name, file in self.feature_files.items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def save_picture(self, name: str, number: int, image: Image.Image) -> None:
        """Keep a picture for the grid."""
        image.save(self.folder / "pictures" / f"{name}-{number}.png")

    def pictures(self, name: str, count: int) -> list[Image.Image]:
        """The first so many pictures."""
        paths = [self.folder / "pictures" / f"{name}-{number}.png" for number in range(count)]
        return [Image.open(path).convert("RGB") for path in paths]
