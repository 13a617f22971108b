"""What the mean of all patterns tells of them: where its centre is, and whether patterns differ from it at all.

Whatever the particle, the mean over all orientations depends on |q| alone, and by Friedel's law every pattern is even
at low q, where the Ewald sphere is flat to a part of a speckle. A beam centre that is off by d makes of the mean m a
pattern `m(|q|) - m'(|q|) q.d / |q|`: its odd part is the gradient times d, and has no other source.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spilegate.geometry.detector import Detector, ewald_wavelength, pixel_spacing
from spilegate.patterns.diameter.pair_distances import longest
from spilegate.patterns.places import Places
from spilegate.records import Bool, Float64

# The Ewald sphere is flat as long as opposite points are that part of a speckle apart.
FLAT = 0.2
# Pixels opposite to none, within that many pixels, say nothing of a centre.
OPPOSITE = 0.75
# Of a ring's mean: what is not known of it, whatever the photons.
RING_ERROR = 0.03
FEWEST_PIXELS = 40
ROUNDS = 6
# A centre is off by more than that part of a pixel, and by so many standard deviations, or there is nothing to say.
LEAST_OFF, DEVIATIONS = 0.3, 5.0
# Smaller than ubiquitin, whose diameter is about 40 angstrom, by far [angstrom].
SMALLEST = 15.0
# Diameters are rounded.
ROUNDED = 0.005
# Standard deviations by which all pixels together scatter more than photons do, if patterns differ.
DIFFERENT = 5.0


@dataclass(frozen=True)
class Centre:
    """Where the patterns' centre is.

    off : (2,), its q_x and q_y [1/angstrom]; error : standard deviation of each; pixel : distance of neighbours
    """

    off: Float64
    error: float
    pixel: float

    @property
    def wrong(self) -> bool:
        """Tell whether that is too far from zero to be chance, and far enough to matter."""
        distance = float(np.hypot(*self.off))
        return distance > LEAST_OFF * self.pixel and distance > DEVIATIONS * self.error

    def note(self, q: Float64, places: Places) -> str:
        """Return what to say of it. q : (N_PIX, 3), of all pixels [1/angstrom]; places : where they are shown."""
        x, y = self.off / self.pixel
        place = places.at(q, self.off)
        said = "the patterns are not centred where their positions say"
        if place is not None:
            (row, column), (down, right) = place
            said = f"beam centre looks {np.hypot(down, right):.1f} pixels off (row {down:+.1f}, column {right:+.1f})"
            if places.flat:
                return f"{said}: --centre {row:.1f},{column:.1f} mends it, and so does --centre auto"
        return (
            f"{said}: by {x:+.1f} pixels along q_x, {y:+.1f} along "
            f"q_y; subtract ({self.off[0] * 1e10:.3g}, {self.off[1] * 1e10:.3g}) 1/m from q_x and q_y of "
            "pixel_position_reciprocal, or shift the geometry by as many pixels"
        )


def doubts(
    mean: Float64, detector: Detector, diameter: float, count: float | None, places: Places, *, alike: bool
) -> list[str]:
    """Return what to say, a line each, of patterns that leave a doubt.

    They are not centred, or do not differ; the particle is too small, or so large that its speckles are less than two
    pixels wide.

    mean, diameter, count : as `centre` takes them; places : where pixels are shown
    alike : whether patterns do not differ
    """
    lines = []
    found = centre(mean, detector, diameter, count)
    if found is not None and found.wrong:
        lines.append(found.note(detector.q, places))
    if alike:
        lines.append("patterns do not differ by more than their photons do: they do not tell how they are oriented")
    if diameter < SMALLEST:
        lines.append(
            f"a particle of {diameter:.3g} angstrom is smaller than any protein: are the positions 2 pi / d, where "
            "1 / d is expected? divide pixel_position_reciprocal by 2 pi; or check its unit, 1/m"
        )
    if diameter > (1 + ROUNDED) * (most := longest(detector)):
        lines.append(
            f"pixels are {0.5 / most:.3g}/angstrom wide, more than half a speckle of a particle of {diameter:.4g} "
            f"angstrom ({0.5 / diameter:.3g}): they average speckle; bin less, or put the detector further away"
        )
    return lines


def centre(mean: Float64, detector: Detector, diameter: float, count: float | None) -> Centre | None:
    """Return where the mean (N_PIX,) of patterns has its centre; None if too few pixels have an opposite to tell.

    diameter [angstrom] : of the particle; count : what a photon adds to the mean, None for intensities without noise
    """
    q_length, spacing = np.linalg.norm(detector.q, axis=-1), pixel_spacing(detector.q[detector.matched])
    flat = flat_radius(abs(ewald_wavelength(detector.q)), diameter)
    near = np.flatnonzero(detector.matched & (q_length <= flat))
    off, error = np.zeros(2), np.inf
    for _ in range(ROUNDS):
        if len(near) < FEWEST_PIXELS:
            return None
        q = detector.q[near, :2] - off
        distance, _ = cKDTree(q).query(-q)
        paired = distance <= OPPOSITE * spacing
        if paired.sum() < FEWEST_PIXELS:
            return None
        step, error = _step(mean[near[paired]], q[paired], spacing, count or 0.0)
        off = off + step
        if np.hypot(*step) < 0.01 * spacing:
            break
    return Centre(off, error, spacing) if np.hypot(*off) < flat / 2 else None


def flat_radius(wavelength: float, diameter: float) -> float:
    """Return |q| [1/angstrom] up to which the Ewald sphere is flat, for a particle; both in angstrom."""
    return float(np.sqrt(FLAT / (wavelength * diameter)))


def _step(mean: Float64, q: Float64, spacing: float, count: float) -> tuple[Float64, float]:
    """Return how far from 0 the centre of a mean (n,) at q (n, 2) lies, (2,), to first order, and the error of that."""
    length = np.linalg.norm(q, axis=1)
    ring = np.rint(length / spacing).astype(np.intp)
    usual, slope = _about(ring, length, mean, spacing)
    weight = 1 / (count * np.maximum(usual, count) + (RING_ERROR * usual) ** 2 + 1e-12 * float(usual.max()) ** 2)
    gradient = -slope[:, None] * q / np.maximum(length, 0.5 * spacing)[:, None]
    normal = (gradient * weight[:, None]).T @ gradient
    inverse = np.linalg.pinv(normal)
    step: Float64 = inverse @ (gradient * weight[:, None]).T @ (mean - usual)
    rest = mean - usual - gradient @ step
    scatter = (gradient * (weight * rest)[:, None]).T @ (gradient * (weight * rest)[:, None])
    return step, float(np.sqrt(np.trace(inverse @ scatter @ inverse)))


def _about(ring: NDArray[np.intp], length: Float64, mean: Float64, spacing: float) -> tuple[Float64, Float64]:
    """Return the value and slope (n,), at their own radii (n,), of a parabola through the means of each three rings."""
    usual, slope = np.empty(len(ring)), np.empty(len(ring))
    for number in np.unique(ring):
        own, around = ring == number, np.abs(ring - number) <= 1
        middle = length[own].mean()
        basis = np.vander((length - middle) / spacing, 3, increasing=True)
        value, rise, bend = np.linalg.lstsq(basis[around], mean[around], rcond=None)[0]
        usual[own] = basis[own] @ np.array([value, rise, bend])
        slope[own] = (rise + 2 * bend * basis[own, 1]) / spacing
    return usual, slope


def differ(mean: Float64, square: Float64, detector: Detector, pixels: Bool, scale: Float64, weight: Float64) -> bool:
    """Tell whether patterns of photons differ by more than the photons' number does.

    mean, square : (N_PIX,), moments of the patterns as `moments` returns them; pixels : (N_PIX,), those that count
    scale, weight : (N_IMG,) of the patterns
    """
    strength, good = float((scale * weight).sum()), float(weight.sum())
    response, background = detector.response, detector.background
    photons = mean / response * good + background / response**2 * float((weight / scale).sum())
    photons = np.maximum(photons / strength, 0)[pixels]
    excess = (square - mean**2)[pixels] - photons * (1 - 1 / good)
    # Of a pixel's mean square, in counts: twice the square of their number, and their number.
    unit = response[pixels]
    deviation = np.sqrt((2 * photons**2 + photons / unit**2) / good)
    seen = photons > 0
    return bool((excess[seen] / deviation[seen]).sum() > DIFFERENT * np.sqrt(seen.sum()))
