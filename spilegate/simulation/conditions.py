"""What keeps an experiment from being ideal: masks, fluence, background, junk, several states, response of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spilegate.errors import InputError
from spilegate.formats.truth import KINDS
from spilegate.geometry.response import Polarisation
from spilegate.records import Bool, Float32, Float64, Int64
from spilegate.simulation.masks import stop_speckles

JUNK = -1
# What a pattern may show, by its number in KINDS; STRAY and FLAT are the two halves of `junk`.
SINGLE, DOUBLET, AGGREGATE, DROPLET, BLANK, STRAY, FLAT = range(len(KINDS))
PARTS = {"doublets": DOUBLET, "aggregates": AGGREGATE, "droplets": DROPLET, "blank": BLANK}
# Counts of a hot pixel over the mean of the brightest pixel: log-uniform between these.
HOT = (3.0, 3000.0)
# Sizes stay between these, whatever is drawn; so does the background's amplitude, from below.
SIZES, LEAST_AMPLITUDE = (0.5, 1.5), 0.01
MOST_SPREAD = {"size_spread": 0.2, "wavelength_jitter": 0.05, "background_spread": 1.0}


@dataclass(frozen=True)
class Conditions:
    """Departures from an ideal experiment; the defaults are an ideal one.

    mask : any of "cross" (a gap through the middle, both ways), "beamstop" (a disc; "beamstop:5" is 5 speckles wide),
        "half" (every pixel left of the beam) and "agipd" (gaps as AGIPD 1M has them); their pixels are level 2
    scale_decades : the fluence of every pattern is log-uniform over so many decades, mean 1
    background : flat background, common to all patterns, over the mean signal at the detector's edge
    known_background : whether the file tells a reconstruction of it
    background_picture : photons of a background that is not radial over the mean signal
    background_spread : relative standard deviation of the amplitude that every pattern's background has, mean 1
    junk : part of the patterns that do not show the particle: half another particle, half structureless
    doublets, aggregates, droplets, blank : parts of the patterns that show two copies of the particle that touch, 3 to
        6, a homogeneous spheroid, or the background alone
    size_spread : standard deviation of the particle's relative size
    centre_jitter : standard deviation of the beam's place on the detector, of each axis [pixels]
    wavelength_jitter : relative standard deviation of the wavelength
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
    background_picture: float = 0.0
    background_spread: float = 0.0
    doublets: float = 0.0
    aggregates: float = 0.0
    droplets: float = 0.0
    blank: float = 0.0
    size_spread: float = 0.0
    centre_jitter: float = 0.0
    wavelength_jitter: float = 0.0

    @property
    def varied(self) -> bool:
        """Whether patterns are seen each in its own way: size, centre or wavelength."""
        return bool(self.size_spread or self.centre_jitter or self.wavelength_jitter)

    def check(self, *, states: int, noise: bool) -> None:
        """Raise InputError for conditions that cannot be, by the number of states and whether photons are counted."""
        stop_speckles(self.mask)
        positive = ("scale_decades", "background", "hot_pixels", "background_picture", "centre_jitter")
        for name in positive:
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise InputError(f"{name} = {value:g}; expected zero or a positive number")
        for name in ("size_spread", "wavelength_jitter", "background_spread"):
            value = getattr(self, name)
            if not 0 <= value <= MOST_SPREAD[name]:
                raise InputError(f"{name} = {value:g}; expected a part of 1, at least 0, at most {MOST_SPREAD[name]:g}")
        for name in ("junk", *PARTS):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise InputError(f"{name} = {value:g}; expected a part of the patterns, at least 0 and below 1")
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
    kind : (N_IMG,) int64, what it shows, of KINDS
    scale : (N_IMG,) float64, fluence, mean 1
    size : (N_IMG,) float64, the particle's size over the nominal one
    centre : (N_IMG, 2) float64 [pixels], how far the beam is off, row and column
    wavelength : (N_IMG,) float64, over the nominal one
    amplitude : (N_IMG,) float64, of the background, mean 1
    """

    state: Int64
    kind: Int64
    scale: Float64
    size: Float64
    centre: Float64
    wavelength: Float64
    amplitude: Float64


def draw_lot(images: int, states: int, conditions: Conditions, rng: np.random.Generator) -> Lot:
    """Draw states, junk, fluence and what else varies of so many patterns, each from a stream of its own."""
    streams = rng.spawn(7)
    state_rng, junk_rng, scale_rng, size_rng, centre_rng, wavelength_rng, amplitude_rng = streams
    shares = np.array(conditions.populations) if conditions.populations else np.ones(states)
    state = state_rng.choice(states, images, p=shares / shares.sum()).astype(np.int64)
    kind = draw_kinds(images, conditions, junk_rng)
    state[kind != SINGLE] = JUNK
    scale = 10 ** (conditions.scale_decades * scale_rng.random(images))
    size = 1 + conditions.size_spread * size_rng.standard_normal(images)
    amplitude = 1 + conditions.background_spread * amplitude_rng.standard_normal(images)
    amplitude = np.maximum(amplitude, LEAST_AMPLITUDE)
    return Lot(
        state=state,
        kind=kind,
        scale=scale / scale.mean(),
        size=np.clip(size, *SIZES),
        centre=conditions.centre_jitter * centre_rng.standard_normal((images, 2)),
        wavelength=1 + conditions.wavelength_jitter * wavelength_rng.standard_normal(images),
        amplitude=amplitude / amplitude.mean() if conditions.background_spread else amplitude,
    )


def draw_kinds(images: int, conditions: Conditions, rng: np.random.Generator) -> Int64:
    """Return what each pattern shows, (N_IMG,) int64 of KINDS, at random places.

    Raises InputError if nothing is left for the particle.
    """
    kind, order = np.full(images, SINGLE, np.int64), rng.permutation(images)
    begin = round(conditions.junk * images)
    kind[order[: (begin + 1) // 2]], kind[order[(begin + 1) // 2 : begin]] = STRAY, FLAT
    for name, number in PARTS.items():
        end = begin + round(getattr(conditions, name) * images)
        kind[order[begin:end]] = number
        begin = end
    if begin >= images:
        given = [name for name in ("junk", *PARTS) if getattr(conditions, name)]
        raise InputError(f"{', '.join(given)}: nothing else among {images} patterns; expected less of it; add images")
    return kind


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
