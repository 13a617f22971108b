"""Particles, patterns and runs that several tests share."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from command_line import MIXED, QUICK, QUICK_SELECT, SMALL, run
from volumes import MODULES

from spilegate.backend import from_host
from spilegate.formats.maps import read_map, write_map
from spilegate.geometry import orientations
from spilegate.kernels import findings, launch, trying
from spilegate.kernels.blocks import GROUP
from spilegate.kernels.exact import Rows
from spilegate.kernels.findings import Finding
from spilegate.kernels.workers import Here, Workers
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.records import Dataset, Progress, State
from spilegate.schedule import Plan
from spilegate.settings import ComputeOptions, PrepareOptions, Settings
from spilegate.simulation.experiment import Simulation, simulate
from spilegate.simulation.particle import Particle, built_in_particle, density

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def spread(images: np.ndarray, workers: Workers) -> Any:
    """Patterns where these workers want them."""

    def rows(here: Here, part: slice) -> tuple[Any]:
        return (here.array(images[part]),)

    return workers.run(rows, len(images), [Rows(images.shape[1:], images.dtype, split=True)], tile=GROUP)[0]


def as_dataset(simulation: Simulation, workers: Workers | None = None) -> Dataset:
    """What the reader makes of the simulation's file, truth left out."""
    count, panels, y, x = simulation.intensities.shape
    images = simulation.intensities.reshape(count, -1)
    return Dataset(
        images=images if workers is None else spread(images, workers),
        q=simulation.pixel_position.reshape(-1, 3),
        mask=np.zeros(panels * y * x, np.uint8),
        panel_shape=(panels, y, x),
        pixel_index_map=simulation.pixel_index_map.reshape(-1, 2),
        digest="0" * 64,
        source="simulation",
    )


@pytest.fixture(scope="module", params=MODULES)
def bring(request: pytest.FixtureRequest) -> Callable[[np.ndarray], Any]:
    """A function that makes an array of another module."""
    like = import_module(request.param).zeros(1)
    return lambda array: from_host(np.ascontiguousarray(array), like)


@pytest.fixture(scope="session")
def workers() -> Workers:
    """Two threads, or, where these tests were started by the launcher, its processors."""
    return launch.start("auto", 2, Settings().compute.split_voxels)


@pytest.fixture(scope="session")
def particle() -> Particle:
    return built_in_particle("demo")


@pytest.fixture(scope="session")
def simulation(particle: Particle) -> Simulation:
    """300 noise-free patterns, 40 x 40 pixels to 12 angstrom."""
    return simulate(
        particle,
        images=300,
        pixels=40,
        resolution_angstrom=12.0,
        wavelength_angstrom=1.0,
        photons=None,
        seed=11,
        threads=2,
    )


@pytest.fixture(scope="session")
def experiment(simulation: Simulation, workers: Workers) -> Experiment:
    settings = Settings(prepare=PrepareOptions(diameter_angstrom=62.0), compute=ComputeOptions(threads=2))
    return prepare(as_dataset(simulation, workers), settings, workers)


@pytest.fixture(scope="session")
def true_rotations(simulation: Simulation) -> np.ndarray:
    return orientations.matrices(simulation.quaternions)


@pytest.fixture(scope="session")
def true_intensity(particle: Particle, experiment: Experiment) -> np.ndarray:
    """|F rho|^2 on the grid of the last generation, zero frequency at M // 2, in the patterns' unit."""
    return intensity(particle, experiment.plans[-1])


def intensity(particle: Particle, plan: Plan) -> np.ndarray:
    """|F rho|^2 of a particle on the grid of a generation."""
    volume = density(particle, plan.size, plan.voxel_angstrom, threads=2).astype(np.float64)
    spectrum = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(volume))) * plan.voxel_angstrom**3
    return np.abs(spectrum) ** 2


@pytest.fixture(scope="session")
def true_autocorrelation(true_intensity: np.ndarray) -> np.ndarray:
    return autocorrelation(true_intensity)


