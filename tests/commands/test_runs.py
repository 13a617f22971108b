"""Real runs of the command line: what they leave behind, interruption and resumption, half-sets."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest
from command_line import MAIN, QUICK, SMALL, assert_one_line, assert_same_results, content, run
from made_up import made_up_state

import spilegate
from spilegate.commands.configuration import load_settings
from spilegate.commands.job import Job
from spilegate.commands.reconstruct import _how_to_go_on as how_to_go_on
from spilegate.formats import maps, results
from spilegate.formats.record import save_record
from spilegate.report.console import Output
from spilegate.report.progress import Monitor
from spilegate.settings import Settings


def test_inspect_says_what_is_there(data: Path, tmp_path: Path) -> None:
    result = run("inspect", data, "--log", tmp_path / "log")
    assert result.exit_code == 0
    assert "120" in result.stdout
    assert len((tmp_path / "log").read_text().splitlines()) == len(result.stdout.splitlines())
    assert run("inspect", data, "--quiet").output == ""


def test_a_finished_run_leaves_everything(finished: Path, data: Path) -> None:
    files = {"density.mrc", "intensity.mrc", "autocorrelation.mrc", "orientations.h5", "checkpoint.h5", "run.log",
             "progress.jsonl", "fsc_reference.csv", "summary.json", "findings.h5", "prtf.csv", "support.mrc",
             "orientations.star", "selected.txt", "outliers.txt", "methods.md", "report.html", "figures"}  # fmt: skip
    # There are no half-sets.
    assert {path.name for path in finished.iterdir()} == files
    # There is no background in these patterns.
    pictures = {"density", "intensity", "orientations", "convergence", "patterns", "outliers", "fsc"}
    assert {path.stem for path in (finished / "figures").iterdir()} == pictures
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["version"] == spilegate.__version__
    assert (summary["blind"], summary["seed"]) == (True, 5)
    assert summary["settings"] == json.loads(
        load_settings(None, QUICK[1:10:2], {"--seed": ("seed", 5)}).model_dump_json()
    )
    assert summary["input"]["file"] == str(data)
    assert summary["input"]["patterns"] == 120
    assert len(summary["input"]["digest"]) == 64
    assert summary["input"]["taken_for"] == "intensities in arbitrary units, not whole numbers of photons"
    assert summary["input"]["remarks"] == []
    seconds = summary["seconds"]
    assert len(seconds["generations"]) == summary["generations"]
    assert sum(seconds["generations"]) == pytest.approx(sum(seconds["stages"].values()), abs=0.02)
    assert sum(seconds["generations"]) <= seconds["total"]
    assert summary["peak_memory_mib"] > 50
    evaluation = summary["evaluation"]
    assert -1 <= evaluation["correlation"] <= 1
    assert 0 <= evaluation["orientation_error_deg"]["median"] <= 180
    assert evaluation["hand"] in ("same", "mirrored", "inverted")
    log = (finished / "run.log").read_text()
    assert f"pixels ({summary['input']['taken_for']})" in log
    planned = re.search(r"generation +1/(\d+) ", log)
    assert planned
    # At the full radius it goes on until nothing changes any more.
    assert int(planned.group(1)) <= summary["generations"]


def test_evaluate_takes_a_map(finished: Path, data: Path, tmp_path: Path) -> None:
    density, voxel = maps.read_map(finished / "density.mrc")
    maps.write_map(tmp_path / "same.mrc", density, voxel)
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    result = run("evaluate", folder, "--reference", tmp_path / "same.mrc")
    assert result.exit_code == 0, result.output
    assert "orientation" not in result.output
    evaluation = results.read_summary(folder / "summary.json")["evaluation"]
    assert evaluation["correlation"] > 0.999
    assert evaluation["reference"] == str(tmp_path / "same.mrc")
    before = results.read_summary(finished / "summary.json")["evaluation"]
    for kept in ("orientation_reference", "orientation_error_deg"):
        assert evaluation[kept] == before[kept]
    assert before["orientation_reference"] == str(data)


def test_force_overwrites(finished: Path, data: Path, tmp_path: Path) -> None:
    result = run("simulate", *SMALL, "--output", tmp_path / "again.h5", "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    first = (tmp_path / "again.h5").read_bytes()
    result = run("simulate", *SMALL, "--seed", 4, "--output", tmp_path / "again.h5", "--force")
    assert result.exit_code == 0
    assert (tmp_path / "again.h5").read_bytes() != first


def test_an_interrupted_run_resumes_to_the_same_result(finished: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    command = [sys.executable, str(MAIN), "reconstruct", str(data), "--output", str(folder), *QUICK]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 540
    while not (folder / "checkpoint.h5").exists():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=540)
    assert running.returncode == 130, errors
    assert errors.startswith("spilegate: interrupted; generation ")
    assert errors.count("\n") == 1
    assert "--resume" in errors
    assert not (folder / "summary.json").exists()

    other = run("reconstruct", data, "--output", folder, *QUICK, "--resume", "--set", "phasing.cycles=3")
    assert_one_line(other.exit_code, other.stdout, other.stderr, "phasing.cycles = 2, now 3")

    resumed = run("reconstruct", data, "--output", folder, *QUICK, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert "resumed after generation" in resumed.stdout
    assert_same_results(finished, folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert len(summary["seconds"]["generations"]) == summary["generations"]


def test_a_checkpoint_written_just_before_the_interruption_is_named(tmp_path: Path) -> None:
    job = Job(tmp_path / "data.h5", tmp_path, Settings())
    monitor = Monitor(Output(), tmp_path, save=print, draw=print)
    assert how_to_go_on(job, monitor).startswith("interrupted before the first checkpoint; to start again: ")
    save_record(job.checkpoint, made_up_state(), {})
    assert how_to_go_on(job, monitor).startswith("interrupted; generation 3 is kept in ")


def test_a_finished_run_that_is_resumed_keeps_its_evaluation(finished: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    before = results.read_summary(folder / "summary.json")
    # As if another version had made something of the same patterns that this one does not.
    for name in ("half_1.mrc", "fsc_half_set.xml", "selected_1.txt"):
        (folder / name).touch()
    (folder / "mine.mrc").touch()
    assert run("reconstruct", data, "--output", folder, *QUICK, "--resume", "--quiet").exit_code == 0
    assert {path.name for path in folder.iterdir()} - {path.name for path in finished.iterdir()} == {"mine.mrc"}
    after = results.read_summary(folder / "summary.json")
    assert after["evaluation"] == before["evaluation"]
    assert after["figures_of_merit"] == before["figures_of_merit"]
    assert run("reconstruct", data, "--output", folder, *QUICK, "--force", "--quiet").exit_code == 0
    assert "evaluation" not in results.read_summary(folder / "summary.json")


def test_force_loses_nothing_for_a_log_that_cannot_be_written(finished: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "nowhere" / "log")
    before = content(finished)
    result = run("reconstruct", data, "--output", finished, *QUICK, "--force", "--log", tmp_path / "log")
    assert_one_line(result.exit_code, result.stdout, result.stderr, "--log")
    assert content(finished) == before


@pytest.mark.parametrize("option", ["--output", "--log"])
def test_a_path_that_the_system_refuses_is_bad_input(option: str, data: Path, tmp_path: Path) -> None:
    options = {"--output": tmp_path / "out", option: tmp_path / ("long" * 100)}
    result = run("reconstruct", data, *QUICK, *(word for pair in options.items() for word in pair))
    assert_one_line(result.exit_code, result.stdout, result.stderr, "File name too long")


def test_resume_refuses_other_patterns(finished: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    assert run("simulate", *SMALL, "--seed", 9, "--output", other).exit_code == 0
    before = content(finished)
    result = run("reconstruct", other, "--output", finished, *QUICK, "--resume")
    assert_one_line(result.exit_code, result.stdout, result.stderr, "other patterns")
    assert content(finished) == before


def test_pictures_that_cannot_be_drawn_do_not_fail_the_run(finished: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spilegate.report", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("spilegate: error: ")
    assert done.stderr.count("\n") == 1
    done = subprocess.run(
        [sys.executable, "-m", "spilegate.report", str(finished), "--only", "dnsity"],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONWARNINGS": "error"},
    )  # fmt: skip
    assert "dnsity" in done.stderr


def test_a_run_states_its_own_resolution(data: Path, tmp_path: Path) -> None:
    """By default; options that the other tests leave out for the sake of time are left in."""
    folder = tmp_path / "out"
    result = run("reconstruct", data, "--output", folder, "--seed", 5, "--set", "start.count=1")
    assert result.exit_code == 0, result.output
    summary = json.loads((folder / "summary.json").read_text())
    found = summary["resolution"]
    assert found["verdict"] in " ".join(result.stdout.split())
    assert found["verdict"].startswith("Resolution ")
    assert "60 + 60 patterns" in found["verdict"]
    assert found["half_set"]["threshold"] == 0.143
    # Those that are sound.
    assert 2 <= found["prtf"]["phasings"] <= 5
    assert found["held_out"]["bands"][0]["deviations"] > found["held_out"]["threshold_deviations"]
    coarsest = max(found[kind]["resolution_angstrom"] for kind in ("half_set", "prtf", "held_out"))
    assert found["resolution_angstrom"] == coarsest >= 1 / summary["q_max_inverse_angstrom"]
    for name, file in (("half_set_fsc", "fsc_half_set.csv"), ("prtf", "prtf.csv")):
        q, values = np.loadtxt(folder / file, delimiter=",", skiprows=1).T
        assert q.max() <= summary["q_max_inverse_angstrom"] * (1 + 1e-5)
        np.testing.assert_allclose([shell["q"] for shell in found["shells"]], q, rtol=1e-5)
        np.testing.assert_allclose([shell[name] for shell in found["shells"]], values, rtol=1e-4, atol=1e-5)
    assert (folder / "figures" / "fsc.png").exists()
    assert_half_maps(folder)
    assert "The 60 even and the 60 odd patterns were reconstructed" in (folder / "methods.md").read_text()
    result = run("reconstruct", data, "--output", folder, *QUICK, "--force", "--quiet")
    assert result.exit_code == 0, result.output
    assert not [path.name for path in folder.iterdir() if path.name.startswith(("half", "fsc_half"))]
    assert "even" not in (folder / "methods.md").read_text()


def assert_half_maps(folder: Path) -> None:
    """Fail unless both half-maps lie over the density and have, by NumPy alone, the correlation that is written."""
    spectra = {}
    for name in ("density", "half_1", "half_2", "support"):
        with mrcfile.open(folder / f"{name}.mrc") as file:
            spectra[name] = np.fft.fftn(file.data.astype(np.float64))
            edge = float(file.header.cella.x)
            inside = file.data.astype(bool)
    assert 0.01 < inside.mean() < 0.2
    k = np.fft.fftfreq(len(inside), 1 / len(inside))
    shell = np.rint(np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)).astype(int).ravel()

    def correlation(first: str, second: str) -> np.ndarray:
        a, b = spectra[first].ravel(), spectra[second].ravel()
        cross, *powers = (np.bincount(shell, each) for each in ((a * b.conj()).real, abs(a) ** 2, abs(b) ** 2))
        return cross / np.sqrt(powers[0] * powers[1])

    q, written = np.loadtxt(folder / "fsc_half_set_plain.csv", delimiter=",", skiprows=1).T
    number = np.arange(1, len(q) + 1)
    np.testing.assert_allclose(q, number / edge, rtol=1e-5)
    np.testing.assert_allclose(written, correlation("half_1", "half_2")[number], atol=1e-5)
    for half in ("half_1", "half_2"):
        assert correlation("density", half)[1:4].min() > 0.9


def test_without_half_sets_no_resolution_is_stated(finished: Path) -> None:
    found = json.loads((finished / "summary.json").read_text())["resolution"]
    assert found["verdict"].startswith("No resolution stated: no half-sets (not asked for)")
    assert found["resolution_angstrom"] is found["half_set"] is None
    assert {shell["half_set_fsc"] for shell in found["shells"]} == {None}


def test_evaluate_takes_patterns_that_know_only_their_orientations(finished: Path, data: Path, tmp_path: Path) -> None:
    """As skopi writes them: no volume."""
    bare = tmp_path / "bare.h5"
    shutil.copy(data, bare)
    with h5py.File(bare, "a") as file:
        del file["volume"]
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    result = run("evaluate", folder, "--reference", bare)
    assert result.exit_code == 0, result.output
    assert "correlation" not in result.output
    summary = results.read_summary(folder / "summary.json")
    before = results.read_summary(finished / "summary.json")["evaluation"]
    # What was measured of the density before stays, and says against what.
    assert summary["evaluation"] == {**before, "orientation_reference": str(bare)}
    results.write_summary(folder / "summary.json", {**summary, "evaluation": None})
    assert run("evaluate", folder, "--reference", bare).exit_code == 0
    alone = results.read_summary(folder / "summary.json")["evaluation"]
    assert (alone["reference"], alone["correlation"]) == (None, None)
    assert alone["orientation_error_deg"] == before["orientation_error_deg"]
    with h5py.File(bare, "a") as file:
        del file["orientations"]
    refused = run("evaluate", folder, "--reference", bare)
    assert_one_line(refused.exit_code, refused.stdout, refused.stderr, "no dataset 'orientations'")
