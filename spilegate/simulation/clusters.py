"""What a jet carries beside single particles: copies of them that touch, and droplets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spilegate.geometry.orientations import matrices, random_quaternions
from spilegate.records import Float64, Int64
from spilegate.simulation.particle import Particle

# Copies in an aggregate, from and to.
COPIES = (3, 6)
# Mean diameter of a droplet over the particle's largest one, log-uniform, and its longest axis over its shortest.
DROPLET_SIZE, DROPLET_ASPECT = (0.7, 2.0), 1.5
# Total intensity of junk over the mean of single particles, log-uniform: what a hit finder leaves of it.
BRIGHTNESS = (0.5, 3.0)
# Balls that stand for a particle's atoms where copies touch, about so many.
BALLS = 120


@dataclass(frozen=True)
class Copies:
    """Copies of a particle that scatter together in a pattern, one after another.

    pattern : (n,) int64, ascending, which pattern each is in
    rotations : (n, 3, 3) float64, particle to laboratory
    shifts : (n, 3) float64 [angstrom], laboratory
    """

    pattern: Int64
    rotations: Float64
    shifts: Float64


def balls_of(particle: Particle) -> tuple[Float64, float]:
    """Return the middles (n, 3) and the radius [angstrom] of balls that fill the same space as a particle's atoms."""
    at = particle.positions
    edge = (np.prod(np.ptp(at, axis=0) + 1.0) / BALLS) ** (1 / 3) / 2
    while len(middles := _thinned(at, edge)) > BALLS:
        edge *= 1.1
    return middles, edge / 2


def _thinned(points: Float64, edge: float) -> Float64:
    """Return the mean of the points in every cell of a cubic grid that holds any."""
    cells = np.floor(points / edge).astype(np.int64)
    _, index, count = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    sums = np.zeros((len(count), 3))
    np.add.at(sums, index.ravel(), points)
    result: Float64 = sums / count[:, None]
    return result


def clusters(particle: Particle, quaternions: Float64, numbers: Int64, rng: np.random.Generator) -> Copies:
    """Put copies of a particle together so that each touches another and none overlap.

    quaternions : (N, 4) float64, orientation of the first copy in every pattern; the others' are drawn
    numbers : (N,) int64, copies in every pattern; `pattern` of the result counts from 0 to N - 1
    A copy comes from a random direction towards one of those that are there, and stops where it meets any.
    """
    balls, radius = balls_of(particle)
    rotations, shifts = [], []
    for first, number in zip(quaternions, numbers, strict=True):
        turns = matrices(np.concatenate([first[None], random_quaternions(int(number) - 1, rng)]))
        places = np.zeros((number, 3))
        there = balls @ turns[0].T
        for copy in range(1, number):
            direction = rng.standard_normal(3)
            direction /= np.linalg.norm(direction)
            target = places[rng.integers(copy)]
            more = balls @ turns[copy].T
            places[copy] = target + direction * _contact(there - target, more, direction, 2 * radius)
            there = np.concatenate([there, more + places[copy]])
        rotations.append(turns)
        shifts.append(places - places.mean(axis=0))
    pattern = np.repeat(np.arange(len(numbers)), numbers)
    if not len(numbers):
        return Copies(pattern, np.zeros((0, 3, 3)), np.zeros((0, 3)))
    return Copies(pattern, np.concatenate(rotations), np.concatenate(shifts))


def _contact(there: Float64, more: Float64, direction: Float64, distance: float) -> float:
    """Return how far along a direction points (n, 3) have to be moved so that none is nearer than that to (m, 3)."""
    gap = more[:, None] - there[None]
    along = gap @ direction
    across = np.einsum("ijk,ijk->ij", gap, gap) - along**2
    meet = across < distance**2
    # Two balls that would pass each other without touching do not stop the copy.
    far = -along[meet] + np.sqrt(distance**2 - across[meet])
    return float(far.max(initial=0.0))


def droplet_axes(number: int, diameter_angstrom: float, rng: np.random.Generator) -> Float64:
    """Return the half axes of spheroids, (n, 3) float64 [angstrom], the last one that of revolution."""
    low, high = np.log(DROPLET_SIZE)
    mean = np.exp(rng.uniform(low, high, number)) * diameter_angstrom / 2
    aspect = rng.uniform(1, DROPLET_ASPECT, number)
    stretch = np.where(rng.random(number) < 0.5, aspect, 1 / aspect)
    return np.stack([mean * stretch ** (-1 / 3), mean * stretch ** (-1 / 3), mean * stretch ** (2 / 3)], axis=-1)


def droplet_patterns(half_axes: Float64, rotations: Float64, q: Float64) -> Float64:
    """Return |F|^2 of homogeneous ellipsoids of unit volume, (n, N_PIX) float64.

    half_axes : (n, 3) float64 [angstrom]; rotations : (n, 3, 3), particle to laboratory
    q : (n or 1, N_PIX, 3) float64 [1/angstrom]
    `F = 3 (sin u - u cos u) / u^3` with u = 2 pi |A R^T q|.
    """
    u = 2 * np.pi * np.linalg.norm(np.matmul(q, rotations) * half_axes[:, None], axis=-1)
    safe = np.maximum(u, 1e-3)
    form = np.where(u < 1e-2, 1 - u**2 / 10, 3 * (np.sin(safe) - safe * np.cos(safe)) / safe**3)
    result: Float64 = form**2
    return result
