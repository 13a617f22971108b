"""A single-particle experiment on the computer: random orientations, the true Ewald sphere, photon noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spilegate.errors import InputError
from spilegate.geometry.orientations import matrices, random_quaternions
from spilegate.geometry.response import response
from spilegate.kernels import fft, nufft
from spilegate.records import NEVER, Float32, Float64, Int64, UInt8
from spilegate.simulation.conditions import IDEAL, JUNK, Conditions, Lot, detector_edge, detector_mask, draw_lot, heat
from spilegate.simulation.particle import (
    PARTICLES,
    Particle,
    built_in_particle,
    density,
    diameter_angstrom,
    form_factor_basis,
)

# Relative error of amplitudes; that of intensities is twice this.
TOLERANCE = 1e-6
# Points transformed at once: enough to keep all cores busy, small enough to need about 0.2 GiB of work space.
BLOCK = 1 << 20


@dataclass(frozen=True)
class Hidden:
    """What else is true of simulated patterns.

    state : (N_IMG,) int64, the particle's state in every pattern, -1 for junk
    scale : (N_IMG,) float64, fluence of every pattern, mean 1
    background : (1, y, x) float64 [counts per pattern], mean background
    volumes : (K, M, M, M) float32 [electrons/angstrom^3], one per state, on the grid of `Simulation.volume`
    hot_pixels : (n, 2) int64, (pattern, pixel) of every value that is hot, None if there are none by design
    """

    state: Int64
    scale: Float64
    background: Float64
    volumes: Float32
    hot_pixels: Int64 | None = None


@dataclass(frozen=True)
class Simulation:
    """Simulated patterns with their truth.

    intensities : (N_IMG, 1, y, x) float32 [photons, or electrons^2 without noise]
    pixel_position : (1, y, x, 3) float64 [1/angstrom], laboratory frame
    pixel_index_map : (1, y, x, 2) int64, (row, column) in the picture
    quaternions : (N_IMG, 4) float64, (w, x, y, z), particle to laboratory
    volume : (M, M, M) float32 [electrons/angstrom^3] in (x, y, z) index order, M odd, twice the particle wide; of the
        first state
    voxel_angstrom : edge of its voxels, a Nyquist grid of the detector's corner
    wavelength_angstrom : wavelength of the beam
    photons : mean number of photons in a pattern, None without noise
    seed : seed of orientations and noise
    particle : the particle's name
    mask : (1, y, x) uint8, levels of the pixels, None without a mask
    background : (1, y, x) float64 [counts per pattern], what the experimenter knows of the background, None for nothing
    hidden : what else is true, None for an ideal experiment
    """

    intensities: Float32
    pixel_position: Float64
    pixel_index_map: Int64
    quaternions: Float64
    volume: Float32
    voxel_angstrom: float
    wavelength_angstrom: float
    photons: float | None
    seed: int
    particle: str
    mask: UInt8 | None = None
    background: Float64 | None = None
    hidden: Hidden | None = None


def detector_q(pixels: int, resolution_angstrom: float, wavelength_angstrom: float) -> Float64:
    """Return reciprocal positions of the pixels of a flat square detector, (1, pixels, pixels, 3) float64 [1/angstrom].

    The detector is normal to the beam (+z), which meets it in its middle, between pixels if `pixels` is even. Positions
    lie on the Ewald sphere, `q = (s_out - z) / wavelength`; the middle of each side (of the outermost row of pixel
    centres) is at `1/|q| = resolution_angstrom`. The first pixel axis is y, the second x.

    Raises InputError for fewer than 2 pixels and for a resolution that needs scattering by 90 degrees or more.
    """
    if pixels < 2:
        raise InputError(f"pixels = {pixels}; expected at least 2 along a side")
    finest = wavelength_angstrom / np.sqrt(2)
    if not (wavelength_angstrom > 0 and np.isfinite(resolution_angstrom) and resolution_angstrom > finest):
        raise InputError(
            f"resolution {resolution_angstrom:g} A at wavelength {wavelength_angstrom:g} A; expected a positive "
            f"wavelength and a resolution above wavelength / sqrt(2) = {finest:.4g} A, all that a flat detector can see"
        )
    side = np.tan(2 * np.arcsin(wavelength_angstrom / (2 * resolution_angstrom)))
    tangent = np.linspace(-side, side, pixels)
    y, x = np.meshgrid(tangent, tangent, indexing="ij")
    # cos - 1, written so that nothing cancels near the beam.
    squared = x**2 + y**2
    cosine = 1 / np.sqrt(1 + squared)
    q_z = -squared * cosine**2 / (1 + cosine)
    return np.stack([x * cosine, y * cosine, q_z], axis=-1)[None] / wavelength_angstrom


def patterns(particle: Particle, q: Float64, rotations: Float64, *, threads: int) -> Float32:
    """Return noise-free patterns, `|F(R^T q)|^2`, (N, N_PIX) float32 [electrons^2].

    q : (N_PIX, 3) float64 [1/angstrom], laboratory frame; rotations : (N, 3, 3) float64, particle to laboratory
    F is the sum over atoms, by a type-3 NUFFT for every function of the form factors' basis; relative error about 2e-6.
    """
    basis, weights = form_factor_basis(particle, np.linalg.norm(q, axis=-1))
    sources = np.ascontiguousarray(particle.positions.T)
    strengths = np.ascontiguousarray(weights[:, particle.element] * particle.occupancy).astype(np.complex128)
    result = np.empty((len(rotations), len(q)), np.float32)
    step = max(1, BLOCK // len(q))
    for start in range(0, len(rotations), step):
        block = rotations[start : start + step]
        targets = np.ascontiguousarray(np.einsum("nji,pj->inp", block, 2 * np.pi * q).reshape(3, -1))
        parts = nufft.between_points(sources, strengths, targets, tolerance=TOLERANCE, threads=threads)
        amplitude = np.einsum("knp,kp->np", parts.reshape(len(weights), len(block), len(q)), basis)
        result[start : start + step] = amplitude.real**2 + amplitude.imag**2
    return result


def simulate(
    particle: Particle,
    *,
    images: int,
    pixels: int,
    resolution_angstrom: float,
    wavelength_angstrom: float,
    photons: float | None,
    seed: int,
    threads: int,
    others: tuple[Particle, ...] = (),
    conditions: Conditions = IDEAL,
) -> Simulation:
    """Simulate patterns of a particle at orientations uniform on SO(3).

    images : number of patterns; pixels, resolution_angstrom, wavelength_angstrom : see `detector_q`
    photons : mean number of photons in a pattern on pixels that are not masked, over all patterns, background and hot
        pixels left out; None for exact intensities
    others : the particle's other states; conditions : what is not ideal
    Orientations depend on `seed` and `images` only, so that the same patterns can be had at any noise level.

    Raises InputError for fewer than one pattern, a number of photons that is not positive, an unreachable resolution,
    conditions that cannot be.
    """
    if images < 1:
        raise InputError(f"images = {images}; expected at least 1")
    if photons is not None and not (np.isfinite(photons) and photons > 0):
        raise InputError(f"photons = {photons:g}; expected a positive number, or none for no noise")
    particles = (particle, *others)
    conditions.check(states=len(particles), noise=photons is not None)
    position = detector_q(pixels, resolution_angstrom, wavelength_angstrom)
    q = position.reshape(-1, 3)
    diameter = max(diameter_angstrom(each) for each in particles)
    mask = detector_mask(conditions.mask, position, diameter)
    used = mask.ravel() != NEVER
    orientation_rng, noise_rng, lot_rng, hot_rng = np.random.default_rng(seed).spawn(4)
    quaternions = random_quaternions(images, orientation_rng)
    lot = draw_lot(images, len(particles), conditions, lot_rng)
    factor = used * response(q, polarisation=conditions.polarisation, solid_angle=conditions.solid_angle)
    intensities = _shown(particles, q, matrices(quaternions), lot, factor, threads)
    strength = lot.scale
    if photons is not None:
        strength = strength * (photons / (strength * intensities.sum(-1, dtype=np.float64)).mean())
    background = np.zeros(len(q))
    if conditions.background:
        edge = detector_edge(np.linalg.norm(q, axis=-1), used, resolution_angstrom)
        background[used] = conditions.background * _signal(intensities[:, edge], strength, lot)
    _measure(intensities, strength, background, noise_rng if photons is not None else None)
    hot = None
    if conditions.hot_pixels:
        hot = heat(intensities, used, conditions.hot_pixels, hot_rng, whole=photons is not None)
    voxel = 1 / (2 * float(np.linalg.norm(q, axis=-1).max()))
    size = fft.fast_odd_size(int(np.ceil(2 * max(diameter, voxel) / voxel)) + 2)
    volumes = np.stack([density(each, size, voxel, threads=threads) for each in particles])
    ideal = conditions == IDEAL and not others
    seen = background.reshape(mask.shape)
    return Simulation(
        intensities=intensities.reshape(images, *mask.shape),
        pixel_position=position,
        pixel_index_map=np.moveaxis(np.indices((1, pixels, pixels), np.int64)[1:], 0, -1),
        quaternions=quaternions,
        volume=volumes[0],
        voxel_angstrom=voxel,
        wavelength_angstrom=wavelength_angstrom,
        photons=photons,
        seed=seed,
        particle=", ".join(each.name for each in particles),
        mask=mask if conditions.mask else None,
        background=seen if conditions.known_background else None,
        hidden=None if ideal else Hidden(lot.state, lot.scale, seen, volumes, hot),
    )


def _signal(intensities: Float32, strength: Float64, lot: Lot) -> float:
    """Return the mean signal of pixels (N, n) in the patterns that are not junk, at their strength (N,)."""
    good = lot.state != JUNK
    return float((strength[good] * intensities[good].mean(1, dtype=np.float64)).mean())


def _shown(
    particles: tuple[Particle, ...], q: Float64, rotations: Float64, lot: Lot, factor: Float64, threads: int
) -> Float32:
    """Return what every pattern shows at unit fluence, (N, N_PIX) float32, junk at the others' mean total.

    factor : (N_PIX,) float64, response of the pixels to what a particle scatters, 0 for those masked
    """
    result = np.zeros((len(rotations), len(q)), np.float32)
    for state, particle in enumerate(particles):
        chosen = lot.state == state
        result[chosen] = patterns(particle, q, rotations[chosen], threads=threads)
    result *= factor.astype(np.float32)
    good = lot.state != JUNK
    if not good.any():
        raise InputError(f"junk: nothing else among {len(rotations)} patterns; expected less of it; add images")
    total = result[good].sum(-1, dtype=np.float64).mean()
    if lot.stray.any():
        stray = _another(particles)
        shown = patterns(stray, q, rotations[lot.stray], threads=threads) * factor
        result[lot.stray] = shown * (total / shown.sum(-1).mean())
    result[~good & ~lot.stray] = total * (factor > 0) / np.count_nonzero(factor > 0)
    return result


def _another(particles: tuple[Particle, ...]) -> Particle:
    """Return the first built-in particle that is none of these."""
    for name in PARTICLES:
        if name not in {each.name for each in particles}:
            return built_in_particle(name)
    raise InputError(f"junk: the states are all of {', '.join(PARTICLES)}; expected another particle; leave one out")


def _measure(intensities: Float32, strength: Float64, background: Float64, rng: np.random.Generator | None) -> None:
    """Turn intensities (N, N_PIX) in place into Poisson counts of `strength x intensity + background`, or just that.

    strength : (N,) float64; background : (N_PIX,) float64 [photons]; rng : None for no noise
    """
    for pattern, each in zip(intensities, strength, strict=True):
        mean = each * pattern.astype(np.float64) + background
        pattern[:] = mean if rng is None else rng.poisson(mean)
