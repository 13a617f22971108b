"""What every pattern shows at unit fluence: the particle, copies of it that touch, droplets, or nothing of it."""

from __future__ import annotations

import math

import numpy as np

from spilegate.errors import InputError
from spilegate.geometry.orientations import matrices
from spilegate.records import Float32, Float64
from spilegate.simulation.clusters import BRIGHTNESS, COPIES, Copies, clusters, droplet_axes, droplet_patterns
from spilegate.simulation.conditions import AGGREGATE, DOUBLET, DROPLET, FLAT, SINGLE, STRAY, Lot
from spilegate.simulation.particle import PARTICLES, Particle, built_in_particle, diameter_angstrom
from spilegate.simulation.scattering import Seen, patterns, seen_patterns

# Patterns of droplets computed at once.
DROPLETS = 64


def shown(
    particles: tuple[Particle, ...],
    seen: Seen,
    quaternions: Float64,
    lot: Lot,
    factor: Float64,
    rng: np.random.Generator,
    threads: int,
) -> Float32:
    """Return what every pattern shows at unit fluence, (N, N_PIX) float32.

    quaternions : (N, 4) float64, of the particle, of a cluster's first copy, of a droplet
    factor : (N_PIX,) float64, response of the pixels to what a particle scatters, 0 for those masked
    rng : of clusters and droplets
    Junk has the mean total of single particles; clusters and droplets that times a factor between those of BRIGHTNESS.
    Raises InputError if the states are all built-in particles, and a stray one is wanted.
    """
    result = np.zeros((len(lot.kind), len(factor)), np.float32)
    rotations = matrices(quaternions)
    for state, particle in enumerate(particles):
        chosen = lot.state == state
        result[chosen] = _singles(particle, seen, rotations, np.flatnonzero(chosen), threads)
    result *= factor.astype(np.float32)
    total = result[lot.kind == SINGLE].sum(-1, dtype=np.float64).mean()
    stray = np.flatnonzero(lot.kind == STRAY)
    if len(stray):
        of_another = _singles(_another(particles), seen, rotations, stray, threads) * factor
        result[stray] = of_another * (total / of_another.sum(-1).mean())
    result[lot.kind == FLAT] = total * (factor > 0) / np.count_nonzero(factor > 0)
    for kind, stream in zip((DOUBLET, AGGREGATE, DROPLET), rng.spawn(3), strict=True):
        chosen = np.flatnonzero(lot.kind == kind)
        if not len(chosen):
            continue
        if kind == DROPLET:
            drawn = _droplets(particles, seen[chosen], rotations[chosen], stream)
        else:
            numbers = np.full(len(chosen), 2)
            if kind == AGGREGATE:
                numbers = stream.integers(COPIES[0], COPIES[1] + 1, len(chosen))
            copies = clusters(particles[0], quaternions[chosen], numbers, stream)
            drawn = seen_patterns(particles[0], seen[chosen], copies, threads=threads)
        drawn *= factor.astype(np.float32)
        wanted = total * np.exp(stream.uniform(math.log(BRIGHTNESS[0]), math.log(BRIGHTNESS[1]), len(chosen)))
        result[chosen] = drawn * (wanted / drawn.sum(-1, dtype=np.float64))[:, None]
    return result


def _singles(particle: Particle, seen: Seen, rotations: Float64, chosen: np.ndarray, threads: int) -> Float32:
    """Return patterns of a particle alone, (n, N_PIX) float32, for the patterns `chosen`."""
    own = seen[chosen]
    if seen.alike and (seen.size == 1).all():
        return patterns(particle, seen[:1].q()[0], rotations[chosen], threads=threads)
    copies = Copies(np.arange(len(chosen)), rotations[chosen], np.zeros((len(chosen), 3)))
    return seen_patterns(particle, own, copies, threads=threads)


def _droplets(particles: tuple[Particle, ...], seen: Seen, rotations: Float64, rng: np.random.Generator) -> Float32:
    """Return patterns of spheroids, (n, N_PIX) float32."""
    axes = droplet_axes(len(rotations), diameter_angstrom(particles[0]), rng)
    result = np.empty((len(rotations), seen.pixels**2), np.float32)
    for start in range(0, len(rotations), DROPLETS):
        own = slice(start, start + DROPLETS)
        result[own] = droplet_patterns(axes[own], rotations[own], seen[own].q())
    return result


def _another(particles: tuple[Particle, ...]) -> Particle:
    """Return the first built-in particle that is none of these."""
    for name in PARTICLES:
        if name not in {each.name for each in particles}:
            return built_in_particle(name)
    raise InputError(f"junk: the states are all of {', '.join(PARTICLES)}; expected another particle; leave one out")
