"""`scripts/gpu_check --dry`: all of the check, with NumPy in CuPy's place; and the same on a GPU where there is one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
# What a newcomer waits for at most [s].
LIMIT = 180


def check(tmp_path: Path, *options: str, limit: int = LIMIT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / "gpu_check"), "--output", str(tmp_path), *options]
    # On a machine that does nothing else.
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=3 * limit)


def test_all_parts_pass_dry(tmp_path: Path) -> None:
    done = check(tmp_path, "--dry", "--threads", "2", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    parts = {entry["part"] for entry in found["checks"]}
    assert parts >= {"bodies", "runs"}
    assert len(found["checks"]) > 200
    assert all(entry["passed"] for entry in found["checks"])
    stages = {entry["name"].split(",")[0] for entry in found["speeds"] if entry["floor_seconds"]}
    assert stages >= {"slices of all views", "polar matching", "refinement", "normal equations"}
    # Line by line, so that a cut run still tells.
    assert done.stdout.count("\n") >= len(found["checks"]) + len(found["speeds"])


def test_what_is_wrong_fails(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:2]\n"
        "from gpu_check_report import Report\n"
        "import numpy as np\n"
        "report = Report(None)\n"
        "report.compare('bodies', 'right', np.ones(3), np.ones(3), 1e-9)\n"
        "assert report.failures == 0\n"
        "for wrong in (np.full(3, np.nan), np.ones(3) + 1e-6, np.ones(4), np.ones(3, np.float32)):\n"
        "    report.compare('bodies', 'wrong', wrong, np.ones(3), 1e-9)\n"
        "report.attempt('bodies', 'raises', lambda: 1 / 0)\n"
        "assert report.failures == 5, report.findings\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(SCRIPTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "word"), [(["--parts", "bodies,nothing"], "nothing"), (["--threads", "x"], "--threads")]
)
def test_bad_options_end_in_a_line(tmp_path: Path, options: list[str], word: str) -> None:
    done = check(tmp_path, *options)
    assert done.returncode == 2
    assert word in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.device
def test_all_parts_pass_on_a_gpu(tmp_path: Path) -> None:
    done = check(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_gpu_it_ends_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = check(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("scripts/gpu_check: --backend cupy: ")
    assert done.stderr.count("\n") == 1
