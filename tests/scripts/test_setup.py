"""The scripts that install, start and test: their text is sound, bad arguments end in one line, exit codes are kept."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
PERLMUTTER = SCRIPTS / "perlmutter"
FILES = [path for path in [*SCRIPTS.rglob("*"), ROOT / ".ci/run"] if path.is_file()]
SHELL = sorted(path for path in FILES if path.read_bytes().startswith(b"#!/usr/bin/env bash\n"))
JOBS = [PERLMUTTER / "single-node.sh", PERLMUTTER / "multi-node.sh"]
BASH = shutil.which("bash") or "bash"


def end_of(*command: object, **environment: str) -> tuple[int, str, str]:
    """Return exit code, output and errors of a command."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def requirements(lines: list[str]) -> dict[str, str]:
    """Return the bound by name of requirements like `numpy>=2.1`."""
    found = (re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", line) for line in lines)
    return {match.group(1): match.group(2) for match in found if match}


def test_every_kind_of_script_is_looked_at() -> None:
    names = {str(path.relative_to(ROOT)) for path in SHELL}
    assert {".ci/run", "scripts/setup", "scripts/test", "scripts/legate", "scripts/fetch_library"} <= names
    assert {str(path.relative_to(ROOT)) for path in JOBS} <= names


@pytest.mark.parametrize("path", SHELL, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_parses_can_be_run_and_stops_at_errors(path: Path) -> None:
    assert end_of(BASH, "-n", path) == (0, "", "")
    assert os.access(path, os.X_OK)
    assert "\nset -euo pipefail\n" in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["legat"], "unknown argument 'legat'; expected numpy, legate or mpi"),
        (["--system"], "unknown argument '--system'"),
        (["legate", "mpi"], "found 2 arguments; expected one of numpy, legate and mpi"),
    ],
)
def test_setup_refuses_bad_arguments(arguments: list[str], message: str) -> None:
    code, stdout, stderr = end_of(SCRIPTS / "setup", *arguments)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith(f"scripts/setup: {message}")


@pytest.mark.parametrize("arguments", [["--environment", "numpy"], ["--environment"]])
def test_the_launcher_refuses_unknown_environments(arguments: list[str]) -> None:
    code, stdout, stderr = end_of(SCRIPTS / "legate", *arguments)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert "expected legate or mpi" in stderr


@pytest.mark.parametrize(
    ("library", "package", "remedy"),
    [
        (
            "libcuda.so.1",
            "libcuda1",
            "install it, which the NVIDIA driver brings, on Debian the package libcuda1 of non-free",
        ),
        ("libatomic.so.1", "libatomic1", "install it, on Debian the package libatomic1"),
    ],
)
def test_without_apt_the_missing_library_is_named_in_one_line(
    library: str, package: str, remedy: str, tmp_path: Path
) -> None:
    code, stdout, stderr = end_of(
        BASH, SCRIPTS / "fetch_library", library, package, tmp_path / "libraries", PATH=str(tmp_path)
    )
    assert (code, stdout, stderr.count("\n")) == (1, "", 1)
    assert f"{library} is missing and there is no apt" in stderr
    assert stderr.endswith(f"; {remedy}\n")
    assert not (tmp_path / "libraries").exists()


# --- a machine that lacks something ----------------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """What scripts/setup needs of the repository, where nothing is installed yet, and a folder `bin` of programs."""
    (tmp_path / "repository" / "scripts").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", "scripts/setup", "spilegate/__init__.py"):
        (tmp_path / "repository" / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "repository" / name)
    (tmp_path / "bin").mkdir()
    for name in ("bash", "dirname", "cat", "sha256sum", "shasum", "cut", "df", "awk", "grep", "id", "flock"):
        if found := shutil.which(name):
            (tmp_path / "bin" / name).symlink_to(found)
    return tmp_path


def program(folder: Path, name: str, text: str) -> None:
    """Put a program there that stands in for what this machine has or does."""
    path = folder / "bin" / name
    path.unlink(missing_ok=True)
    path.write_text(f"#!{BASH}\n{text}\n")
    path.chmod(0o755)


