"""The data of a run and what was found out about them, as the generations use them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from spilegate.findings import Findings
from spilegate.geometry.detector import Detector, Rings, rings
from spilegate.geometry.symmetry import Group
from spilegate.kernels.workers import Workers
from spilegate.likelihood.sampling import Profile, Sampling, on_pixels, on_rings
from spilegate.likelihood.statistics import Gaussian, Likelihood, Poisson
from spilegate.patterns.background import background_of
from spilegate.patterns.brightness import FEW_PHOTONS
from spilegate.patterns.diameter.pair_distances import centre_seen
from spilegate.patterns.statistics import Sums
from spilegate.records import Float64, Int64, State
from spilegate.schedule import Plan, again, schedule

# Rings finer than 1 / (2.2 diameter) add no information: the autocorrelation spans two diameters.
RINGS_PER_SPECKLE = 2.2
FEWEST_RINGS = 8
# Inside half a speckle every slice is the same.
FIRST_RING = 0.5
# Patterns of more photons are matched by squared distances: as good there, and faster.
BRIGHT_PHOTONS = 10_000
# Patterns of fewer photons do not tell their orientations: they are assigned to all, by probability. (Adenylate kinase
# to 8 angstrom, softly or not: correlation 0.88 or 0.76 at 100 photons, 0.94 or 0.93 at 300, 0.89 or 0.96 at 1000; 400
# patterns of 300 photons to 14 angstrom: median error 50 or 11 degrees.)
SOFT_PHOTONS = FEW_PHOTONS


@dataclass(frozen=True)
class Started:
    """How the blind start of all patterns went, so that a half of them need not find it out again.

    Nothing of the model: how many times it went on outwards, and the mean distance that it ended with.
    """

    outwards: int
    distance: float


@dataclass(frozen=True)
class Experiment:
    """The data of a run and what was measured of them before it, the same in every generation.

    images : (N_IMG, N_PIX) float32, or (N_IMG, N_EVENT) integers, the pixels that photons hit; maybe spread over many
        processors; those of the data set but for the values mended
    detector : the pixels, with the background that was found or given
    scale, brightness : (N_IMG,) float64, first estimate of the pulses, and by all counts, of mean 1
    weight : (N_IMG,) float64, 0 for what is no pattern at all
    statistics : "gaussian" or "poisson"
    workers : those who hold the images
    q_min, q_max : radius of the first and last pixels used [1/angstrom]; q_first : of the first that patterns are
        matched on, further out than q_min where the first ones are for merging only
    diameter_angstrom : largest diameter, `diameter_estimated` from the patterns or given
    symmetry : imposed on every autocorrelation merged
    photons : on the pixels used, mean over the patterns; infinite where patterns are no counts
    soft : whether patterns are assigned to all orientations by probability
    sums : of the patterns over shells of |q|, where backgrounds are found from them, else None
    findings : what all this follows from
    started : of a half, how the blind start of all patterns went
    laid : the rings laid so far, by radii, spacing and samples; whatever is made by `replace` has the same pixels
    """

    images: Any
    detector: Detector
    scale: Float64
    brightness: Float64
    weight: Float64
    statistics: Literal["gaussian", "poisson"]
    profile: Profile
    q_min: float
    q_first: float
    q_max: float
    diameter_angstrom: float
    diameter_estimated: bool
    plans: list[Plan]
    workers: Workers
    symmetry: Group
    photons: float
    soft: bool
    sums: Sums | None
    findings: Findings
    started: Started | None = None
    laid: dict[tuple[float, float, float, int], Rings] = field(default_factory=dict, repr=False, compare=False)

    def at(self, state: State) -> Experiment:
        """Return it with what a state knows of the background."""
        return replace(self, detector=replace(self.detector, background=state.background))

    def every(self, step: int, first: int = 0) -> Experiment:
        """Return it with every step-th of its patterns, from `first` on; step : a power of two, at most GROUP."""
        if step == 1:
            return self
        return self._part(first, step)

    def half(self, number: int, whole: State) -> Experiment:
        """Return it with the even (0) or the odd (1) ones of its patterns, their scales again of mean 1.

        whole : what all patterns came to, of which only how the blind start went is kept
        """
        part = self._part(number, 2)
        started = Started(whole.start, whole.started)
        return replace(part, scale=part.scale / part.scale[part.weight > 0].mean(), started=started)

    def some(self, index: Int64) -> Experiment:
        """Return it with the patterns of these numbers (n,), ascending."""
        return self._with(self.workers.some(self.images, index), index)

    def _part(self, first: int, step: int) -> Experiment:
        return self._with(self.workers.take(self.images, first, step), slice(first, None, step))

    def _with(self, images: Any, which: Int64 | slice) -> Experiment:
        return replace(
            self,
            images=images,
            scale=self.scale[which],
            brightness=self.brightness[which],
            weight=self.weight[which],
            sums=None if self.sums is None else self.sums.some(which),
        )

    def background(self, scale: Float64, weight: Float64) -> Float64 | None:
        """Return the background (N_PIX,) [counts] that patterns of these scales and weights (N_IMG,) tell of.

        None if it is not to be found from them, or they are too alike in brightness to tell.
        """
        if self.sums is None:
            return None
        return background_of(self.sums, self.detector, scale, weight, counts=math.isfinite(self.photons))

    @property
    def diameter_rough(self) -> bool:
        """Tell whether the diameter may be off by half of itself: of few photons, it is their centre that tells it."""
        return self.diameter_estimated and self.photons < SOFT_PHOTONS and not centre_seen(self.detector)

    def plan(self, number: int, start: int = 0) -> Plan:
        """Return the plan of a generation, from 1; the last of the schedule is repeated.

        start : how many times the blind start went on outwards
        """
        plans = self.plans_after(start)
        if number <= len(plans):
            return plans[number - 1]
        if self.soft:
            return replace(plans[-1], number=number)
        return again(self.diameter_angstrom, plans[-1], number)

    def plans_after(self, start: int) -> list[Plan]:
        """Return the schedule of a run whose blind start went on outwards so many times."""
        if not start:
            return self.plans
        return schedule(self.diameter_angstrom, self.q_max, self.q_first, soft=self.soft, start=start)

    def fewest_generations(self, start: int = 0) -> int:
        """Return how many generations there are at least: it takes two at the full radius to see that nothing changes.

        start : how many times the blind start went on outwards; it does not count as one of the two
        """
        plans = self.plans_after(start)
        full = sum(plan.q_match >= self.q_max for plan in plans[1:])
        return len(plans) + max(0, 2 - full)

    def radii(self, plan: Plan) -> tuple[float, float]:
        """Return the radius of the first ring that a generation searches on and their distance at most [1/angstrom]."""
        spacing = min(1 / (RINGS_PER_SPECKLE * self.diameter_angstrom), plan.q_match / FEWEST_RINGS)
        return max(self.q_first, FIRST_RING / self.diameter_angstrom), spacing

    def rings(self, plan: Plan) -> Likelihood:
        """Return how patterns are compared on the rings a generation searches on."""
        first, spacing = self.radii(plan)
        detector, asked = self.detector, (first, plan.q_match, spacing, plan.n_phi)
        if asked not in self.laid:
            self.laid[asked] = rings(
                detector.q, detector.matched, q_first=first, q_last=plan.q_match, spacing=spacing, n_phi=plan.n_phi
            )
        return self._likelihood(on_rings(self.laid[asked], detector, self.profile))

    def pixels(self, q_last: float) -> Likelihood:
        """Return how patterns are compared on the detector's own pixels up to a radius."""
        return self._likelihood(self._on_pixels(q_last, matching=True))

    def merged(self, q_last: float) -> Sampling:
        """Return the detector's own pixels up to a radius, also those that are not for matching."""
        return self._on_pixels(q_last, matching=False)

    def _on_pixels(self, q_last: float, *, matching: bool) -> Sampling:
        return on_pixels(self.detector, self.profile, q_first=self.q_min, q_last=q_last, matching=matching)

    def _likelihood(self, sampling: Sampling) -> Likelihood:
        return Poisson(sampling) if self.statistics == "poisson" else Gaussian(sampling)
