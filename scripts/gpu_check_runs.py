"""Part 2 of `scripts/gpu_check`: blind runs on the device, against NumPy and against the clock."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from gpu_check_data import as_dataset
from gpu_check_report import Report

from spilegate import mtip
from spilegate.backend import array_module
from spilegate.evaluation.comparison import compare
from spilegate.evaluation.orientations import orientation_error
from spilegate.formats.record import load_record, save_record
from spilegate.geometry import orientations
from spilegate.kernels.blocks import GROUP
from spilegate.kernels.device import Device
from spilegate.kernels.exact import Rows
from spilegate.kernels.workers import Here, Threads, Workers
from spilegate.patterns.prepare import prepare
from spilegate.reconstruction import Reconstruction
from spilegate.records import Dataset, Float64, Progress, State
from spilegate.settings import Settings
from spilegate.simulation.experiment import Simulation, detector_q, simulate
from spilegate.simulation.particle import built_in_particle, density
from spilegate.stages import phasing, slicing

PART = "runs"
Profile = Callable[[Callable[[], Any]], Any]
ALONE: dict[str, Any] = {"resolution": {"half_sets": False, "phasings": 0}}
LEAST_CORRELATION, MOST_DEGREES = 0.999, 0.2
# Of patterns made by the device: voxels that hold the corners of the detector, and twice the particle's diameter.
VOXEL_PART, EXTENT_ANGSTROM = 0.3, 160.0
PHOTONS = 20_000.0


@dataclass(frozen=True)
class Size:
    """What is simulated: so many patterns, pixels along a side, resolution at the sides [angstrom]."""

    images: int
    pixels: int
    resolution_angstrom: float

    def simulated(self, threads: int) -> Simulation:
        """Return the patterns and their truth."""
        return simulate(
            built_in_particle("demo"), images=self.images, pixels=self.pixels,
            resolution_angstrom=self.resolution_angstrom, wavelength_angstrom=1.0, photons=None,
            seed=0, threads=threads,
        )  # fmt: skip

    def made(self, device: Device) -> tuple[Dataset, Float64]:
        """Return patterns that the device makes in a moment, slices of an autocorrelation, and their quaternions."""
        q = detector_q(self.pixels, self.resolution_angstrom, 1.0).reshape(-1, 3)
        voxel = VOXEL_PART * self.resolution_angstrom
        size = int(EXTENT_ANGSTROM / voxel) | 1
        volume = density(built_in_particle("demo"), size, voxel, threads=device.threads)
        quaternions = orientations.random_quaternions(self.images, np.random.default_rng(0))
        images = slicing.slices(
            phasing.autocorrelation(volume, threads=device.threads),
            voxel,
            orientations.matrices(quaternions),
            q,
            workers=device,
        )
        xp = array_module(images)
        xp.random.seed(0)
        expected = xp.maximum(images, 0.0)
        images = xp.random.poisson(expected * (PHOTONS / xp.mean(xp.sum(expected, axis=1)))).astype(xp.float32)
        dataset = Dataset(
            images=images,
            q=q,
            mask=np.zeros(len(q), np.uint8),
            panel_shape=(1, self.pixels, self.pixels),
            pixel_index_map=np.zeros((len(q), 2), np.int64),
            digest="0" * 64,
            source="made",
            counts=True,
        )
        return dataset, quaternions


class Stopwatch:
    """A watcher that adds up the seconds of every stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def begin(self, generation: int, generations: int, stage: str) -> None:
        """Do nothing."""

    def stage(self, progress: Progress) -> None:
        """Take note of a stage."""
        self.seconds[progress.stage] = self.seconds.get(progress.stage, 0.0) + progress.seconds

    def generation(self, state: State, *, last: bool) -> None:
        """Keep nothing."""

    def half(self, number: int) -> Stopwatch:  # noqa: ARG002 - halves count like the whole
        """Return itself."""
        return self


def spread(dataset: Dataset, workers: Workers) -> Dataset:
    """Return a data set whose patterns lie where the workers want them, as after reading."""

    def rows(here: Here, part: slice) -> tuple[Any]:
        return (here.array(dataset.images[part]),)

    if not isinstance(dataset.images, np.ndarray):
        return dataset
    output = Rows(dataset.images.shape[1:], dataset.images.dtype, split=True)
    (images,) = workers.run(rows, len(dataset.images), [output], tile=GROUP, on_host=True)
    return replace(dataset, images=images)