def setup_fails(folder: Path, **environment: str) -> str:
    """Return the last line that scripts/setup writes before it ends with 1."""
    path = {"PATH": str(folder / "bin"), **environment}
    code, stdout, stderr = end_of(BASH, folder / "repository/scripts/setup", **path)
    assert (code, stdout) == (1, ""), stderr
    *before, last = stderr.splitlines()
    assert before in ([], ["scripts/setup: installing into .venv"])
    return last.removeprefix("scripts/setup: ")


def test_without_a_python_the_command_that_installs_one_is_said(fresh: Path) -> None:
    reason = "no Python of version 3.11 or newer found on the path"
    assert setup_fails(fresh) == f"{reason}; install one with its modules venv and ensurepip"
    program(fresh, "id", "echo 1000")
    program(fresh, "apt-get", "exit 3")
    program(fresh, "python3", "exit 1")
    command = "apt-get install --no-install-recommends python3-venv"
    assert setup_fails(fresh) == f"{reason}; as root, run: {command}"


def test_a_python_without_venv_is_told_from_none(fresh: Path) -> None:
    program(fresh, "id", "echo 1000")
    program(fresh, "apt-get", "exit 3")
    program(fresh, "python3.12", f'[[ "$2" != *ensurepip* ]] && exec "{sys.executable}" "$@"')
    command = "apt-get install --no-install-recommends python3.12-venv"
    assert setup_fails(fresh) == f"python3.12 cannot make environments; as root, run: {command}"


def test_root_installs_the_python_that_is_missing(fresh: Path) -> None:
    program(fresh, "id", "echo 0")
    program(fresh, "apt-get", f'echo "$@" >>"{fresh}/called"')
    code, _, stderr = end_of(BASH, fresh / "repository/scripts/setup", PATH=str(fresh / "bin"))
    assert code == 1
    assert "found on the path: apt-get install --no-install-recommends python3-venv\n" in stderr
    assert stderr.endswith("installed python3-venv, but still found no Python of version 3.11 or newer; install one\n")
    assert (fresh / "called").read_text().splitlines()[-1].endswith("--no-install-recommends python3-venv")


def test_too_little_space_is_said_before_anything_is_fetched(fresh: Path) -> None:
    program(fresh, "df", 'printf "Filesystem 1048576-blocks Used Available\\n/dev/sda 5000 4000 1000\\n"')
    where = fresh / "repository"
    expected = f"the disk is nearly full: .venv needs 2000 MiB in {where} while it is made; free some and run it again"
    assert setup_fails(fresh) == expected
    assert not (where / ".venv").exists()


def test_without_a_network_setup_says_so_in_one_line(fresh: Path) -> None:
    (fresh / "bin" / "python3").symlink_to(sys.executable)
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    said = setup_fails(fresh, PIP_RETRIES="0", PIP_NO_CACHE_DIR="1", **nowhere)
    assert said.startswith(
        "PyPI was not reached; connect this machine, or tell pip its proxy or index, and run it again"
    )
    assert "setuptools" in (fresh / "repository/.venv/pip.log").read_text()


# --- Perlmutter ------------------------------------------------------------------------------------------------------


