"""What keeps an experiment from being ideal: masks, fluence, background, junk, several states, response of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spilegate.errors import InputError
from spilegate.geometry.response import Polarisation
from spilegate.records import NEVER, Bool, Float32, Float64, Int64, UInt8

MASKS = ("cross", "beamstop")
JUNK = -1
# Width of the beam stop in speckles, 1 / diameter in |q|.
STOP_SPECKLES = 3.0
# Width of the gap between panels over the detector's; at least two pixels.
GAP = 1 / 16
# Counts of a hot pixel over the mean of the brightest pixel: log-uniform between these.
HOT = (3.0, 3000.0)
# The detector's edge, where background and signal are compared: between these parts of the inscribed circle's |q|.
EDGE = (0.9, 1.0)


@dataclass(frozen=True)
class Conditions:
    """Departures from an ideal experiment; the defaults are an ideal one.

    mask : any of "cross" (a gap through the middle, both ways) and "beamstop" (a disc); their pixels are level 2
    scale_decades : the fluence of every pattern is log-uniform over so many decades, mean 1
    background : flat background, common to all patterns, over the mean signal at the detector's edge
    known_background : whether the file tells a reconstruction of it
    junk : part of the patterns that do not show the particle: half another particle, half structureless
    populations : parts of the other patterns by state, sum 1; all the same if empty
    polarisation, solid_angle : see `spilegate.geometry.response.response`
    hot_pixels : pixels of a pattern, at random places of their own in each, that are hot, on average
    """

    mask: tuple[str, ...] = ()
    scale_decades: float = 0.0
    background: float = 0.0
    known_background: bool = False
    junk: float = 0.0
    populations: tuple[float, ...] = ()
    polarisation: Polarisation = "none"
    solid_angle: bool = False
    hot_pixels: float = 0.0

    def check(self, *, states: int, noise: bool) -> None:
        """Raise InputError for conditions that cannot be, by the number of states and whether photons are counted."""
        unknown = [name for name in self.mask if name not in MASKS]
        if unknown:
            raise InputError(f"mask = {unknown[0]!r}; expected any of {','.join(MASKS)}")
        for name in ("scale_decades", "background", "hot_pixels"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise InputError(f"{name} = {value:g}; expected zero or a positive number")
        if not 0 <= self.junk < 1:
            raise InputError(f"junk = {self.junk:g}; expected a part of the patterns, at least 0 and below 1")
        if self.junk and not noise:
            raise InputError(
                f"junk = {self.junk:g}, photons = none; expected photons, half of the junk is shot noise; set photons"
            )
        if self.known_background and not self.background:
            raise InputError(
                "known_background, background = 0; expected a background that can be known; set background"
            )
        shares = np.array(self.populations)
        if len(shares) and (len(shares) != states or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6):
            raise InputError(
                f"populations = {','.join(f'{share:g}' for share in shares)} for {states} states; expected one "
                "positive part for each, sum 1"
            )


IDEAL = Conditions()


@dataclass(frozen=True)
class Lot:
    """What chance gives to every pattern.

    state : (N_IMG,) int64, which particle it shows, JUNK for none of them
    stray : (N_IMG,) bool, junk that shows another particle; other junk shows nothing
    scale : (N_IMG,) float64, fluence, mean 1
    """

    state: Int64
    stray: Bool
    scale: Float64


def draw_lot(images: int, states: int, conditions: Conditions, rng: np.random.Generator) -> Lot:
    """Draw states, junk and fluence of so many patterns, each from a stream of its own."""
    state_rng, junk_rng, scale_rng = rng.spawn(3)
    shares = np.array(conditions.populations) if conditions.populations else np.ones(states)
    state = state_rng.choice(states, images, p=shares / shares.sum()).astype(np.int64)
    junk = junk_rng.permutation(images)[: round(conditions.junk * images)]
    state[junk] = JUNK
    stray = np.zeros(images, np.bool_)
    stray[junk[: (len(junk) + 1) // 2]] = True
    scale = 10 ** (conditions.scale_decades * scale_rng.random(images))
    return Lot(state, stray, scale / scale.mean())


def heat(intensities: Float32, used: Bool, number: float, rng: np.random.Generator, *, whole: bool) -> Int64:
    """Add what makes pixels hot to patterns (N_IMG, N_PIX) in place; return which, (n, 2), pattern and pixel.

    used : (N_PIX,) bool, pixels that may be; number : of them in a pattern, on average
    whole : whether values are whole numbers
    """
    index, unit = np.flatnonzero(used), float(intensities.mean(axis=0, dtype=np.float64).max())
    numbers = np.minimum(rng.poisson(number, len(intensities)), len(index))
    places = [np.sort(rng.choice(index, each, replace=False)) for each in numbers]
    hot = np.stack([np.repeat(np.arange(len(numbers)), numbers), np.concatenate(places)], axis=1).astype(np.int64)
    more = unit * np.exp(rng.uniform(math.log(HOT[0]), math.log(HOT[1]), len(hot)))
    intensities[hot[:, 0], hot[:, 1]] += np.ceil(more) if whole else more
    return hot


def detector_mask(names: tuple[str, ...], q: Float64, diameter_angstrom: float) -> UInt8:
    """Return the levels of the pixels of one square panel, (1, y, x) uint8: 2 behind gap and beam stop, 0 elsewhere.

    names : of MASKS; q : (1, y, x, 3) float64 [1/angstrom]; diameter_angstrom : the particle's largest diameter
    Raises InputError if the stop reaches the detector's edge.
    """
    pixels = q.shape[1]
    mask = np.zeros(q.shape[:-1], np.uint8)
    if "cross" in names:
        # As many pixels on either side of the beam; across the columns one more, as if panels were shifted.
        half = max(1, round(GAP * pixels / 2))
        first, last = pixels // 2 - half, (pixels + 1) // 2 + half
        mask[:, first:last] = mask[:, :, first : last + 1] = NEVER
    if "beamstop" in names:
        q_length = np.linalg.norm(q, axis=-1)
        radius = STOP_SPECKLES / 2 / diameter_angstrom if diameter_angstrom else np.inf
        q_side = q_length[0, pixels // 2, -1]
        if radius >= EDGE[0] * q_side:
            raise InputError(
                f"mask = beamstop: a disc {STOP_SPECKLES:g} speckles wide, of radius {radius:.3g} 1/angstrom, on a "
                f"detector to {q_side:.3g} 1/angstrom; expected a smaller one; choose a finer resolution or a larger "
                "particle"
            )
        mask[q_length <= radius] = NEVER
    return mask


def detector_edge(q_length: Float64, used: Bool, resolution_angstrom: float) -> Bool:
    """Return which used pixels (N_PIX,) lie in the outer tenth of the detector's inscribed circle.

    Raises InputError if there are none.
    """
    relative = q_length * resolution_angstrom
    # The pixels in the middle of the sides lie on the circle but for rounding.
    edge: Bool = used & (relative >= EDGE[0]) & (relative <= EDGE[1] * (1 + 1e-9))
    if not edge.any():
        raise InputError(
            "background: no pixel used at the detector's edge; expected some to compare it with; add pixels"
        )
    return edge
