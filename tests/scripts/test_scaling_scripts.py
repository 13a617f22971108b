"""The scripts that measure scaling and print its model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import MAIN

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import scaling  # noqa: E402
import scaling_machines as machines  # noqa: E402
import scaling_model as model  # noqa: E402

from spilegate.forecast import counts  # noqa: E402

# --- what is printed -------------------------------------------------------------------------------------------------


def printed(*arguments: object) -> str:
    command = [sys.executable, str(SCRIPTS / "scaling_model.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=540)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_table_names_what_saturates_first_in_all_cases() -> None:
    text = printed()
    pattern = re.compile(r"│\s+(1e\d)\s+│\s+(\d+)\s+│.*%\s+│ (?:[a-z ]+; then )?([a-z]+: [a-zA-Z, ]+) \(\d+%\): ")
    rows = [match.groups() for match in map(pattern.search, text.splitlines()) if match]
    cases = [(patterns, processors) for patterns in ("1e4", "1e6", "1e8") for processors in ("1", "4", "64", "1024")]
    assert [row[:2] for row in rows] == cases
    assert {row[2].partition(":")[0] for row in rows} <= {"match", "refine", "merge", "phase"}
    for said in ("ASSUMED, not measured on a GPU", "Nothing of this has been run on a GPU", "1024 at 1e4 patterns"):
        assert said in text
    assert "ASSUMED" not in printed("--machine", "here", "--patterns", "1000", "--processors", "1", "2")


def point_of(seconds_over_model: float) -> dict[str, Any]:
    """A measured point whose times are the model's times a factor."""
    point = {
        "ranks": 2,
        "processors": 4,
        "patterns": 1000,
        "side": 64,
        "diameter_angstrom": 62.0,
        "q_max": 0.12,
        "states": 1,
        "candidates": 3,
        "cycles": 6,
        "phasings": 4,
        "generations": [1.0] * 11,
    }
    stages = model.modelled(point, model.THIS_MACHINE)
    return {**point, "stages": {name: value * seconds_over_model for name, value in stages.items()}}


def test_the_check_prints_model_over_measurement(tmp_path: Path) -> None:
    file = tmp_path / "scaling.json"
    file.write_text(json.dumps({"weak": {"points": [point_of(2.0), point_of(0.8)]}}))
    ratios = re.findall(
        r"(match|refine|merge|phase|all) │\s+[\d.]+ │\s+[\d.]+ │\s+([\d.]+) │", printed("--check", file)
    )
    expected = [(name, "0.50") for name in ("match", "refine", "merge", "phase", "all")]
    assert ratios == expected + [(name, "1.25") for name, _ in expected]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "speed=3"], "--rate speed=3: expected NAME=NUMBER with one of per_rank, evaluate"),
        (["--rate", "gemm=fast"], "expected a number after gemm="),
        (["--rate", "gemm=-1"], "expected a number above 0"),
        (["--check", "none.json"], "none.json"),
    ],
)
def test_bad_arguments_end_in_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "scaling_model.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=540)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_rates_can_be_given() -> None:
    changed = machines.GPU_NODE.changed(["gemm=2e13", "per_rank=1"])
    assert (changed.gemm, changed.per_rank, changed.fft) == (2e13, 1, machines.GPU_NODE.fft)
    assert "gemm=2e13, per_rank=1" in changed.source
    assert changed.seconds("gemm", 1e13) == 0.5
    assert changed.seconds("call", 2.0) == 2 * changed.call


def test_rates_can_be_measured() -> None:
    machine = machines.measured(counts.full_radius(1000, 40, 3.0))
    assert machine != machines.THIS_MACHINE
    for name in ("evaluate", "gather", "gemm", "fft", "memory", "call", "host", "pattern", "step"):
        assert np.isfinite(getattr(machine, name))
        assert getattr(machine, name) > 0


# --- measuring -------------------------------------------------------------------------------------------------------


def measure(folder: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    program = f"'{sys.executable}' '{MAIN}'"
    short = ["--set", "start.iterations=3", "--set", "start.count=1", "--set", "phasing.cycles=1"]
    size = ["--patterns", "64", "--pixels", "40", "--resolution-angstrom", "18"]
    command = [sys.executable, str(SCRIPTS / "scaling.py"), *arguments, "--folder", str(folder), *size, *short]
    done = subprocess.run(
        [*command, "--numpy", program, "--legate", "legate", "--mpi", "legate"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "scaling.json").read_text())
    return done.stdout, found[arguments[0]]


def test_a_point_is_what_the_summary_says(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    point = scaling.read_point(summary)
    assert (point["ranks"], point["patterns"], point["side"]) == (1, 120, 40)
    assert len(point["generations"]) == summary["generations"]
    later = sum(seconds for name, seconds in summary["seconds"]["stages"].items() if name != "start")
    assert point["stages"]["all"] == pytest.approx(later, abs=1e-9)
    expected = model.modelled(point, model.THIS_MACHINE)
    assert all(seconds > 0 for seconds in expected.values())
    assert set(expected) <= set(point["stages"])
    doubled = {**point, "reconstruct": 3 * point["reconstruct"]}
    assert scaling.median([point, doubled, doubled])["reconstruct"] == doubled["reconstruct"]


def test_memory_of_patterns_is_what_many_take_beyond_few(capsys: pytest.CaptureFixture[str]) -> None:
    peaks = {1: {8000: [1500.0], 256: [900.0]}, 2: {8000: [1150.0, 1200.0], 256: [880.0, 870.0]}}
    found = scaling.pattern_memory(peaks, 500.0)
    assert found["patterns_mib"] == {1: 600.0, 2: 330.0}
    assert found["ratio"] == pytest.approx(0.55)
    assert "two ranks over those on one: 0.55" in capsys.readouterr().out


@pytest.mark.launcher
def test_numpy_and_the_launcher_are_compared(tmp_path: Path) -> None:
    text, found = measure(tmp_path, "overhead")
    assert "NumPy" in found["numpy"]["backend"]
    assert "Legate" in found["legate"]["backend"]
    assert found["legate"]["processors"] == 2
    assert found["ratio"] == pytest.approx(found["legate"]["reconstruct"] / found["numpy"]["reconstruct"])
    assert "stage merge" in text


@pytest.mark.launcher
@pytest.mark.ranks
def test_one_rank_and_two_are_compared(tmp_path: Path) -> None:
    _, found = measure(tmp_path, "weak")
    assert [point["ranks"] for point in found["points"]] == [1, 2]
    assert [point["patterns"] for point in found["points"]] == [64, 128]
    assert len({point["diameter_angstrom"] for point in found["points"]}) == 1
    assert printed("--check", tmp_path / "scaling.json").count(" all ") == 2
