"""A disk that is full: whatever is being written, the file that was there stays, and one line says so."""

import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_line import MAIN, QUICK, assert_one_line, assert_same_results, run
from conftest import assert_same_state
from made_up import made_up_state
from matplotlib.figure import Figure
from test_formats import panel_simulation

from spilegate.errors import InputError
from spilegate.formats import files, maps, results, spinifel, star
from spilegate.formats.record import load_record, save_record
from spilegate.records import State
from spilegate.report.console import Output
from spilegate.report.files import write_curve
from spilegate.report.progress import Monitor
from spilegate.report.style import save

STEPS = 25


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes, which is how a full disk looks to who writes it; needs no privileges."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def large_state(seed: int) -> State:
    """A state of 250 KiB."""
    rng, count = np.random.default_rng(seed), 1000
    volume = rng.random((1, 27, 27, 27), np.float32)
    per_pattern = {name: np.ones(count) for name in ("scale", "weight")}
    return replace(
        made_up_state(),
        **per_pattern,
        state=np.zeros(count, np.int64),
        quaternions=np.tile([1.0, 0, 0, 0], (count, 1)),
        distance=rng.random(count),
        density=volume,
        autocorrelation=-volume,
        support=volume > 0.5,
    )


def picture(path: Path, seed: int) -> None:
    figure = Figure()
    figure.subplots().plot(np.random.default_rng(seed).random(1000))
    save(figure, path)


def simulated(path: Path, seed: int, *, photons: float | None) -> None:
    simulation = panel_simulation(2000)
    values = np.random.default_rng(seed).poisson(3, simulation.intensities.shape)
    spinifel.write(path, replace(simulation, intensities=values.astype(np.float32), photons=photons), force=True)


VOLUME = np.random.default_rng(0).random((21, 21, 21), np.float32)
CURVE = np.random.default_rng(0).random(2000)
WRITERS: dict[str, Callable[[Path, int], None]] = {
    "checkpoint.h5": lambda path, seed: save_record(path, large_state(seed), {"seed": seed}),
    "orientations.h5": lambda path, seed: results.write_orientations(path, large_state(seed), force=True),
    "orientations.star": lambda path, seed: star.write_star(path, large_state(seed), Path(f"{seed}.h5"), halves=True),
    "map.mrc": lambda path, seed: maps.write_map(path, VOLUME + seed, 2.0, force=True),
    "summary.json": lambda path, seed: results.write_summary(path, {"a": (CURVE + seed).tolist()}),
    "prtf.csv": lambda path, seed: write_curve(path.parent, "prtf", CURVE, CURVE + seed),
    "picture.png": picture,
    "photons.h5": lambda path, seed: simulated(path, seed, photons=3.0),
    "intensities.h5": lambda path, seed: simulated(path, seed, photons=None),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_was_there_stays_when_the_disk_is_full(tmp_path: Path, name: str) -> None:
    path, write = tmp_path / name, WRITERS[name]
    write(path, 2)
    size = path.stat().st_size
    write(path, 1)
    before = path.read_bytes()
    for most in (*np.linspace(0, size, STEPS, endpoint=False, dtype=int).tolist(), size - 1):
        with no_file_beyond(most), pytest.raises(InputError, match=r"the disk is full.*make space") as caught:
            write(path, 2)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == before, f"{most} of {size} bytes"
        assert [item.name for item in tmp_path.iterdir()] == [name]
    with no_file_beyond(size):
        write(path, 2)
    assert path.read_bytes() != before


def test_records_kept_on_resuming_are_not_lost_to_a_full_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "progress.jsonl"
    line = '{"generation": 1, "generations": 3, "stage": "start", "seconds": 1.0, "figures": {}}\n'
    path.write_text(line * 3)
    with no_file_beyond(100):
        Monitor(Output(quiet=True), tmp_path, save=print, draw=print, done=1)
    assert "the disk is full" in capsys.readouterr().err
    assert path.read_text() == line * 3


def test_a_run_on_a_full_disk_keeps_its_checkpoint_and_resumes_to_the_same_bits(data: Path, tmp_path: Path) -> None:
    """A checkpoint of a fine grid has no room, those of coarse ones have, and what is found out before."""
    quick, finished = [*QUICK, "--diameter-angstrom", "110"], tmp_path / "whole"
    assert run("reconstruct", data, "--output", finished, *quick).exit_code == 0
    folder, most = tmp_path / "out", (finished / "checkpoint.h5").stat().st_size - 1
    assert most > (finished / "findings.h5").stat().st_size
    stopped = subprocess.run(
        [sys.executable, str(MAIN), "reconstruct", str(data), "--output", str(folder), "--quiet", *quick],
        capture_output=True, text=True, check=False, preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY)
        ),
    )  # fmt: skip
    assert_one_line(stopped.returncode, stopped.stdout, stopped.stderr, "checkpoint.h5: cannot be written: the disk is")
    kept = load_record(folder / "checkpoint.h5", State)[0].generation
    assert 1 < kept < load_record(finished / "checkpoint.h5", State)[0].generation
    assert f"generation {kept} is kept in {folder / 'checkpoint.h5'}; to go on" in stopped.stderr
    assert "--resume" in stopped.stderr
    assert not list(folder.rglob("*.partial"))
    resumed = run("reconstruct", data, "--output", folder, *quick, "--resume", "--quiet")
    assert (resumed.exit_code, resumed.output) == (0, "")
    assert_same_results(finished, folder)
    assert_same_state(*(load_record(each / "checkpoint.h5", State)[0] for each in (finished, folder)))


