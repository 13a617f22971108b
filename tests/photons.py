"""Small experiments that are not ideal, as data sets without the truth, and what is true of them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from spilegate.evaluation.comparison import compare
from spilegate.evaluation.orientations import orientation_error
from spilegate.geometry import orientations
from spilegate.kernels.polar import Correlator
from spilegate.kernels.workers import Threads
from spilegate.likelihood.sampling import Sampling
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.reconstruction import Reconstruction
from spilegate.records import Dataset
from spilegate.settings import Settings
from spilegate.simulation.conditions import JUNK, Conditions
from spilegate.simulation.experiment import Simulation, simulate
from spilegate.simulation.particle import Particle, built_in_particle, density, make_particle

PIXELS, RESOLUTION_ANGSTROM = 32, 14.0
PHOTONS = 2000.0


def settings(**options: object) -> Settings:
    """Settings of a quick run: one start, no half-sets."""
    quick = {"compute": {"threads": 2}, "start": {"count": 1}, "resolution": {"half_sets": False, "phasings": 0}}
    return Settings.model_validate(quick | options)


def measured(
    particle: Particle | None = None,
    *,
    images: int = 300,
    photons: float | None = 20_000.0,
    seed: int = 7,
    others: tuple[Particle, ...] = (),
    **conditions: Any,
) -> Simulation:
    """Patterns of a particle, the built-in one if left out."""
    return simulate(
        particle or built_in_particle("demo"),
        images=images,
        pixels=PIXELS,
        resolution_angstrom=RESOLUTION_ANGSTROM,
        wavelength_angstrom=1.0,
        photons=photons,
        seed=seed,
        threads=1,
        others=others,
        conditions=Conditions(**conditions),
    )


def heap(stretch: float, name: str) -> Particle:
    """A heap of carbon atoms."""
    positions = 9 * np.random.default_rng(0).standard_normal((60, 3)) * [stretch, 1, 1]
    return make_particle(positions, ["C"] * 60, np.ones(60), name)


def run_simulation(
    images: int = 60, photons: float | None = PHOTONS, seed: int = 3, states: int = 1, **changes: object
) -> Simulation:
    """A small experiment on one to three heaps of atoms under the conditions given."""
    heaps = [heap(1 + k / 2, f"heap {k}") for k in range(states)]
    return simulate(
        heaps[0],
        images=images,
        pixels=20,
        resolution_angstrom=6.0,
        wavelength_angstrom=1.5,
        photons=photons,
        seed=seed,
        threads=1,
        others=tuple(heaps[1:]),
        conditions=Conditions(**changes),  # type: ignore[arg-type]
    )


def blind(simulation: Simulation, **changes: Any) -> Dataset:
    """What the reader makes of a simulation's file, truth left out."""
    count, *shape = simulation.intensities.shape
    n_pixel = int(np.prod(shape))
    mask = np.zeros(n_pixel, np.uint8) if simulation.mask is None else simulation.mask.ravel()
    dataset = Dataset(
        images=simulation.intensities.reshape(count, n_pixel),
        q=simulation.pixel_position.reshape(-1, 3),
        mask=mask,
        panel_shape=(shape[0], shape[1], shape[2]),
        pixel_index_map=simulation.pixel_index_map.reshape(-1, 2),
        digest="0" * 64,
        source="simulation",
        counts=simulation.photons is not None,
        background=None if simulation.background is None else simulation.background.ravel(),
    )
    return replace(dataset, **changes)


def good_patterns(simulation: Simulation) -> np.ndarray:
    """Which patterns (N_IMG,) show a particle."""
    if simulation.hidden is None:
        return np.ones(len(simulation.intensities), np.bool_)
    good: np.ndarray = simulation.hidden.state != JUNK
    return good


def true_autocorrelation(particle: Particle, size: int, voxel_angstrom: float) -> np.ndarray:
    """The transform of |F rho|^2 on a grid, (size, size, size) float32, for slices in the simulation's own unit."""
    volume = density(particle, size, voxel_angstrom, threads=1).astype(np.float64)
    spectrum = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(volume))) * voxel_angstrom**3
    return np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(np.abs(spectrum) ** 2))).real.astype(np.float32)


def correlation(result: Reconstruction, simulation: Simulation, k: int = 0, true_k: int = 0) -> float:
    """Return the correlation of the density of state k with a true one."""
    reference = simulation.volume if simulation.hidden is None else simulation.hidden.volumes[true_k]
    comparison, _ = compare(
        result.state.density[k],
        result.state.voxel_angstrom,
        reference,
        simulation.voxel_angstrom,
        q_max=result.q_max,
        threads=1,
    )
    return comparison.correlation


def orientation_errors(result: Reconstruction, simulation: Simulation, patterns: np.ndarray) -> np.ndarray:
    """Return the errors [degrees] of the orientations of some patterns, bool (N_IMG,).

    Half a turn about the beam makes no difference on a flat Ewald sphere, and little on one as flat as here: it is no
    error.
    """
    found, truth = result.state.quaternions[patterns], simulation.quaternions[patterns]
    half_turn = Rotation.from_euler("z", 180, degrees=True) * Rotation.from_quat(found, scalar_first=True)
    both = np.concatenate([found, half_turn.as_quat(scalar_first=True)])
    degrees = orientation_error(both, np.concatenate([truth, truth])).degrees
    least: np.ndarray = degrees.reshape(2, -1).min(axis=0)
    return least


def some_points(count: int, rng: np.random.Generator, **changes: Any) -> Sampling:
    """Points with weights, response, background and gaps drawn at random, all that a likelihood may look at."""
    values = {
        "mean": rng.uniform(5, 50, count),
        "variance": rng.uniform(1, 100, count),
        "response": rng.uniform(0.5, 1, count),
        "background": rng.uniform(0, 5, count),
        "cell": rng.uniform(0.5, 2, count),
        "coverage": (rng.random(count) < 0.8).astype(float),
    }
    narrow = {name: np.asarray(value, np.float32) for name, value in (values | changes).items()}
    return Sampling(q=np.zeros((count, 3)), n_pixel=count, **narrow)


def turned(quaternions: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Return orientations turned about random axes by an angle."""
    axis = rng.standard_normal((len(quaternions), 3))
    axis *= np.radians(degrees) / np.linalg.norm(axis, axis=1, keepdims=True)
    turns = orientations.matrices(quaternions) @ Rotation.from_rotvec(axis).as_matrix()
    result: np.ndarray = orientations.quaternions(turns)
    return result


def correlations(correlator: Correlator, patterns: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Return the correlations (N_PHI, n, TILE) at every shift; arguments as for `Correlator.best`."""
    product = np.matmul(patterns, views).reshape(len(correlator.order), 2, -1)
    even, odd = correlator.halves(product)
    result: np.ndarray = np.concatenate([even + odd, even - odd]).reshape(correlator.n_phi, -1, views.shape[2])
    return result


@cache
def bright() -> Simulation:
    """Patterns of 20,000 photons."""
    return measured(images=100)


def prepared(dataset: Dataset, **options: object) -> Experiment:
    return prepare(dataset, settings(prepare=options), Threads(1))
