"""`spilegate doctor`: it tells the truth about this environment, says how to get the rest, and starts nothing."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from command_line import run

import spilegate
from spilegate.kernels import inventory

ROOT = Path(spilegate.__file__).resolve().parent.parent
# A computer that has everything.
COMPLETE = inventory.Machine(
    cores=4,
    memory_mib=32_000,
    versions=dict.fromkeys(inventory.DISTRIBUTIONS, "1.0"),
    needs_driver=True,
    driver_fault=None,
    private_driver=None,
    devices=("A100", "A100"),
    networks=("ucx",),
    launchers={"mpirun": "/bin/mpirun"},
)


def missing(machine: inventory.Machine) -> list[list[str]]:
    """The obstacles of every way to start: NumPy, CPUs, GPUs, ranks."""
    return [[part.name for part in start.obstacles] for start in inventory.starts(machine)]


def test_it_says_what_is_here_and_that_numpy_runs() -> None:
    result = run("doctor")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    for module in ("numpy", "finufft"):
        assert [module, version(module)] in [line[:2] for line in lines]
    threads = len(os.sched_getaffinity(0))
    assert f"runs on NumPy with {threads} thread" in result.stdout
    assert "spilegate reconstruct ..." in result.stdout
    assert "has run on a GPU yet" in result.stdout


def test_help_quiet_and_log(tmp_path: Path) -> None:
    assert "what is missing and how to get it" in " ".join(run("doctor", "-h").stdout.split())
    log = tmp_path / "doctor.log"
    result = run("doctor", "--quiet", "--log", log)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "finufft" in log.read_text()


@pytest.mark.skipif(importlib.util.find_spec("legate") is not None, reason="Legate is installed here")
def test_without_legate_it_says_how_to_get_it() -> None:
    result = run("doctor")
    assert result.exit_code == 0
    assert "legate, cupynumeric: pip install 'spilegate[legate]'" in result.stdout
    assert "cannot run, because these are missing: legate, cupynumeric" in result.stdout
    assert "spilegate's own conjugate gradients, because legate_sparse is not installed" in result.stdout


def test_it_looks_at_packages_without_importing_them(tmp_path: Path) -> None:
    for name in ("legate", "cupynumeric", "legate_sparse", "cupy", "cufinufft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported')\n")
    facts = 'networks: list[str] = str("gasnetex other").split()\nuse_cuda: bool = OFF\n'
    (tmp_path / "legate" / "install_info.py").write_text(f"raise SystemExit('imported')\n{facts}")
    command = [sys.executable, "-c", "import sys; from spilegate.cli import main; main()", "doctor"]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "gasnetex, other" in done.stdout
    assert "solved by legate_sparse.linalg.cg of legate_sparse" in done.stdout
    # A Legate that is not linked with the driver starts without it.
    assert "runs on cuPyNumeric, split over" in done.stdout


def test_a_complete_computer_runs_everything() -> None:
    assert missing(COMPLETE) == [[], [], [], []]
    commands = [start.command for start in inventory.starts(COMPLETE)]
    assert commands[1].startswith("legate --cpus 4 --gpus 0 --sysmem 4000 spilegate/main.py reconstruct")
    assert commands[2].startswith("legate --gpus 2 spilegate/main.py")
    assert "--launcher mpirun" in commands[3]
    assert "legate_sparse 1.0" in inventory.solver(COMPLETE)


def test_each_thing_missing_stops_just_what_needs_it() -> None:
    assert missing(replace(COMPLETE, devices=())) == [[], [], ["GPU"], []]
    assert missing(replace(COMPLETE, networks=())) == [[], [], [], ["networking of legate"]]
    assert missing(replace(COMPLETE, launchers={})) == [[], [], [], ["mpirun or srun"]]
    driver = [inventory.DRIVER]
    assert missing(replace(COMPLETE, driver_fault="gone")) == [[], driver, driver, driver]
    assert missing(replace(COMPLETE, driver_fault="gone", needs_driver=False)) == [[], [], driver, []]
    for module, stopped in (("cupynumeric", [1, 2, 3]), ("cufinufft", [2]), ("finufft", [0, 1, 2, 3])):
        versions = {**COMPLETE.versions, module: None}
        found = missing(replace(COMPLETE, versions=versions))
        assert found == [[module] if index in stopped else [] for index in range(4)]


def test_everything_missing_has_a_remedy() -> None:
    nothing = inventory.Machine(1, 1000, dict.fromkeys(inventory.DISTRIBUTIONS), True, "gone", None, (), (), {})
    assert all(part.remedy for part in inventory.parts(nothing))
    assert all(part.found is None for part in inventory.parts(nothing))
    private = replace(nothing, private_driver=Path("/some/libcuda"))
    remedies = {part.name: part.remedy for part in inventory.parts(private)}
    assert "/some/libcuda on LD_LIBRARY_PATH" in remedies[inventory.DRIVER]
    assert inventory.starts(nothing)[0].how == "on NumPy with 1 thread"


def run_shown(start: inventory.Start) -> subprocess.CompletedProcess[str]:
    """Run a command just as it is shown, only to print the version."""
    assert not start.obstacles
    words = start.command.replace("reconstruct ...", "--version").split()
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.launcher
def test_what_it_says_runs_on_cpus_does_run() -> None:
    done = run_shown(inventory.starts(inventory.examine(1))[1])
    assert done.returncode == 0, done.stderr
    assert f"spilegate {spilegate.__version__}" in done.stdout


@pytest.mark.launcher
@pytest.mark.ranks
def test_what_it_says_runs_on_ranks_does_run() -> None:
    done = run_shown(inventory.starts(inventory.examine(1))[3])
    assert done.returncode == 0, done.stderr
    assert f"spilegate {spilegate.__version__}" in done.stdout