def reconstructed(
    dataset: Dataset, workers: Workers, watcher: Stopwatch | None = None, **options: Any
) -> Reconstruction:
    """Return a blind reconstruction by these workers."""
    settings = Settings.model_validate({"compute": {"threads": workers.threads}} | options)
    own = spread(dataset, workers)
    return mtip.reconstruct(own, settings, experiment=prepare(own, settings, workers), watcher=watcher)


class HostRun:
    """A reconstruction by NumPy in another process, which goes on while the device is tried."""

    def __init__(self, size: Size, threads: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "state.h5"
        arguments = [str(self.path), str(size.images), str(size.pixels), str(size.resolution_angstrom), str(threads)]
        self.process = subprocess.Popen([sys.executable, __file__, *arguments], env=dict(os.environ))

    def end(self) -> None:
        """End it, if it has not ended, and leave nothing."""
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def state(self) -> State:
        """Wait for it and return the last state."""
        if code := self.process.wait():
            raise RuntimeError(f"the run on NumPy ended with {code}")
        return load_record(self.path, State)[0]


def accuracy(report: Report, size: Size, device: Device, host: HostRun) -> None:
    """Compare a blind run on the device with one on NumPy, and both with the truth."""
    simulation = size.simulated(device.threads)
    found = reconstructed(spread(as_dataset(simulation), device), device, **ALONE)
    right = host.state()
    state = found.state
    against = compare(
        state.density[0], state.voxel_angstrom, right.density[0], right.voxel_angstrom,
        q_max=found.q_max, quaternions=state.quaternions, true_quaternions=right.quaternions, threads=device.threads,
    )[0]  # fmt: skip
    good = against.correlation >= LEAST_CORRELATION
    report.check(PART, "densities of both runs", good, f"correlation {against.correlation:.5f} of {LEAST_CORRELATION}")
    degrees = orientation_error(state.quaternions, right.quaternions).degrees
    median, most = float(np.median(degrees)), float(np.percentile(degrees, 99))
    text = f"median {median:.3f}, 99 % within {most:.3f} degrees; expected {MOST_DEGREES}"
    report.check(PART, "orientations of both runs", most <= MOST_DEGREES, text)
    for name, one in (("device", state), ("NumPy", right)):
        comparison, _ = compare(
            one.density[0], one.voxel_angstrom, simulation.volume, simulation.voxel_angstrom, q_max=found.q_max,
            quaternions=one.quaternions, true_quaternions=simulation.quaternions, threads=device.threads,
        )  # fmt: skip
        error = comparison.orientation_error_deg or {}
        text = (
            f"correlation {comparison.correlation:.4f}, orientations {error.get('median', np.nan):.3f} degrees (median)"
        )
        report.check(PART, f"truth, by {name}", comparison.correlation > 0.95, text)


def speed(
    report: Report, size: Size, device: Device, repeats: int, profile: Profile | None, *, whole: bool = True
) -> None:
    """Time whole runs, without and, if `whole`, with half-sets; the very first one compiles kernels."""
    dataset, _ = size.made(device)
    for label, options in (("alone", ALONE), ("with half-sets and PRTF", {}))[: 1 + whole]:
        for number in range(repeats):
            watch = Stopwatch()
            work = partial(reconstructed, dataset, device, watch, **options)
            begin = perf_counter()
            result = profile(work) if profile and number == repeats - 1 else work()
            seconds = perf_counter() - begin
            stages = {f"{stage}_s": round(spent, 3) for stage, spent in watch.seconds.items()}
            name = f"blind run {size.images} x {size.pixels}^2, {label}"
            generations = result.state.generation
            report.speed(f"{name}, {'again' if number else 'first'}", seconds, None, generations=generations, **stages)
        distance = float(result.state.distance.mean())
        report.check(PART, name, result.converged, f"{result.convergence}; distance {distance:.4f}")


def main() -> None:
    """Reconstruct on NumPy and write the last state."""
    path, images, pixels, resolution, threads = sys.argv[1:]
    size, workers = Size(int(images), int(pixels), float(resolution)), Threads(int(threads))
    dataset = spread(as_dataset(size.simulated(workers.threads)), workers)
    result = reconstructed(dataset, workers, **ALONE)
    save_record(Path(path), result.state, {})


if __name__ == "__main__":
    main()
