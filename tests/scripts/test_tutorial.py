"""The tutorial notebook, run from its first cell to its last, with small sizes."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "scripts" / "tutorial.ipynb"
# In place of the cell of parameters.
SMALL = """images, pixels, resolution_angstrom, photons = 60, 24, 22, 50_000
settings = {"start.iterations": 3, "phasing.cycles": 1, "phasing.starts": 1, "resolution.phasings": 2}
settings |= {"convergence.most_generations": 2}"""


def test_it_is_stored_without_outputs_and_names_no_machine() -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert not re.search(r"/(home|root|tmp|work|gpfs)/", text)
    assert len(text) < 50_000


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(TUTORIAL, as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source = SMALL
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    # Its folder of results is one of the test's.
    client.execute(env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output["data"] for output in outputs if "data" in output]
    text = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert sum("image/png" in data or "data:image/png" in data.get("text/html", "") for data in shown) >= 8
    assert re.search(r"^generation 1 of \d+: to [\d.]+ Å", text, re.MULTILINE)
    assert re.search(r"^half 2 of 2, generation \d+ of \d+", text, re.MULTILINE)
    assert "density.mrc\nfigures\n" in text
    (updated,) = (data for data in shown if re.search(r"<b>generation \d+ of \d+", data.get("text/html", "")))
    assert "data:image/png" in updated["text/html"]
