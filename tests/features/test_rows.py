import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from feat2img.features.rows import RowFile


@pytest.fixture
def saved(tmp_path):
    values = np.random.default_rng(0).normal(size=(7, 2, 3, 4)).astype(np.float16)
    np.save(tmp_path / "rows.npy", values)
    return tmp_path / "rows.npy", values


def test_rows_are_numpy_s(saved):
    path, values = saved
    assert np.array_equal(RowFile(path, values.shape, np.float16).read(2, 4), values[2:6])
    flat = RowFile(path, values.shape, np.float16, axes=2)
    assert flat.num_rows == 14 and np.array_equal(flat.read(3, 5), values.reshape(14, 3, 4)[3:8])
    assert np.array_equal(pickle.loads(pickle.dumps(flat)).read(13), values.reshape(14, 3, 4)[13:])


def test_what_is_written_is_in_the_file(saved):
    path, values = saved
    rows = RowFile(path, values.shape, np.float16)
    rows.write(3, values[0].astype(np.float64))
    rows.flush()
    values[3] = values[0]
    assert np.array_equal(np.load(path), values)


def test_files_that_hold_something_else_are_refused(saved):
    path, values = saved
    with pytest.raises(ValueError, match=r"holds float16 \(7, 2, 3, 4\), expected float32"):
        RowFile(path, values.shape, np.float32)
    with pytest.raises(ValueError, match=r"expected float16 \(8, 2, 3, 4\)"):
        RowFile(path, (8, 2, 3, 4), np.float16)
    rows = RowFile(path, values.shape, np.float16)
    os.truncate(path, path.stat().st_size - 10)  # after it was opened
    assert np.array_equal(rows.read(5), values[5:6])
    with pytest.raises(ValueError, match="ends before row 7"):
        rows.read(6)
    with pytest.raises(ValueError, match="missing or corrupt"):
        RowFile(path, values.shape, np.float16)


def test_reading_a_large_file_leaves_memory_flat(tmp_path):
    rows, megabytes = 64, 2
    np.save(tmp_path / "rows.npy", np.ones((rows, megabytes << 20), np.uint8))
    script = (
        "import resource, sys, numpy as np\n"
        "from feat2img.features.rows import RowFile\n"
        f"rows = RowFile({str(tmp_path / 'rows.npy')!r}, {(rows, megabytes << 20)}, np.uint8)\n"
        "rows.read(0)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"assert sum(int(rows.read(i).sum()) for i in range({rows})) == {rows * megabytes << 20}\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    grown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    assert int(grown.stdout) * unit < (rows * megabytes << 20) / 8