def autocorrelation(intensity: np.ndarray) -> np.ndarray:
    """The autocorrelation that belongs to intensities, both with the centre at M // 2."""
    return np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(intensity))).real.astype(np.float32)


class Diary:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.stages: list[Progress] = []
        self.states: list[State] = []
        self.halves: dict[int, Diary] = {}

    def begin(self, generation: int, generations: int, stage: str) -> None:  # noqa: ARG002 - stages are enough
        self.begun.append(stage)

    def stage(self, progress: Progress) -> None:
        self.stages.append(progress)

    def generation(self, state: State, *, last: bool) -> None:  # noqa: ARG002 - all are remembered
        self.states.append(state)

    def half(self, number: int) -> Diary:
        self.halves[number] = Diary()
        return self.halves[number]


def assert_same_state(first: State, second: State) -> None:
    """Fail unless two states are equal in every bit."""
    for field in fields(State):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name), err_msg=field.name)


def records(generations: int, done: int, figures: dict[str, float] | None = None) -> list[dict]:
    """Records of a run: ten seconds of blind start, then 1 + 2 seconds a generation."""
    made = [{"generation": 1, "generations": generations, "stage": "start", "seconds": 10.0, "figures": {}}]
    for generation in range(2, done + 1):
        for stage, seconds in (("match", 1.0), ("merge", 2.0)):
            made.append({"generation": generation, "generations": generations, "stage": stage, "seconds": seconds,
                         "figures": figures or {}})  # fmt: skip
    return made


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated data set."""
    path = tmp_path_factory.mktemp("data") / "data.h5"
    result = run("simulate", *SMALL, "--output", path)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patterns of single particles among many others, of which the truth is known."""
    path = tmp_path_factory.mktemp("mixed") / "mixed.h5"
    result = run("simulate", *MIXED, "--output", path)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="session")
def selected(tmp_path_factory: pytest.TempPathFactory, mixed: Path) -> Path:
    """The output folder of a selection among them, made by two threads."""
    folder = tmp_path_factory.mktemp("selected") / "out"
    result = run("select", mixed, "--output", folder, *QUICK_SELECT, "--log", folder / "run.log")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """The output folder of a finished, evaluated run."""
    folder = tmp_path_factory.mktemp("finished") / "out"
    result = run("reconstruct", data, "--output", folder, *QUICK, "--log", folder / "run.log")
    assert result.exit_code == 0, result.output
    result = run("evaluate", folder, "--reference", data)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def written() -> tuple[trying.Report, list[dict[str, Any]]]:
    """A report, and the records that were written to it."""
    records: list[dict[str, Any]] = []
    return trying.Report(lambda line: records.append(json.loads(line))), records


def found(records: list[dict[str, Any]]) -> list[Finding]:
    return [findings.from_record(record) for record in records if "begin" not in record]


@pytest.fixture(scope="session")
def looked_at(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> Path:
    """A finished run, its page written anew with half-maps that its quick settings leave out: the density and noise."""
    from spilegate.report.files import write_curve
    from spilegate.report.page import build

    folder = tmp_path_factory.mktemp("looked_at") / "out"
    shutil.copytree(finished, folder)
    density, voxel = read_map(folder / "density.mrc")
    rng = np.random.default_rng(7)
    q = np.arange(1, len(density) // 2) / (len(density) * voxel)
    for half in (1, 2):
        noisy = density + 0.05 * density.max() * rng.standard_normal(density.shape)
        write_map(folder / f"half_{half}.mrc", noisy.astype(np.float32), voxel)
    for name, drop in (("half_set", 8.0), ("half_set_plain", 7.0)):
        write_curve(folder, name, q, 1 - drop * q)
    build.write(folder)
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser without a window, which draws in three dimensions without a graphics card."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "no Chromium found; apt-get install chromium, or any other way to have it on the path"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        flags += ["--disable-component-update", "--disable-sync"]
        started = playwright.chromium.launch(executable_path=found, args=flags)
        yield started
        started.close()
