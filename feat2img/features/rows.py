"""Rows of equal shape in a .npy file, read and written one by one.

A memory map would do the same, but every page of it that was touched counts as the process's memory, so that training
on a large cache seems to need as much memory as the cache is large. Here memory stays what the rows in hand need.
"""

import math
import os
from pathlib import Path

import numpy as np


class RowFile:
    """A .npy file that exists, row by row. Opened anew for each call, which costs microseconds and lets threads,
    forked and spawned workers share it.

    Args:
        path: of the file.
        shape, dtype: what it must hold.
        axes: so many first axes, flattened, count the rows.

    Raises:
        ValueError: missing or damaged file, or one of another shape or type.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: type, axes: int = 1):
        self.path, self.dtype = path, np.dtype(dtype)
        self.num_rows, self.row_shape = math.prod(shape[:axes]), shape[axes:]
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)  # reads the header alone
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(
                f"{path} is missing or corrupt ({error}): delete its folder and build it again"
            ) from error
        if array.shape != shape or array.dtype != self.dtype or not array.flags.c_contiguous:
            raise ValueError(f"{path} holds {array.dtype} {array.shape}, expected {self.dtype} {shape}: rebuild it")
        self._start = array.offset
        self._row_bytes = self.dtype.itemsize * math.prod(self.row_shape)

    def read(self, start: int, count: int = 1) -> np.ndarray:
        """Rows `start` to `start + count`: (count, ...), in memory of its own.

        Raises:
            ValueError: when the file ends before them, as after a cut-off copy.
        """
        rows: np.ndarray = np.empty((count, *self.row_shape), self.dtype)
        with open(self.path, "rb") as file:
            file.seek(self._start + start * self._row_bytes)
            if file.readinto(rows.data) != rows.nbytes:
                raise ValueError(f"{self.path} ends before row {start + count}: delete its folder and build it again")
        return rows

    def write(self, row: int, values: np.ndarray) -> None:
        """Write one row."""
        with open(self.path, "r+b") as file:
            file.seek(self._start + row * self._row_bytes)
            file.write(np.ascontiguousarray(values, self.dtype))

    def flush(self) -> None:
        """Wait until what was written is on disk."""
        with open(self.path, "r+b") as file:
            os.fsync(file.fileno())