def test_a_simulation_on_a_full_disk_ends_in_one_line(tmp_path: Path) -> None:
    words = ["simulate", "--images", "60", "--pixels", "40", "--resolution-angstrom", "18", "--output", "data.h5"]
    done = subprocess.run(
        [sys.executable, str(MAIN), *words], capture_output=True, text=True, check=False, cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY)),
    )  # fmt: skip
    assert_one_line(done.returncode, done.stdout, done.stderr, "data.h5: cannot be written: the disk is full")
    assert not list(tmp_path.iterdir())


def test_an_interruption_is_not_lost_in_hdf5(tmp_path: Path) -> None:
    """It comes while HDF5 is at work, and would be raised where HDF5 calls for bytes to be written."""
    path = tmp_path / "file.h5"
    path.write_text("older")

    class Interrupting:
        """What is asked for its bytes while the file is open."""

        def __array__(self, *_: object, **__: object) -> np.ndarray:
            signal.raise_signal(signal.SIGINT)
            return np.ones(100_000)

    with pytest.raises(KeyboardInterrupt), files.replacing_hdf5(path, force=True) as file:  # noqa: PT012 - where it ends
        file.create_dataset("a", data=Interrupting())
        assert "a" in file
    assert path.read_text() == "older"
    assert [item.name for item in tmp_path.iterdir()] == ["file.h5"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_file_that_is_replaced_is_no_link_any_more(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "summary.json"
    victim.write_text("mine")
    path.symlink_to(victim)
    (tmp_path / "summary.json.partial").symlink_to(victim)
    results.write_summary(path, {"a": 1})
    assert victim.read_text() == "mine"
    assert results.read_summary(path) == {"a": 1}
    assert not path.is_symlink()


def test_an_hdf5_file_has_what_was_put_in_and_may_be_read_by_whom_files_may(tmp_path: Path) -> None:
    path, values = tmp_path / "a.h5", np.arange(10_000).reshape(100, 100)
    with files.replacing_hdf5(path, force=False) as file:
        file.create_dataset("a", data=values)
        file.create_dataset("g/b", data=values, chunks=(1, 100), compression="gzip")
        file["a"].attrs["c"] = "text"
    with h5py.File(path) as file:
        assert np.array_equal(file["a"], values)
        assert np.array_equal(file["g/b"], values)
        assert file["a"].attrs["c"] == "text"
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode
