"""Phase: the density whose Fourier amplitudes are the square roots of the merged intensities.

Cycles of error reduction and RAAR (Luke, Inverse Problems 21:37, 2005) or HIO (Fienup, Appl. Opt. 21:2758, 1982) with
positivity and a support that shrink-wrap (Marchesini et al., Phys. Rev. B 68:140101, 2003) fits to the density.
Amplitudes outside what was measured are free. Volumes are arrays of any module.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from operator import mul

import numpy as np
from scipy.ndimage import fourier_shift

from spilegate.backend import Array, array_module, from_host, to_host
from spilegate.geometry.fourier import frequency_radius, radius_grid
from spilegate.kernels import fft
from spilegate.kernels.elementwise import elementwise, total
from spilegate.kernels.loops import repeated
from spilegate.records import Bool, Float32, Float64
from spilegate.settings import PhasingOptions

ITERATIONS_ER, ITERATIONS_GLOBAL = 20, 40
# Feedback of HIO, and of RAAR at the parts of its cycles: it looks around as long as that is high, and settles where it
# is low. (Misfit and correlation with the truth, by HIO, RAAR at 0.9, and so: 3IYF of 54,000 photons 0.118 and 0.940,
# 0.089 and 0.998, 0.089 and 0.998; of 5,400 photons 0.30 and 0.82, 0.270 and 0.92, 0.251 and 0.986; a rod 0.083 and
# 0.968, 0.097 and 0.83, 0.065 and 0.992; without noise all the same.)
HIO_FEEDBACK = 0.9
RAAR_FEEDBACK = ((0.0, 0.4, 0.6, 0.8, 1.0), (0.95, 0.95, 0.9, 0.8, 0.75))
# Shrink-wrap: voxels above this part of the maximum, unless told otherwise, of the density blurred by a Gaussian of
# BLUR_VOXELS.
SHRINK_THRESHOLD = 0.08
BLUR_VOXELS = 1.0


@dataclass(frozen=True)
class Phased:
    """density (..., M, M, M) float32, support (..., M, M, M) bool, r_factor (...) float64 over measured amplitudes.

    r_factor is a NumPy array, whatever the module of the volumes.
    """

    density: Array
    support: Array
    r_factor: Float64

    def with_others(self, other: Phased) -> Phased:
        """Return both, phasings (K, starts, ...) of the same amplitudes."""
        xp = array_module(self.density)
        density, support = (
            xp.concat(both, axis=1) for both in ((self.density, other.density), (self.support, other.support))
        )
        return Phased(density, support, np.concatenate([self.r_factor, other.r_factor], axis=1))


@dataclass(frozen=True)
class Amplitudes:
    """amplitude (..., M, M, M // 2 + 1) float32 in `rfftn` order; measured bool, where it binds, same shape."""

    amplitude: Array
    measured: Array


def amplitudes(
    autocorrelation: Array, voxel_angstrom: float, *, q_min: float, q_max: float, threads: int
) -> Amplitudes:
    """Return amplitudes sqrt(max(F A, 0)) of autocorrelations (..., M, M, M); free where not q_min <= |q| <= q_max."""
    size = autocorrelation.shape[-1]
    amplitude = elementwise(_root, fft.rfftn(fft.to_corner(autocorrelation), threads=threads))
    q = frequency_radius(size, half=True) / voxel_angstrom
    measured = from_host((q >= q_min) & (q <= q_max) & (q > 0), amplitude)
    return Amplitudes(amplitude, array_module(amplitude).broadcast_to(measured, amplitude.shape))


def autocorrelation(density: Array, *, threads: int) -> Array:
    """Return the autocorrelation F^-1 |F rho|^2 (..., M, M, M) float32 of densities, centre at M // 2."""
    intensity = elementwise(_intensity, fft.rfftn(density, threads=threads))
    result = fft.to_centre(fft.irfftn(intensity, density.shape[-1], threads=threads))
    xp = array_module(result)
    return xp.asarray(result, dtype=xp.float32)


def random_start(shape: tuple[int, ...], support: Bool, rng: np.random.Generator) -> Float32:
    """Return random densities of `shape` inside the support, NumPy arrays: the same for every array module."""
    return rng.random(shape, dtype=np.float32) * support


def phase(
    target: Amplitudes,
    density: Array,
    support: Array,
    limit: Array,
    options: PhasingOptions,
    *,
    cycles: int,
    threads: int,
) -> Phased:
    """Phase amplitudes from a first density, all leading dimensions at once.

    density : (..., M, M, M) float32, support : same shape bool, both with the centre at M // 2
    limit : (M, M, M) bool, the support never grows beyond it
    All three may be NumPy arrays, whatever the module of the amplitudes.
    """
    rho, inside, bound = (fft.to_corner(from_host(array, target.amplitude)) for array in (density, support, limit))
    blur, threshold = from_host(_blur(rho.shape[-1]), rho), options.threshold or SHRINK_THRESHOLD
    for cycle in range(cycles):
        beta = options.beta or feedback(options.method, cycle, cycles)
        for count, kind in ((ITERATIONS_ER, "er"), (ITERATIONS_GLOBAL, options.method), (ITERATIONS_ER, "er")):
            rho = _iterated(rho, target, inside, count, kind, beta, threads)
        inside = _shrink_wrap(rho, bound, blur, threshold, threads)
        rho, inside = _recentred(rho, inside)
    rho = _iterated(rho, target, inside, ITERATIONS_ER, "er", 0.0, threads)
    return Phased(fft.to_centre(rho), fft.to_centre(inside), _r_factor(rho, target, threads))


def feedback(method: str, cycle: int, cycles: int) -> float:
    """Return the feedback of a method in one of its cycles, from 0; of a single one, that of the middle."""
    if method == "hio":
        return HIO_FEEDBACK
    return round(float(np.interp(cycle / (cycles - 1) if cycles > 1 else 0.5, *RAAR_FEEDBACK)), 3)


def combine(phased: Phased, sound: float) -> Phased:
    """Return one phasing for each state (K, ...) from several (K, starts, ...).

    The best one is kept; or, `sound` being more than 1, the mean of all whose misfit is at most so many times its own,
    once they have been brought to the same hand and place, which amplitudes do not determine: to those of the one that
    is most like the others, for the one that fits best may be the one that fits the noise.
    """
    xp = array_module(phased.density)
    densities, supports = [], []
    for k, best in enumerate(phased.r_factor.argmin(axis=1).tolist()):
        chosen = np.flatnonzero(phased.r_factor[k] <= sound * phased.r_factor[k, best]).tolist()
        each = [phased.density[k, i, ...] for i in chosen]
        reference = _most_alike(each) if sound > 1 else chosen.index(best)
        moved = [one if i == reference else _superposed(one, each[reference]) for i, one in enumerate(each)]
        # What was moved by parts of voxels rings at its edges.
        densities.append(moved[0] if len(moved) == 1 else xp.maximum(xp.mean(xp.stack(moved), axis=0), 0.0))
        supports.append(phased.support[k, chosen[reference], ...])
    return Phased(xp.stack(densities), xp.stack(supports), phased.r_factor.min(axis=1))


def _most_alike(densities: list[Array]) -> int:
    """Return which of some densities (M, M, M) correlates best with the others, each in its best hand and place."""
    size = densities[0].shape[-1]
    spectra = [fft.rfftn(density, threads=1) for density in densities]
    length = np.sqrt([float(total(density * density, fft.AXES)) for density in densities])
    alike = np.zeros((len(densities), len(densities)))
    for i, j in combinations(range(len(densities)), 2):
        # Turned over, a density has the conjugate spectrum, but for where it is.
        height = max(
            float(array_module(product).max(fft.irfftn(product, size, threads=1)))
            for product in (elementwise(_correlation, spectra[i], spectra[j]), elementwise(mul, spectra[i], spectra[j]))
        )
        alike[i, j] = alike[j, i] = height / (length[i] * length[j])
    return int(alike.sum(axis=1).argmax())


def _superposed(moving: Array, fixed: Array) -> Array:
    """Return the density (M, M, M) in the hand and at the shift that correlate best with another.

    Amplitudes leave it anywhere between two voxels; brought to whole voxels only, a mean of several would be blurred.
    """
    xp, size = array_module(fixed), fixed.shape[-1]
    spectrum = fft.rfftn(fixed, threads=1)
    best, result = -np.inf, moving
    for hand in (moving, xp.flip(moving)):
        own = fft.rfftn(hand, threads=1)
        # Twice: a parabola is the better, the nearer to a voxel the top is.
        for _ in range(2):
            correlation = to_host(fft.irfftn(elementwise(_correlation, spectrum, own), size, threads=1))
            wave = fourier_shift(np.ones(own.shape, np.complex64), _peak(correlation), n=size)
            own = elementwise(mul, own, from_host(wave, own))
        if (height := float(correlation.max())) > best:
            best, result = height, fft.irfftn(own, size, threads=1)
    return result


def _peak(correlation: Float32) -> Float64:
    """Return where (3,) a correlation (M, M, M) is largest, between voxels: along each axis the top of a parabola."""
    centre = list(map(int, np.unravel_index(int(correlation.argmax()), correlation.shape)))
    shift = np.array(centre, np.float64)
    for axis, at in enumerate(centre):
        line = np.moveaxis(correlation, axis, -1)[(*centre[:axis], *centre[axis + 1 :])]
        below, here, above = np.take(line, [at - 1, at, at + 1], mode="wrap").astype(np.float64)
        curvature = 2 * here - below - above
        shift[axis] += 0.5 * (above - below) / curvature if curvature > 0 else 0.0
    return shift


def _iterated(rho: Array, target: Amplitudes, inside: Array, count: int, kind: str, beta: float, threads: int) -> Array:
    """Return the density after so many iterations of one kind."""
    fixed = (target.amplitude, target.measured, inside)
    # A step that asks for no feedback is the same whatever it is.
    return repeated(_iteration, count, (rho,), fixed, (kind, 0.0 if kind == "er" else beta, threads))[0]


def _iteration(
    state: tuple[Array, ...], fixed: tuple[Array, ...], kind: str, beta: float, threads: int
) -> tuple[Array, ...]:
    """Return the next density: amplitudes as measured, then positive and inside the support."""
    (rho,), (amplitude, measured, inside) = state, fixed
    projected = _with_amplitudes(rho, Amplitudes(amplitude, measured), threads)
    return (_update(rho, projected, inside, kind, beta),)


def _with_amplitudes(rho: Array, target: Amplitudes, threads: int) -> Array:
    """Project onto the measured amplitudes, phases kept."""
    spectrum = fft.rfftn(rho, threads=threads)
    spectrum = elementwise(_bound, spectrum, target.amplitude, target.measured, reuse=spectrum)
    return fft.irfftn(spectrum, rho.shape[-1], threads=threads)


def _update(rho: Array, projected: Array, inside: Array, kind: str, beta: float) -> Array:
    """Return the next density by one of the three updates, in the memory of the projected one."""
    if kind == "er":
        return elementwise(_error_reduction, projected, inside, reuse=projected)
    # Rounded once, or 1 - 2 beta would differ from what single precision makes of it.
    feedback = float(np.float32(beta))
    function = _hio if kind == "hio" else _raar
    return elementwise(function, rho, projected, inside, scalars=(feedback,), reuse=projected)


def _blur(size: int) -> Float32:
    """Return the transform (M, M, M // 2 + 1) of the Gaussian of BLUR_VOXELS."""
    blur: Float32 = np.exp(-2 * np.pi**2 * BLUR_VOXELS**2 * frequency_radius(size, half=True) ** 2)
    return blur


def _shrink_wrap(rho: Array, bound: Array, blur: Array, threshold: float, threads: int) -> Array:
    """Return where the blurred density stands out."""
    xp = array_module(rho)
    spectrum = elementwise(mul, fft.rfftn(xp.abs(rho), threads=threads), blur)
    smooth = fft.irfftn(spectrum, rho.shape[-1], threads=threads)
    highest = xp.max(smooth, axis=fft.AXES, keepdims=True)
    # Rounded once, or double and single precision would differ in what is above it.
    return elementwise(_stands_out, smooth, highest, bound, scalars=(float(np.float32(threshold)),))


def _recentred(rho: Array, inside: Array) -> tuple[Array, Array]:
    """Roll every density so that its centre of mass, on the circle of each axis, is at index 0."""
    xp, size = array_module(rho), rho.shape[-1]
    wave = np.exp(2j * np.pi * np.arange(size) / size)
    x, y, z = (rho.ndim + axis for axis in fft.AXES)
    angles = np.stack([np.angle(total(rho, across) @ wave) for across in ((y, z), (x, z), (x, y))], axis=-1)
    shifts = -np.round(angles / (2 * np.pi) * size).astype(int)
    if not shifts.any():
        return rho, inside
    rolled, rolled_support = xp.empty_like(rho), xp.empty_like(inside)
    for index in np.ndindex(*rho.shape[:-3]):
        shift = tuple(shifts[index].tolist())
        rolled[(*index, ...)] = xp.roll(rho[(*index, ...)], shift, axis=(0, 1, 2))
        rolled_support[(*index, ...)] = xp.roll(inside[(*index, ...)], shift, axis=(0, 1, 2))
    return rolled, rolled_support


def _r_factor(rho: Array, target: Amplitudes, threads: int) -> Float64:
    """Return sum |a - |F rho|| / sum a over measured amplitudes a, as a NumPy array (...)."""
    misfit = elementwise(_misfit, fft.rfftn(rho, threads=threads), target.amplitude, target.measured)
    measured = elementwise(_binding, target.amplitude, target.measured)
    ratio = total(misfit, fft.AXES) / np.maximum(total(measured, fft.AXES), 1e-30)
    return np.asarray(ratio, dtype=np.float64)


def ball(size: int, voxel_angstrom: float, radius_angstrom: float) -> Bool:
    """Return (size,)*3 bool: the ball of that radius about the centre, a NumPy array."""
    inside: Bool = radius_grid(size) * voxel_angstrom <= radius_angstrom
    return inside


def _root(spectrum: Array) -> Array:
    """Return the amplitude that belongs to an intensity."""
    xp = array_module(spectrum)
    return xp.asarray(xp.sqrt(xp.maximum(xp.real(spectrum), 0.0)), dtype=xp.float32)


def _intensity(spectrum: Array) -> Array:
    """Return the intensity that belongs to a spectrum."""
    return array_module(spectrum).abs(spectrum) ** 2


def _correlation(fixed: Array, moving: Array) -> Array:
    """Return the spectrum of a cross-correlation."""
    return fixed * array_module(moving).conj(moving)


def _bound(spectrum: Array, amplitude: Array, measured: Array) -> Array:
    """Return the spectrum with measured amplitudes."""
    xp = array_module(spectrum)
    return spectrum * xp.where(measured, amplitude / xp.maximum(xp.abs(spectrum), 1e-20), 1.0)


def _error_reduction(projected: Array, inside: Array) -> Array:
    """Return the projection, positive and inside the support."""
    xp = array_module(projected)
    return xp.where(inside, xp.maximum(projected, 0.0), 0.0)


def _hio(rho: Array, projected: Array, inside: Array, feedback: float) -> Array:
    """Return the hybrid input-output update."""
    return array_module(rho).where(inside & (projected > 0), projected, rho - feedback * projected)


def _raar(rho: Array, projected: Array, inside: Array, feedback: float) -> Array:
    """Return the update by relaxed averaged alternating reflections."""
    relaxed = feedback * rho + (1 - 2 * feedback) * projected
    return array_module(rho).where(inside & (2 * projected - rho > 0), projected, relaxed)


def _stands_out(smooth: Array, highest: Array, bound: Array, threshold: float) -> Array:
    """Return where a blurred density is above the threshold, within bounds."""
    return (smooth > threshold * highest) & bound


def _misfit(spectrum: Array, amplitude: Array, measured: Array) -> Array:
    """Return how far a spectrum is from the measured amplitudes."""
    xp = array_module(spectrum)
    return xp.where(measured, xp.abs(xp.abs(spectrum) - amplitude), 0.0)


def _binding(amplitude: Array, measured: Array) -> Array:
    """Return the amplitudes that bind."""
    return array_module(amplitude).where(measured, amplitude, 0.0)
