"""What particles scatter: patterns without noise, of one copy or of several that scatter together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spilegate.errors import InputError
from spilegate.kernels import nufft
from spilegate.records import Float32, Float64, Int64
from spilegate.simulation.clusters import Copies
from spilegate.simulation.particle import BASIS_TOLERANCE, Particle, form_factor_basis

# Relative error of amplitudes; that of intensities is twice this.
TOLERANCE = 1e-6
# The same of clusters, and of the form factors in them: junk need not be exact.
JUNK_TOLERANCE = 1e-3
# Points transformed at once: enough to keep all cores busy, small enough to need about 0.2 GiB of work space.
BLOCK = 1 << 20
# Steps in |q| of the table that form factors are read from where every pattern has its own.
STEPS = 4096


def flat_detector(pixels: int, side: float, wavelength: Float64, centre: Float64) -> Float64:
    """Return reciprocal positions of the pixels of a flat square detector, (n, pixels^2, 3) float64 [1/angstrom].

    side : tangent of the scattering angle in the middle of its sides, where the beam meets its middle
    wavelength : (n,) float64 [angstrom]; centre : (n, 2) float64 [pixels], how far the beam is off, row and column
    """
    tangent = np.linspace(-side, side, pixels)
    step = 2 * side / (pixels - 1)
    y = np.repeat(tangent, pixels) - step * centre[:, :1]
    x = np.tile(tangent, pixels) - step * centre[:, 1:]
    # cos - 1, written so that nothing cancels near the beam.
    squared = x**2 + y**2
    cosine = 1 / np.sqrt(1 + squared)
    q_z = -squared * cosine**2 / (1 + cosine)
    return np.stack([x * cosine, y * cosine, q_z], axis=-1) / wavelength[:, None, None]


def detector_side(resolution_angstrom: float, wavelength_angstrom: float) -> float:
    """Return the tangent of the scattering angle at which 1/|q| is `resolution_angstrom`.

    Raises InputError for a resolution that needs scattering by 90 degrees or more.
    """
    finest = wavelength_angstrom / np.sqrt(2)
    if not (wavelength_angstrom > 0 and np.isfinite(resolution_angstrom) and resolution_angstrom > finest):
        raise InputError(
            f"resolution {resolution_angstrom:g} A at wavelength {wavelength_angstrom:g} A; expected a positive "
            f"wavelength and a resolution above wavelength / sqrt(2) = {finest:.4g} A, all that a flat detector can see"
        )
    return float(np.tan(2 * np.arcsin(wavelength_angstrom / (2 * resolution_angstrom))))


def detector_q(pixels: int, resolution_angstrom: float, wavelength_angstrom: float) -> Float64:
    """Return reciprocal positions of the pixels of a flat square detector, (1, pixels, pixels, 3) float64 [1/angstrom].

    The detector is normal to the beam (+z), which meets it in its middle, between pixels if `pixels` is even. Positions
    lie on the Ewald sphere, `q = (s_out - z) / wavelength`; the middle of each side (of the outermost row of pixel
    centres) is at `1/|q| = resolution_angstrom`. The first pixel axis is y, the second x.

    Raises InputError for fewer than 2 pixels and for a resolution that needs scattering by 90 degrees or more.
    """
    if pixels < 2:
        raise InputError(f"pixels = {pixels}; expected at least 2 along a side")
    side = detector_side(resolution_angstrom, wavelength_angstrom)
    q = flat_detector(pixels, side, np.array([wavelength_angstrom]), np.zeros((1, 2)))
    return q.reshape(1, pixels, pixels, 3)


@dataclass(frozen=True)
class Seen:
    """How every pattern is seen.

    pixels, side : see `flat_detector`
    wavelength : (N_IMG,) float64 [angstrom]
    centre : (N_IMG, 2) float64 [pixels], how far the beam is off the detector's middle, row and column
    size : (N_IMG,) float64, the particle's size over its nominal one
    """

    pixels: int
    side: float
    wavelength: Float64
    centre: Float64
    size: Float64

    def __getitem__(self, chosen: slice | Int64) -> Seen:
        """Return the same for some patterns."""
        return Seen(self.pixels, self.side, self.wavelength[chosen], self.centre[chosen], self.size[chosen])

    @property
    def alike(self) -> bool:
        """Whether all patterns have the same positions."""
        return bool((self.wavelength == self.wavelength[0]).all() and not self.centre.any())

    def q(self) -> Float64:
        """Return positions of the pixels, (n, N_PIX, 3) float64 [1/angstrom], n = 1 if all patterns have the same."""
        own = slice(0, 1) if self.alike else slice(None)
        return flat_detector(self.pixels, self.side, self.wavelength[own], self.centre[own])


def patterns(particle: Particle, q: Float64, rotations: Float64, *, threads: int) -> Float32:
    """Return noise-free patterns, `|F(R^T q)|^2`, (N, N_PIX) float32 [electrons^2].

    q : (N_PIX, 3) float64 [1/angstrom], laboratory frame; rotations : (N, 3, 3) float64, particle to laboratory
    F is the sum over atoms, by a type-3 NUFFT for every function of the form factors' basis; relative error about 2e-6.
    """
    basis, weights = form_factor_basis(particle, np.linalg.norm(q, axis=-1))
    result = np.empty((len(rotations), len(q)), np.float32)
    step = max(1, BLOCK // len(q))
    for start in range(0, len(rotations), step):
        block = rotations[start : start + step]
        amplitude = _amplitudes(particle, weights, basis[:, None], q[None], block, TOLERANCE, threads)
        result[start : start + step] = amplitude.real**2 + amplitude.imag**2
    return result


def seen_patterns(particle: Particle, seen: Seen, copies: Copies, *, threads: int) -> Float32:
    """Return noise-free patterns of copies of a particle, each as it is seen, (N, N_PIX) float32 [electrons^2].

    A particle of another size has its atoms further apart, and as many more electrons as its volume is larger. One
    copy per pattern is exact to 2e-6, clusters to about 1e-3.
    """
    count, n_pixel = len(seen.size), seen.pixels**2
    exact = len(copies.pattern) == count
    q_length = np.linspace(0, 1.001 * _longest(seen), STEPS)
    tolerance = (BASIS_TOLERANCE, TOLERANCE) if exact else (JUNK_TOLERANCE, JUNK_TOLERANCE)
    table, weights = form_factor_basis(particle, q_length, tolerance[0])
    result = np.empty((count, n_pixel), np.float32)
    starts = np.searchsorted(copies.pattern, np.arange(count + 1))
    step = max(1, BLOCK // n_pixel)
    begin = 0
    while begin < count:
        end = max(begin + 1, int(np.searchsorted(starts, starts[begin] + step, side="right")) - 1)
        block, own = seen[begin:end], slice(starts[begin], starts[end])
        q = block.q()
        basis = np.stack([np.interp(np.linalg.norm(q, axis=-1), q_length, function) for function in table])
        of = copies.pattern[own] - begin
        if len(q) > 1:
            q, basis = q[of], basis[:, of]
        larger = block.size[of]
        amplitude = _amplitudes(
            particle, weights, basis, q, copies.rotations[own] * larger[:, None, None], tolerance[1], threads
        )
        if not exact:
            phase = np.matmul(q, (larger[:, None] * copies.shifts[own])[..., None])[..., 0]
            amplitude *= np.exp(-2j * np.pi * phase)
            amplitude = np.add.reduceat(amplitude, starts[begin:end] - starts[begin], axis=0)
        result[begin:end] = (amplitude.real**2 + amplitude.imag**2) * block.size[:, None] ** 6
        begin = end
    return result


def _longest(seen: Seen) -> float:
    """Return the largest |q| of any pixel in any pattern [1/angstrom], or a little more."""
    off = np.abs(seen.centre).max(initial=0.0)
    corner = flat_detector(seen.pixels, seen.side, seen.wavelength.min(keepdims=True), np.full((1, 2), off))
    return float(np.linalg.norm(corner, axis=-1).max())


def _amplitudes(
    particle: Particle,
    weights: Float64,
    basis: Float64,
    q: Float64,
    rotations: Float64,
    tolerance: float,
    threads: int,
) -> np.ndarray:
    """Return structure factors, (n, N_PIX) complex128 [electrons].

    weights : (n_basis, N_ELEMENT), basis : (n_basis, n or 1, N_PIX), see `form_factor_basis`
    q : (n or 1, N_PIX, 3); rotations : (n, 3, 3), to be multiplied by the particle's size
    """
    sources = np.ascontiguousarray(particle.positions.T)
    strengths = np.ascontiguousarray(weights[:, particle.element] * particle.occupancy).astype(np.complex128)
    if len(q) == 1:
        targets = np.einsum("nji,pj->inp", rotations, 2 * np.pi * q[0])
    else:
        targets = np.moveaxis(np.matmul(2 * np.pi * q, rotations), -1, 0)
    parts = nufft.between_points(
        sources, strengths, np.ascontiguousarray(targets.reshape(3, -1)), tolerance=tolerance, threads=threads
    )
    result: np.ndarray = np.einsum(
        "knp,knp->np",
        parts.reshape(len(weights), len(rotations), -1),
        np.broadcast_to(basis, (len(weights), len(rotations), basis.shape[-1])),
    )
    return result