def conda_environment() -> dict[str, Any]:
    loaded = yaml.safe_load((PERLMUTTER / "environment.yml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_the_conda_environment_has_legate_and_all_our_dependencies() -> None:
    environment = conda_environment()
    assert environment["channels"] == ["legate", "conda-forge"]
    conda = requirements([item for item in environment["dependencies"] if isinstance(item, str)])
    wheels = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert conda["legate-sparse"] == "=26.02"
    assert {"legate", "cupynumeric", "cupy"} <= set(conda)
    found = {**conda, **requirements(wheels[0])}
    assert "cufinufft" in found
    found["matplotlib"] = found["matplotlib-base"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, bound in requirements(project["dependencies"]).items():
        assert found[name] == bound, f"{name}: pyproject.toml has {bound!r}"


@pytest.mark.parametrize("path", sorted(PERLMUTTER.iterdir()), ids=lambda path: path.name)
def test_files_for_perlmutter_say_that_they_were_not_run_there(path: Path) -> None:
    head = path.read_text().partition("\nset -euo")[0]
    assert "NOT run on Perlmutter" in head


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_jobs_have_their_options_first_and_no_account(path: Path) -> None:
    lines = path.read_text().splitlines()
    first_command = next(index for index, line in enumerate(lines) if not line.startswith("#"))
    options = [index for index, line in enumerate(lines) if line.startswith("#SBATCH")]
    # sbatch reads no options after the first command.
    assert options
    assert max(options) < first_command
    assert not [line for line in lines if re.match(r"#SBATCH (-A|--account)", line)]
    assert "SBATCH_ACCOUNT=" in path.read_text()


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_jobs_do_not_run_outside_of_a_job(path: Path) -> None:
    code, stdout, stderr = end_of(path, "data.h5", SLURM_JOB_ID="")
    assert code != 0
    assert stdout == ""
    assert "submit this with sbatch, with SBATCH_ACCOUNT set" in stderr


@pytest.mark.parametrize(
    ("job", "setting", "activated"),
    [
        ("single-node.sh", {}, "conda activate spilegate"),
        ("multi-node.sh", {}, "conda activate spilegate-gasnet"),
        ("multi-node.sh", {"SPILEGATE_CONDA": "mine"}, "conda activate mine"),
        ("multi-node.sh", {"SPILEGATE_WHEELS": "wheels"}, "wheels activated"),
    ],
)
def test_jobs_activate_their_environment_and_hand_on_their_arguments(
    job: str, setting: dict[str, str], activated: str, tmp_path: Path
) -> None:
    """With stand-ins for what only such a machine has: each says how it was called."""
    for name in ("module", "conda", "legate"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        program.chmod(0o755)
    (tmp_path / "wheels" / "bin").mkdir(parents=True)
    (tmp_path / "wheels" / "bin" / "activate-spilegate").write_text('echo "wheels activated$UNSET"\n')
    if "SPILEGATE_WHEELS" in setting:
        setting = {"SPILEGATE_WHEELS": str(tmp_path / "wheels")}
    slurm = {"SLURM_JOB_ID": "1", "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_NUM_NODES": "16"}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    code, stdout, stderr = end_of(PERLMUTTER / job, "data.h5", "--output", "out/", PATH=path, **slurm, **setting)
    assert (code, stderr) == (0, "")
    *_, activation, launch = stdout.splitlines()
    assert activation == activated
    assert launch.endswith("spilegate/main.py reconstruct data.h5 --output out/")
    assert ("--nodes 16" in launch) == (job == "multi-node.sh")


def test_the_conda_installer_refuses_unknown_variants() -> None:
    code, _, stderr = end_of(PERLMUTTER / "install-conda.sh", "ofi")
    assert (code, stderr) == (2, "install-conda.sh: unknown variant 'ofi'; expected ucx or gasnet\n")


# --- with the launcher -----------------------------------------------------------------------------------------------


@pytest.mark.launcher
@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_the_launcher_understands_the_jobs_options(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    found = re.search(r"^legate (.*) spilegate/main\.py", text, re.MULTILINE)
    assert found
    options = shlex.split(found.group(1).replace("$SLURM_JOB_NUM_NODES", "4"))
    code, _, stderr = end_of("legate", *options, "--dry-run", sys.executable)
    assert code == 0, stderr


@pytest.mark.launcher
def test_the_launcher_keeps_the_exit_code(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import sys\nfrom legate.core import get_legate_runtime\nget_legate_runtime()\nsys.exit(3)\n")
    code, _, stderr = end_of("legate", "--cpus", "1", "--gpus", "0", "--sysmem", "500", program)
    assert code == 3, stderr


@pytest.mark.launcher
@pytest.mark.ranks
def test_one_failing_rank_fails_the_whole(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nfrom legate.core import get_legate_runtime\nsys.exit(4 * get_legate_runtime().node_id)\n"
    )
    ranks = ["--ranks-per-node", "2", "--launcher", "mpirun", "--launcher-extra=--oversubscribe"]
    code, _, stderr = end_of("legate", "--cpus", "1", "--gpus", "0", "--sysmem", "500", *ranks, program)
    assert code == 4, stderr
