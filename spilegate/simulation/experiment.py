"""A single-particle experiment on the computer: random orientations, the true Ewald sphere, photon noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spilegate.errors import InputError
from spilegate.geometry.orientations import matrices, random_quaternions
from spilegate.kernels import fft, nufft
from spilegate.simulation.particle import Particle, density, diameter_angstrom, form_factor_basis
from spilegate.state import Float32, Float64, Int64

# Relative error of amplitudes; that of intensities is twice this.
TOLERANCE = 1e-6
# Points transformed at once: enough to keep all cores busy, small enough to need about 0.2 GiB of work space.
BLOCK = 1 << 20


@dataclass(frozen=True)
class Simulation:
    """Simulated patterns with their truth.

    intensities : (N_IMG, 1, y, x) float32 [photons, or electrons^2 without noise]
    pixel_position : (1, y, x, 3) float64 [1/angstrom], laboratory frame
    pixel_index_map : (1, y, x, 2) int64, (row, column) in the picture
    quaternions : (N_IMG, 4) float64, (w, x, y, z), particle to laboratory
    volume : (M, M, M) float32 [electrons/angstrom^3] in (x, y, z) index order, M odd, twice the particle wide
    voxel_angstrom : edge of its voxels, a Nyquist grid of the detector's corner
    wavelength_angstrom : wavelength of the beam
    photons : mean number of photons in a pattern, None without noise
    seed : seed of orientations and noise
    particle : the particle's name
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


def add_photon_noise(intensities: Float32, photons: float, rng: np.random.Generator) -> Float32:
    """Return Poisson counts, (N, N_PIX) float32, of patterns scaled to `photons` per pattern on average over all."""
    scale = photons / intensities.sum(-1, dtype=np.float64).mean()
    counts = np.empty_like(intensities)
    for count, pattern in zip(counts, intensities, strict=True):
        count[:] = rng.poisson(scale * pattern.astype(np.float64))
    return counts


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
) -> Simulation:
    """Simulate patterns of a particle at orientations uniform on SO(3).

    images : number of patterns; pixels, resolution_angstrom, wavelength_angstrom : see `detector_q`
    photons : mean number of photons in a pattern, over all patterns; None for exact intensities
    Orientations depend on `seed` and `images` only, so that the same patterns can be had at any noise level.

    Raises InputError for fewer than one pattern, a number of photons that is not positive, an unreachable resolution.
    """
    if images < 1:
        raise InputError(f"images = {images}; expected at least 1")
    if photons is not None and not (np.isfinite(photons) and photons > 0):
        raise InputError(f"photons = {photons:g}; expected a positive number, or none for no noise")
    q = detector_q(pixels, resolution_angstrom, wavelength_angstrom)
    orientation_rng, noise_rng = np.random.default_rng(seed).spawn(2)
    quaternions = random_quaternions(images, orientation_rng)
    intensities = patterns(particle, q.reshape(-1, 3), matrices(quaternions), threads=threads)
    if photons is not None:
        intensities = add_photon_noise(intensities, photons, noise_rng)
    voxel = 1 / (2 * float(np.linalg.norm(q, axis=-1).max()))
    size = fft.fast_odd_size(int(np.ceil(2 * max(diameter_angstrom(particle), voxel) / voxel)) + 2)
    index = np.moveaxis(np.indices((1, pixels, pixels), np.int64)[1:], 0, -1)
    return Simulation(
        intensities=intensities.reshape(images, 1, pixels, pixels),
        pixel_position=q,
        pixel_index_map=index,
        quaternions=quaternions,
        volume=density(particle, size, voxel, threads=threads),
        voxel_angstrom=voxel,
        wavelength_angstrom=wavelength_angstrom,
        photons=photons,
        seed=seed,
        particle=particle.name,
    )
