"""The lines for DAMNIT's context files, run by DAMNIT itself."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = (ROOT / "scripts" / "REFERENCE.md").read_text(encoding="utf-8")
# In a process of its own: its modules go by names such as `damnit_ctx`.
RUN = """
import sys
from pathlib import Path
from damnit.context import ContextFile

results = ContextFile.from_py_file(Path("context.py"))
results.check()
there, lacking = (results.execute(None, number, 1234, {}) for number in (42, 43))
print(there.cells["resolution"].get_summary("resolution"))
print(type(there.cells["density"].data).__name__, sorted(there.errors))
print(sorted(lacking.errors), "|", lacking.errors["resolution"])
there.save(Path("usr"), 1234, 42)
"""


def test_the_verdict_of_every_run_is_shown(finished: Path, tmp_path: Path) -> None:
    (lines,) = re.findall(r"<!-- damnit -->\n```python\n(.*?)```", REFERENCE, re.DOTALL)
    (tmp_path / "context.py").write_text(lines, encoding="utf-8")
    (tmp_path / "results").mkdir()
    (tmp_path / "usr").mkdir()
    shutil.copytree(finished, tmp_path / "results" / "r0042")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    verdict, figure, lacking = done.stdout.splitlines()
    assert verdict.startswith("No resolution stated: no half-sets")
    assert figure == "Figure []"
    assert lacking.startswith("['density', 'resolution'] | results/r0043/summary.json: No such file")
    assert [path for path in (tmp_path / "usr").rglob("*") if path.is_file()]
