"""The record of what was found out about the patterns before the first generation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from spilegate.records import Bool, Float32, Float64, Int64, UInt8, ill_valued, misshapen


@dataclass(frozen=True)
class Findings:
    """What was found out about the patterns before the first generation: written beside the checkpoint.

    q, mask, pixel_index_map : the pixels, as in `Dataset`
    matched, merged : (N_PIX,) bool, pixels used for matching and for merging: the mask's, but for those that are hot in
        all patterns or in many, `hot_pixels` of them
    background : (N_PIX,) float64 [counts]; background_estimated : whether it was found from the patterns
    scale, weight : (N_IMG,) float64, brightness of mean 1; 0 for what is no pattern of the particle, else 1
    first_scale : (N_IMG,) float64, how bright the pulses were, of mean 1, by the counts near the beam as well
    mended_pattern, mended_pixel : (n,) int64, values that are hot in single patterns; mended_value : (n,) float32, what
        stands in their place
    profile_q, profile_mean, profile_variance : (N_SHELL,) float64, mean and variance of the patterns over |q|
    q_min, q_max : radius of the first and last pixels used [1/angstrom]
    diameter_angstrom : largest diameter, found or given
    photons : on the pixels used, mean over the patterns; infinite where patterns are no counts
    said : what the user should know of these patterns before the run, in lines
    filled_pattern, filled_pixel, filled_value : the same of values that single patterns lack
    amplitude : (N_IMG,) float64, of a background that is no function of |q|, in every pattern, mean 1; empty for others
    mean : (N_PIX,) float64 [counts], mean of the patterns of weight 1 as measured; shown : (n,) int64, patterns that
        pictures show; examples : (n, N_PIX) float32, these. All are of the run's end, and before it empty.
    """

    q: Float64
    mask: UInt8
    pixel_index_map: Int64
    matched: Bool
    merged: Bool
    background: Float64
    background_estimated: bool
    scale: Float64
    first_scale: Float64
    weight: Float64
    mended_pattern: Int64
    mended_pixel: Int64
    mended_value: Float32
    profile_q: Float64
    profile_mean: Float64
    profile_variance: Float64
    q_min: float
    q_max: float
    diameter_angstrom: float
    photons: float
    hot_pixels: int
    said: str
    mean: Float64
    shown: Int64
    examples: Float32
    filled_pattern: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    filled_pixel: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    filled_value: Float32 = field(default_factory=lambda: np.zeros(0, np.float32))
    amplitude: Float64 = field(default_factory=lambda: np.zeros(0))

    @property
    def notes(self) -> list[str]:
        """Return the lines of what is said."""
        return self.said.splitlines()

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Yield (field, what was found, what is expected) wherever these are no findings, shapes before values."""
        count, pixels = len(self.scale), len(self.mask)
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("scale", "first_scale", "weight"), (count,))
        shapes |= {"q": (pixels, 3), "pixel_index_map": (pixels, 2), "mean": (pixels * len(self.mean[:1]),)}
        shapes |= dict.fromkeys(("mask", "matched", "merged", "background"), (pixels,))
        shapes |= dict.fromkeys(("mended_pattern", "mended_pixel", "mended_value"), self.mended_value.shape[:1])
        shapes |= dict.fromkeys(("filled_pattern", "filled_pixel", "filled_value"), self.filled_value.shape[:1])
        shapes |= dict.fromkeys(("profile_q", "profile_mean", "profile_variance"), self.profile_q.shape[:1])
        shapes |= {"amplitude": (count * bool(len(self.amplitude)),)}
        shapes |= {"shown": self.shown.shape[:1], "examples": (*self.shown.shape[:1], pixels)}
        yield from misshapen(self, shapes)
        for name, good, expected in (
            ("weight", (self.weight == 0) | (self.weight == 1), "0 or 1"),
            ("scale", self.scale > 0, "nothing but positive numbers"),
            ("first_scale", self.first_scale > 0, "nothing but positive numbers"),
            ("amplitude", self.amplitude >= 0, "nothing negative"),
            ("merged", self.merged | ~self.matched, "the pixels for matching among those for merging"),
            ("matched", self.matched.any(), "some pixels"),
            ("mended_pattern", (self.mended_pattern >= 0) & (self.mended_pattern < count), "numbers of patterns"),
            ("mended_pattern", np.diff(self.mended_pattern) >= 0, "an ascending order"),
            ("mended_pixel", (self.mended_pixel >= 0) & (self.mended_pixel < pixels), "numbers of pixels"),
            ("filled_pattern", (self.filled_pattern >= 0) & (self.filled_pattern < count), "numbers of patterns"),
            ("filled_pattern", np.diff(self.filled_pattern) >= 0, "an ascending order"),
            ("filled_pixel", (self.filled_pixel >= 0) & (self.filled_pixel < pixels), "numbers of pixels"),
            ("profile_q", len(self.profile_q) > 0 and (np.diff(self.profile_q) > 0).all(), "radii that ascend"),
            ("profile_variance", self.profile_variance > 0, "nothing but positive numbers"),
            ("q_max", 0 < self.q_min < self.q_max < np.inf, "a radius beyond q_min"),
            ("diameter_angstrom", 0 < self.diameter_angstrom < np.inf, "a positive length"),
            ("photons", self.photons >= 0, "a number of photons"),
            ("shown", (self.shown >= 0) & (self.shown < count), "numbers of patterns"),
            ("shown", np.diff(self.shown) > 0, "an ascending order"),
        ):
            yield from ill_valued(self, name, good, expected)
