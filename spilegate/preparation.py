"""Before the first generation: choose pixels, measure the data, find the diameter, plan the run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spilegate.backend import array_module
from spilegate.errors import InputError
from spilegate.geometry.calibration import FEW_PHOTONS
from spilegate.geometry.centre import differ, doubts, one_sided
from spilegate.geometry.checks import (
    FEWEST_SPECKLES,
    check_diameter,
    check_pixels,
    chosen,
    inscribed_radius,
)
from spilegate.geometry.detector import Detector, Rings, pixel_spacing, rings
from spilegate.geometry.diameter import estimate_diameter
from spilegate.geometry.frames import sorted_out
from spilegate.geometry.hot_pixels import hot_pixels
from spilegate.geometry.likelihood import Gaussian, Likelihood, Poisson
from spilegate.geometry.pair_distances import centre_seen, longest
from spilegate.geometry.response import response
from spilegate.geometry.sampling import Profile, Sampling, moments, on_pixels, on_rings, radial_profile
from spilegate.geometry.symmetry import Group, group
from spilegate.geometry.zingers import Mended, mend
from spilegate.kernels.launch import workers_for
from spilegate.kernels.workers import Workers
from spilegate.schedule import START_RING, Plan, schedule
from spilegate.settings import PrepareOptions, Settings
from spilegate.stages.matching import BLOCK_ORIENTATIONS
from spilegate.state import Bool, Dataset, Float64, State

if TYPE_CHECKING:
    from spilegate.kernels.memory import Needs

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
class Experiment:
    """The data of a run and what was measured of them before it, the same in every generation.

    images : (N_IMG, N_PIX) float32, or (N_IMG, N_EVENT) integers, the pixels that photons hit; maybe spread over many
        processors; those of the data set but for the values mended
    detector : the pixels; estimate_background : whether their background was found from the patterns
    scale : (N_IMG,) float64, first estimate, of mean 1; weight : (N_IMG,) float64, 0 for what is no pattern at all
    statistics : "gaussian" or "poisson"
    workers : those who hold the images
    q_min, q_max : radius of the first and last pixels used [1/angstrom]
    diameter_angstrom : largest diameter, `diameter_estimated` from the patterns or given
    symmetry : imposed on every autocorrelation merged
    photons : on the pixels used, mean over the patterns; infinite where patterns are no counts
    soft : whether patterns are assigned to all orientations by probability
    hot_pixels : pixels that are left out because they are hot in all patterns, or many
    mended : values replaced because they are hot in single patterns
    notes : what the user should know of these patterns before the run, a line each
    laid : the rings laid so far, by radii, spacing and samples; whatever is made by `replace` has the same pixels
    """

    images: Any
    detector: Detector
    estimate_background: bool
    scale: Float64
    weight: Float64
    statistics: Literal["gaussian", "poisson"]
    profile: Profile
    q_min: float
    q_max: float
    diameter_angstrom: float
    diameter_estimated: bool
    plans: list[Plan]
    workers: Workers
    symmetry: Group
    photons: float
    soft: bool
    hot_pixels: int = 0
    mended: int = 0
    notes: tuple[str, ...] = ()
    laid: dict[tuple[float, float, float, int], Rings] = field(default_factory=dict, repr=False, compare=False)

    def at(self, state: State) -> Experiment:
        """Return it with what a state knows of the background."""
        return replace(self, detector=replace(self.detector, background=state.background))

    def every(self, step: int) -> Experiment:
        """Return it with every step-th of its patterns; step : a power of two, at most GROUP."""
        if step == 1:
            return self
        images = self.workers.take(self.images, 0, step)
        return replace(self, images=images, scale=self.scale[::step], weight=self.weight[::step])

    @property
    def diameter_rough(self) -> bool:
        """Tell whether the diameter may be off by half of itself: of few photons, it is their centre that tells it."""
        return self.diameter_estimated and self.photons < SOFT_PHOTONS and not centre_seen(self.detector)

    def plan(self, number: int) -> Plan:
        """Return the plan of a generation, from 1; the last of the schedule is repeated."""
        return replace(self.plans[min(number, len(self.plans)) - 1], number=number)

    @property
    def fewest_generations(self) -> int:
        """Return how many generations there are at least: it takes two at the full radius to see that nothing changes.

        The blind start does not count as one of them.
        """
        full = sum(plan.q_match >= self.q_max for plan in self.plans[1:])
        return len(self.plans) + max(0, 2 - full)

    def radii(self, plan: Plan) -> tuple[float, float]:
        """Return the radius of the first ring that a generation searches on and their distance at most [1/angstrom]."""
        spacing = min(1 / (RINGS_PER_SPECKLE * self.diameter_angstrom), plan.q_match / FEWEST_RINGS)
        return max(self.q_min, FIRST_RING / self.diameter_angstrom), spacing

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


def prepare(dataset: Dataset, settings: Settings, workers: Workers | None = None) -> Experiment:
    """Measure a data set and plan its reconstruction.

    workers : who do the work; whoever holds the patterns if left out

    Raises InputError if the detector shows too few speckles of the particle to start from.
    """
    workers = workers or workers_for(dataset.images, settings.compute.threads, settings.compute.split_voxels)
    options = settings.prepare
    first = detector_of(dataset, options)
    q_length = np.linalg.norm(dataset.q, axis=-1)
    check_pixels(first, options.q_max or np.inf, dataset.source)
    q_max = inscribed_radius(dataset.q, first.matched)
    if options.q_max is not None:
        q_max = min(options.q_max, float(q_length[first.matched].max()))
    check_pixels(first, q_max, dataset.source)
    q_min = float(max(options.q_min, 0.999 * q_length[first.merged].min()))
    if options.background == "file" and dataset.background is None:
        raise InputError(
            f"prepare.background: found 'file', but {dataset.source} has no dataset 'background'; expected one; "
            "set it to estimate, auto or none"
        )
    estimate = options.background == "estimate" or (options.background == "auto" and dataset.background is None)
    mended = without_zingers(dataset, first, options, workers)
    images, sound = mended.images, without(first, mended.broken)
    frames = sorted_out(
        images,
        sound,
        chosen(dataset, options),
        q_max,
        outliers=settings.matching.outliers,
        estimate=estimate,
        counts=dataset.counts,
        source=dataset.source,
        workers=workers,
    )
    scale, weight = frames.scale, frames.weight
    detector = without_hot_pixels(images, frames.detector, scale, weight, workers, counts=dataset.counts)
    count = 1 / float((scale * weight).sum()) if dataset.counts else None
    spacing = pixel_spacing(dataset.q[detector.matched])
    moment = moments(images, detector, scale, weight, workers)
    profile = radial_profile(images, detector, scale, weight, spacing, found=moment, workers=workers)
    inside = detector.matched & (q_length <= q_max)
    photons = float(profile.at(q_length[inside])[0].sum()) if dataset.counts else np.inf
    diameter = options.diameter_angstrom
    found, alike = diameter, dataset.counts and not differ(*moment, detector, inside, scale, weight)
    if found is None:
        found = estimate_diameter(
            images,
            detector,
            scale,
            weight,
            profile,
            q_max=q_max,
            noisy=photons < SOFT_PHOTONS,
            # Half a detector smears the texture of what it shows.
            textured=not (alike or (dataset.counts and one_sided(detector, inside))),
            workers=workers,
        )
        # Finer digits mean nothing, and would let rounding in the transforms change every grid of the run.
        found = round(found, 1)
    check_diameter(
        found,
        q_min=q_min,
        q_max=q_max,
        longest=longest(detector),
        source=dataset.source,
        given=diameter is not None,
    )
    statistics = settings.matching.statistics
    if statistics == "auto":
        statistics = "poisson" if dataset.counts and photons < BRIGHT_PHOTONS else "gaussian"
    assignment = settings.matching.assignment
    soft = assignment == "soft" or (assignment == "auto" and photons < SOFT_PHOTONS)
    return Experiment(
        images,
        detector,
        estimate,
        scale,
        weight,
        statistics,
        profile,
        q_min,
        q_max,
        found,
        diameter is None,
        schedule(found, q_max, q_min, soft=soft),
        workers,
        group(settings.symmetry),
        photons,
        soft,
        hot_pixels=int((first.merged & ~detector.merged).sum()),
        mended=mended.values,
        notes=(*frames.notes, *doubts(moment[0], detector, found, count, alike=alike)),
    )


def check_memory(experiment: Experiment, settings: Settings) -> None:
    """Raise InputError, in all processes of a run, if those who work have too little memory of their own for it."""
    workers, diameter = experiment.workers, experiment.diameter_angstrom
    free = getattr(workers, "free", None)
    if free is None:
        return
    from spilegate.kernels import memory

    def check() -> None:
        memory.check(
            lambda q_max: needs(experiment, settings, q_max),
            experiment.q_max,
            free(),
            getattr(workers, "name", "every processor"),
            least=max(FEWEST_SPECKLES, experiment.q_min * diameter + START_RING) / diameter,
            diameter_angstrom=diameter,
            patterns=float(experiment.images.nbytes),
            option=getattr(workers, "option", None),
        )

    workers.once(check)


def needs(experiment: Experiment, settings: Settings, q_max: float) -> Needs:
    """Return the memory that the generation which takes most of it takes, were the data to end at q_max."""
    from spilegate.kernels.memory import needs as needs_of

    q_length = np.linalg.norm(experiment.detector.q[experiment.detector.matched], axis=-1)
    photons = experiment.photons
    if np.isfinite(photons):
        photons = float(experiment.profile.at(q_length[q_length <= q_max])[0].sum())
    options, states = settings.matching, settings.matching.states
    # Of fewer pixels photons may be too few to be matched one by one.
    soft = experiment.soft or (options.assignment == "auto" and photons < SOFT_PHOTONS)
    # Of patterns that lie in that memory, half sets are copies.
    own = experiment.workers.here.xp
    copied = settings.resolution.half_sets and own is not np and array_module(experiment.images) is own
    found = []
    for plan in schedule(experiment.diameter_angstrom, q_max, experiment.q_min, soft=soft):
        by_view = soft or plan.number == 1 or options.method == "polar"
        first, spacing = experiment.radii(plan)
        # As many as `rings` lays.
        n_ring = max(2, int(np.ceil((plan.q_match - first) / spacing)) + 1)
        n_views = -(-plan.n_views // len(experiment.symmetry.rotations))
        some = max(1, BLOCK_ORIENTATIONS // plan.n_phi) * plan.n_phi
        found.append(
            needs_of(
                size=plan.size,
                n_slices=states * (n_views if by_view else some),
                n_samples=n_ring * plan.n_phi if by_view else int((q_length <= plan.q_match).sum()),
                n_phi=plan.n_phi,
                states=states,
                n_pixel=len(experiment.detector.q),
                copies=float(experiment.images.nbytes) if copied else 0.0,
                soft=soft or plan.number == 1,
            )
        )
    return max(found, key=lambda each: each.total)


def detector_of(dataset: Dataset, options: PrepareOptions) -> Detector:
    """Return the pixels of a data set: levels 0 for everything, 1 for merging only, 2 for nothing."""
    known = known_background(dataset, options)
    return Detector(
        dataset.q,
        dataset.mask == 0,
        dataset.mask < 2,
        response(dataset.q, polarisation=options.polarisation, solid_angle=options.solid_angle),
        np.zeros(len(dataset.q)) if known is None else known,
    )


def known_background(dataset: Dataset, options: PrepareOptions) -> Float64 | None:
    """Return the file's background (N_PIX,) [counts], None if there is none or it is not to be used."""
    return dataset.background if options.background in ("auto", "file") else None


def without_zingers(dataset: Dataset, detector: Detector, options: PrepareOptions, workers: Workers) -> Mended:
    """Return the patterns mended where they are hot in single ones; as they are unless the options ask for that."""
    if not options.hot_pixels:
        return Mended(dataset.images, np.zeros(len(detector.q), np.bool_), 0)
    return mend(dataset.images, detector, options.hot_beyond, counts=dataset.counts, workers=workers)


def without(detector: Detector, pixels: Bool) -> Detector:
    """Return the detector without some of its pixels (N_PIX,)."""
    return replace(detector, matched=detector.matched & ~pixels, merged=detector.merged & ~pixels)


def without_hot_pixels(
    images: Any, detector: Detector, scale: Float64, weight: Float64, workers: Workers, *, counts: bool
) -> Detector:
    """Return the detector without the pixels that no particle could make as bright as they are in all patterns."""
    mean, _ = moments(images, detector, scale, weight, workers)
    # Scales and backgrounds leave no steps between the means that would tell what a photon is worth.
    count = 1 / float((scale * weight).sum()) if counts else None
    return without(detector, hot_pixels(mean, detector.q, detector.merged, count))
