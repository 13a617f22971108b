"""A single-particle experiment on the computer: random orientations, the true Ewald sphere, photon noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spilegate.errors import InputError
from spilegate.geometry.orientations import random_quaternions
from spilegate.geometry.response import response
from spilegate.kernels import fft
from spilegate.records import NEVER, Bool, Float32, Float64, Int64, UInt8
from spilegate.simulation.conditions import IDEAL, JUNK, PARTS, Conditions, Lot, draw_lot, heat
from spilegate.simulation.masks import detector_edge, detector_mask
from spilegate.simulation.particle import Particle, density, diameter_angstrom
from spilegate.simulation.scattering import Seen, detector_q, detector_side
from spilegate.simulation.shown import shown


@dataclass(frozen=True)
class Hidden:
    """What else is true of simulated patterns.

    state : (N_IMG,) int64, the particle's state in every pattern, -1 for junk
    scale : (N_IMG,) float64, fluence of every pattern, mean 1
    kind : (N_IMG,) int64, what every pattern shows, of `conditions.KINDS`
    size : (N_IMG,) float64, the particle's size over that of `volumes`
    centre : (N_IMG, 2) float64 [pixels], how far the beam is off the detector's middle, row and column
    wavelength : (N_IMG,) float64, over the nominal one
    amplitude : (N_IMG,) float64, of the background in every pattern, mean 1
    background : (1, y, x) float64 [counts per pattern], mean background
    volumes : (K, M, M, M) float32 [electrons/angstrom^3], one per state, on the grid of `Simulation.volume`
    hot_pixels : (n, 2) int64, (pattern, pixel) of every value that is hot, None if there are none by design
    """

    state: Int64
    scale: Float64
    kind: Int64
    size: Float64
    centre: Float64
    wavelength: Float64
    amplitude: Float64
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
    picture: Float64 | None = None,
) -> Simulation:
    """Simulate patterns of a particle at orientations uniform on SO(3).

    images : number of patterns; pixels, resolution_angstrom, wavelength_angstrom : see `detector_q`
    photons : mean number of photons in a pattern on pixels that are not masked, over all patterns, background and hot
        pixels left out; None for exact intensities
    others : the particle's other states; conditions : what is not ideal
    picture : (y, x) float64 [counts per pattern], a background to be added; None for none
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
    orientation_rng, noise_rng, lot_rng, hot_rng, junk_rng = np.random.default_rng(seed).spawn(5)
    quaternions = random_quaternions(images, orientation_rng)
    lot = draw_lot(images, len(particles), conditions, lot_rng)
    factor = used * response(q, polarisation=conditions.polarisation, solid_angle=conditions.solid_angle)
    side = detector_side(resolution_angstrom, wavelength_angstrom)
    seen = Seen(pixels, side, wavelength_angstrom * lot.wavelength, lot.centre, lot.size)
    intensities = shown(particles, seen, quaternions, lot, factor, junk_rng, threads)
    strength = lot.scale
    if photons is not None:
        # Clusters and droplets are brighter or darker than single particles, by design.
        counted = ~np.isin(lot.kind, list(PARTS.values()))
        strength = strength * (photons / (strength * intensities.sum(-1, dtype=np.float64))[counted].mean())
    background = _background(conditions, picture, intensities, strength, lot, used, position, resolution_angstrom)
    _measure(intensities, strength, lot.amplitude, background, noise_rng if photons is not None else None)
    hot = None
    if conditions.hot_pixels:
        hot = heat(intensities, used, conditions.hot_pixels, hot_rng, whole=photons is not None)
    voxel = 1 / (2 * float(np.linalg.norm(q, axis=-1).max()))
    size = fft.fast_odd_size(int(np.ceil(2 * max(diameter, voxel) / voxel)) + 2)
    volumes = np.stack([density(each, size, voxel, threads=threads) for each in particles])
    ideal = conditions == IDEAL and not others and picture is None
    hidden = Hidden(
        state=lot.state,
        scale=lot.scale,
        kind=lot.kind,
        size=lot.size,
        centre=lot.centre,
        wavelength=lot.wavelength,
        amplitude=lot.amplitude,
        background=background.reshape(mask.shape),
        volumes=volumes,
        hot_pixels=hot,
    )
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
        background=hidden.background if conditions.known_background else None,
        hidden=None if ideal else hidden,
    )


def _signal(intensities: Float32, strength: Float64, lot: Lot) -> float:
    """Return the mean signal of pixels (N, n) in the patterns that are not junk, at their strength (N,)."""
    good = lot.state != JUNK
    return float((strength[good] * intensities[good].mean(1, dtype=np.float64)).mean())


def _background(
    conditions: Conditions,
    picture: Float64 | None,
    intensities: Float32,
    strength: Float64,
    lot: Lot,
    used: Bool,
    position: Float64,
    resolution_angstrom: float,
) -> Float64:
    """Return the mean background, (N_PIX,) float64 [counts per pattern]: flat, a picture of its own, and one given."""
    result = np.zeros(len(used))
    if conditions.background:
        edge = detector_edge(np.linalg.norm(position, axis=-1).ravel(), used, resolution_angstrom)
        result[used] = conditions.background * _signal(intensities[:, edge], strength, lot)
    if conditions.background_picture:
        own = not_radial(position.shape[1]).ravel() * used
        total = _signal(intensities, strength, lot) * intensities.shape[1]
        result += own * (conditions.background_picture * total / own.sum())
    if picture is not None:
        result[used] += picture.ravel()[used]
    return result


def not_radial(pixels: int) -> Float64:
    """Return a background that is no function of |q|, (y, x) float64: streaks of slits, and a halo beside the beam."""
    at = np.linspace(-1, 1, pixels)
    y, x = np.meshgrid(at, at, indexing="ij")
    streaks = np.exp(-((y / 0.06) ** 2) / 2 - np.abs(x) / 0.5) + np.exp(-(((x - 0.3 * y) / 0.05) ** 2) / 2) * 0.7
    halo = 1 / (1 + (((x - 0.35) / 0.5) ** 2 + ((y + 0.2) / 0.35) ** 2) ** 1.5)
    result: Float64 = streaks / streaks.sum() + halo / halo.sum()
    return result


def _measure(
    intensities: Float32, strength: Float64, amplitude: Float64, background: Float64, rng: np.random.Generator | None
) -> None:
    """Turn intensities (N, N_PIX) in place into Poisson counts of `strength x intensity + amplitude x background`.

    strength, amplitude : (N,) float64; background : (N_PIX,) float64 [photons]; rng : None for the means themselves
    """
    for pattern, each, more in zip(intensities, strength, amplitude, strict=True):
        mean = each * pattern.astype(np.float64) + more * background
        pattern[:] = mean if rng is None else rng.poisson(mean)
