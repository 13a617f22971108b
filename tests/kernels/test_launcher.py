"""The program as the launcher starts it: the same files as on NumPy, one voice, exit codes kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from command_line import MAIN, QUICK, SMALL, assert_one_line, content, process

from spilegate.formats import maps, results

ONE_RANK = {
    "1 CPU": ["--cpus", "1", "--gpus", "0", "--sysmem", "2000"],
    "2 CPUs": ["--cpus", "2", "--gpus", "0", "--sysmem", "2000"],
}
TWO_RANKS = ["--cpus", "1", "--gpus", "0", "--sysmem", "1000", "--ranks-per-node", "2", "--launcher", "mpirun"]
TWO_RANKS += ["--launcher-extra=--oversubscribe"]
MACHINES = [pytest.param(options, id=name) for name, options in ONE_RANK.items()]
MACHINES.append(pytest.param(TWO_RANKS, id="2 ranks", marks=pytest.mark.ranks))
# What the program says goes to stdout, and so does what the runtime has to say about a machine without a GPU.
FOREIGN = ("[0 - ", "[1 - ", "[2 - ")


def launched(machine: list[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the program by the launcher; what the runtime itself says about the machine is taken out of the output."""
    command = ["legate", *machine, str(MAIN), *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=540)
    done.stdout, done.stderr = (
        "".join(line for line in text.splitlines(keepends=True) if not line.startswith(FOREIGN) and "UCX" not in line)
        for text in (done.stdout, done.stderr)
    )
    return done


def own_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("spilegate: ")]


@pytest.fixture(scope="module")
def on_numpy(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """The same run on NumPy, by a process of its own."""
    folder = tmp_path_factory.mktemp("numpy") / "out"
    done = process("reconstruct", data, "--output", folder, *QUICK)
    assert done.returncode == 0, done.stderr
    return folder


def assert_same_files(first: Path, second: Path) -> None:
    """Fail unless two folders hold the same bits."""
    for name in ("density.mrc", "autocorrelation.mrc", "intensity.mrc"):
        np.testing.assert_array_equal(maps.read_map(first / name)[0], maps.read_map(second / name)[0], err_msg=name)
    one, other = (results.read_orientations(folder / "orientations.h5") for folder in (first, second))
    np.testing.assert_array_equal(one, other)


@pytest.mark.launcher
@pytest.mark.parametrize("machine", MACHINES)
def test_the_whole_command_line_works(machine: list[str], data: Path, on_numpy: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.h5"
    done = launched(machine, "simulate", *SMALL, "--output", again)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    done = launched(machine, "inspect", again)
    assert done.returncode == 0, done.stderr
    # The machine is measured: its time is never the same.
    one, other = (
        [line for line in text.splitlines() if not line.startswith("minutes")]
        for text in (done.stdout, process("inspect", again).stdout)
    )
    assert one == other

    folder, log = tmp_path / "out", tmp_path / "run.log"
    done = launched(machine, "reconstruct", again, "--output", folder, *QUICK, "--log", log)
    assert done.returncode == 0, done.stderr
    assert own_lines(done.stderr) == []
    # The data set is the same and the seed is: so are the results, bit by bit.
    assert_same_files(folder, on_numpy)
    lines = done.stdout.splitlines()
    records = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    assert len([line for line in lines if line.startswith("generation ")]) == len(records)
    assert [line.split(" ", 1)[1] for line in log.read_text().splitlines()] == lines
    summary = results.read_summary(folder / "summary.json")
    assert summary["compute"]["backend"].startswith("Legate ")
    assert summary["compute"]["ranks"] == (2 if "mpirun" in machine else 1)
    assert summary["compute"]["merge_solver"]
    assert len(summary["peak_memory_mib_by_processor"]) == int(summary["compute"]["processors"].split()[0])
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".png"}

    done = launched(machine, "evaluate", folder, "--reference", again)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if line.startswith("correlation ")]) == 1
    assert results.read_summary(folder / "summary.json")["evaluation"]["correlation"] > -1


@pytest.mark.launcher
@pytest.mark.parametrize("machine", MACHINES)
def test_errors_are_said_once_and_keep_their_code(machine: list[str], data: Path, on_numpy: Path) -> None:
    before = content(on_numpy)
    for arguments, expected in (
        (["reconstruct", "missing.h5", "--output", "out"], "missing.h5: not found"),
        (["reconstruct", data, "--output", on_numpy, *QUICK], "not empty"),
        (["reconstruct", data, "--output", "out", "--set", "matching.method=best"], "matching.method"),
        (["inspect"], "Missing argument"),
        (["evaluate", on_numpy, "--reference", "missing.mrc"], "missing.mrc"),
    ):
        done = launched(machine, *arguments)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        (line,) = own_lines(done.stderr)
        assert line.startswith("spilegate: error: ")
        assert expected in line
        assert "Traceback" not in done.stderr
    assert content(on_numpy) == before


@pytest.mark.launcher
@pytest.mark.parametrize("machine", MACHINES)
def test_a_run_begun_on_numpy_goes_on_under_the_launcher(
    machine: list[str], data: Path, on_numpy: Path, tmp_path: Path
) -> None:
    """A checkpoint belongs to no backend."""
    folder = tmp_path / "out"
    running = subprocess.Popen(
        [sys.executable, str(MAIN), "reconstruct", str(data), "--output", str(folder), *QUICK],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith("generation 2/"):
            break
    running.send_signal(2)
    running.communicate(timeout=540)
    assert running.returncode == 130
    done = launched(machine, "reconstruct", data, "--output", folder, *QUICK, "--resume")
    assert done.returncode == 0, done.stderr
    assert "resumed after generation" in done.stdout
    assert_same_files(folder, on_numpy)


@pytest.mark.launcher
def test_without_the_launcher_nothing_of_it_is_imported(data: Path, tmp_path: Path) -> None:
    assert find_spec("legate") is not None
    code = (
        "import sys; sys.argv[1:] = {!r}\n"
        "from spilegate.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in ('legate', 'cupynumeric', 'cupy')))"
    ).format(["reconstruct", str(data), "--output", str(tmp_path / "out"), *QUICK, "--quiet"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=540)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_backend_asked_for_has_to_be_there(data: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LEGATE_CONFIG"}
    command = [sys.executable, str(MAIN), "reconstruct", str(data), "--output", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--backend", "legate"], capture_output=True, text=True, check=False, timeout=540, env=environment
    )
    missing = "pip install 'spilegate[legate]'" if find_spec("legate") is None else "legate --cpus 2 --gpus 0"
    assert_one_line(done.returncode, done.stdout, done.stderr, missing)
    assert not (tmp_path / "out").exists()
