"""The notebook, from top to bottom in a fresh kernel."""

import os
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs the packages nbclient and ipykernel")
pytest.importorskip("ipykernel", reason="needs the package ipykernel")
ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "feat2img_tour.ipynb"
MOST_SECONDS = 300  # of a cell


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_valid_and_stored_without_outputs(notebook):
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(cell.outputs == [] and cell.execution_count is None for cell in code)


@pytest.mark.slow
@pytest.mark.parametrize("folder", [ROOT, ROOT / "examples"], ids=["repository", "examples"])
def test_it_runs_from_top_to_bottom(notebook, folder, tmp_path, monkeypatch):
    pytest.importorskip("skimage", reason="its photos are scikit-image's")
    from jupyter_client.kernelspec import KernelSpecManager
    from nbclient import NotebookClient

    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = f'["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
    (kernel / "kernel.json").write_text(f'{{"argv": {argv}, "display_name": "Python 3", "language": "python"}}')
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))
    client = NotebookClient(
        nbformat.from_dict(notebook), timeout=MOST_SECONDS, resources={"metadata": {"path": str(folder)}}
    )
    client.create_kernel_manager()
    client.km.kernel_spec_manager = KernelSpecManager(kernel_dirs=[str(kernel.parent)], ensure_native_kernel=False)
    client.execute()
    outputs = [output for cell in client.nb.cells for output in cell.get("outputs", [])]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) == 3
