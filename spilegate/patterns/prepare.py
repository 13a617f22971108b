"""Before the first generation: choose pixels, measure the data, find the diameter, plan the run.

What is found is a record of its own, `Findings`, and all that a run does with its patterns follows from it: whoever
resumes a run, reconstructs its halves or draws its pictures reads it instead of going through the patterns again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spilegate.errors import InputError
from spilegate.findings import Findings
from spilegate.geometry.detector import Detector, pixel_spacing
from spilegate.geometry.response import response
from spilegate.geometry.symmetry import group
from spilegate.kernels.launch import workers_for
from spilegate.kernels.workers import Workers
from spilegate.likelihood.sampling import Profile
from spilegate.patterns import missing, zingers
from spilegate.patterns import shade as shades
from spilegate.patterns.centre import centre, differ, doubts
from spilegate.patterns.checks import check_diameter, check_pixels, chosen, inscribed_radius
from spilegate.patterns.diameter.estimate import estimate_diameter
from spilegate.patterns.diameter.pair_distances import longest
from spilegate.patterns.experiment import BRIGHT_PHOTONS, SOFT_PHOTONS, Experiment
from spilegate.patterns.forward import first_scales
from spilegate.patterns.frames import Frames, sorted_out
from spilegate.patterns.hot_pixels import hot_pixels
from spilegate.patterns.places import Places
from spilegate.patterns.shade import Shade, background_in
from spilegate.patterns.statistics import Moments, Sums, Weighing, moments, radial_profile, shell_sums, shells
from spilegate.patterns.zingers import Zingers
from spilegate.records import Bool, Dataset, Float64
from spilegate.schedule import schedule
from spilegate.settings import PrepareOptions, Settings


def prepare(
    dataset: Dataset, settings: Settings, workers: Workers | None = None, *, findings: Findings | None = None
) -> Experiment:
    """Measure a data set and plan its reconstruction.

    workers : who do the work; whoever holds the patterns if left out
    findings : what was found out about the same patterns with the same settings, if that is known already
    Raises InputError if the detector shows too few speckles of the particle to start from.
    """
    workers = workers or workers_for(dataset.images, settings.compute.threads, settings.compute.split_voxels)
    search = _Search(dataset, settings, workers)
    images, found, sums = search.anew() if findings is None else search.known(findings)
    photons, assignment, statistics = found.photons, settings.matching.assignment, settings.matching.statistics
    if statistics == "auto":
        statistics = "poisson" if dataset.counts and photons < BRIGHT_PHOTONS else "gaussian"
    soft = assignment == "soft" or (assignment == "auto" and photons < SOFT_PHOTONS)
    detector = replace(search.detector(found), background=found.background)
    profile = Profile(found.profile_q, found.profile_mean, found.profile_variance)
    if len(found.amplitude):
        signal = profile.at(np.linalg.norm(detector.q, axis=-1))[0] * detector.response
        detector = replace(detector, trust=shades.trust(found.background, detector, signal))
    return Experiment(
        images=images,
        detector=detector,
        scale=found.first_scale,
        brightness=found.scale,
        weight=found.weight,
        statistics=statistics,
        profile=profile,
        q_min=found.q_min,
        q_first=search.q_first,
        q_max=found.q_max,
        diameter_angstrom=found.diameter_angstrom,
        diameter_estimated=settings.prepare.diameter_angstrom is None,
        plans=schedule(found.diameter_angstrom, found.q_max, search.q_first, soft=soft),
        workers=workers,
        symmetry=group(settings.symmetry),
        photons=photons,
        soft=soft,
        sums=sums,
        findings=found,
    )


# Fewer patterns have a mean that is uneven by their speckle.
FEWEST_TO_AVERAGE = 100


class _Search:
    """A data set, what is asked about it, and who goes through its patterns."""

    def __init__(self, dataset: Dataset, settings: Settings, workers: Workers) -> None:
        options = settings.prepare
        self._data, self._options, self._workers = dataset, options, workers
        self._outliers = settings.matching.outliers
        self._given = detector_of(dataset, options)
        self._q_length = np.linalg.norm(dataset.q, axis=-1)
        given = self._given
        check_pixels(given, options.q_max or np.inf, dataset.source)
        self._q_max = inscribed_radius(dataset.q, given.matched)
        if options.q_max is not None:
            self._q_max = min(options.q_max, float(self._q_length[given.matched].max()))
        check_pixels(given, self._q_max, dataset.source)
        self._q_min, self.q_first = (
            float(max(options.q_min, 0.999 * self._q_length[pixels].min())) for pixels in (given.merged, given.matched)
        )
        self._wanted = chosen(dataset, options)
        # Patterns with their background at one amplitude, as soon as that is known to vary.
        self._images: Any = dataset.images
        self._least: Any = None
        self._looks = options.background != "none"
        if options.background == "file" and dataset.background is None and options.background_from is None:
            raise InputError(
                f"prepare.background: found 'file', but {dataset.source} has no dataset 'background'; expected one; "
                "set it to estimate, auto or none"
            )
        known = known_background(dataset, options)
        self._known = None if known is None else np.where(given.merged, known, 0.0)
        self.estimate = known is None and options.background in ("estimate", "auto")

    def detector(self, findings: Findings) -> Detector:
        """Return the pixels used, the background being the file's."""
        return replace(self._given, matched=findings.matched, merged=findings.merged)

    def known(self, findings: Findings) -> tuple[Any, Findings, Sums | None]:
        """Return the patterns as the run works on them, what is known, and the sums over shells if they are needed."""
        if len(findings.amplitude):
            self._even(Shade(findings.background, findings.amplitude, np.zeros(0, np.bool_)))
        places = (findings.mended_pattern, findings.mended_pixel, findings.mended_value)
        images = self._mended(Zingers(*places, broken=~findings.merged))
        gaps = findings.filled_pattern, findings.filled_pixel, findings.filled_value
        images = self._filled(images, Zingers(*gaps, broken=~findings.merged))
        return images, findings, self._sums(images, self.detector(findings)) if self.estimate else None

    def anew(self, shade: Shade | None = None) -> tuple[Any, Findings, Sums | None]:
        """Go through the patterns, and return what `known` does.

        shade : their background, if it is known to be no function of |q|
        """
        detector, added = self._given, None
        images, gaps, sums, frames = self._seen(self._images, detector)
        hot = Zingers.none(len(self._q_length))
        if self._options.hot_pixels:
            weighing = Weighing(frames.scale, frames.weight, sums.most)
            how: dict[str, Any] = {"counts": self._data.counts, "workers": self._workers}
            hot, added = zingers.find(images, detector, sums, weighing, **how)
            hot = missing.without(hot, gaps)
        if hot.any:
            detector, added = without(detector, hot.broken), None
            images, gaps, sums, frames = self._seen(self._mended(hot), detector)
        scale, weight = frames.scale, frames.weight
        detector = replace(detector, background=frames.background)
        of_all = (
            moments(images, detector, scale, weight, workers=self._workers, bound=sums.most)
            if added is None
            else Weighing(scale, weight, sums.most).moments(added, detector)
        )
        # Scales and backgrounds leave no steps between the means that would tell what a photon is worth.
        count = 1 / float((scale * weight).sum()) if self._data.counts else None
        broken = hot_pixels(of_all.mean, detector.q, detector.merged, count)
        detector = without(detector, broken)
        if shade is None and self._shaded(of_all, detector, scale, weight):
            shade = shades.find(self._mended(hot), detector, weight, known=self._known, workers=self._workers)
            self._least = sums.least
            self._even(shade)
            matched = self._given.matched & ~shade.drowned
            self._given = replace(self._given, background=shade.background, matched=matched)
            return self.anew(shade)
        if self.estimate and broken.any():
            sums = self._sums(images, detector)
        profile = radial_profile(of_all, detector, pixel_spacing(detector.q[detector.matched]))
        inside = detector.matched & (self._q_length <= self._q_max)
        photons = float(profile.at(self._q_length[inside])[0].sum()) if self._data.counts else np.inf
        alike = self._data.counts and not differ(of_all.mean, of_all.square, detector, inside, scale, weight)
        diameter = self._options.diameter_angstrom
        if diameter is None:
            diameter = estimate_diameter(
                images, detector, scale, weight, of_all, profile,
                q_max=self._q_max, noisy=photons < SOFT_PHOTONS, ground=shades.ERROR if shade else 0.0,
                workers=self._workers,
            )  # fmt: skip
            # Finer digits mean nothing, and would let rounding in the transforms change every grid of the run.
            diameter = round(diameter, 1)
        check_diameter(
            diameter,
            q_min=self.q_first,
            q_max=self._q_max,
            longest=longest(detector),
            source=self._data.source,
            given=self._options.diameter_angstrom is not None,
        )
        pulses = first_scales(images, detector, scale, weight, diameter, workers=self._workers)
        places = Places.of(self._data)
        notes = (*frames.notes, *doubts(of_all.mean, detector, diameter, count, places, alike=alike))
        findings = Findings(
            q=self._data.q,
            mask=self._data.mask,
            pixel_index_map=self._data.pixel_index_map,
            matched=detector.matched,
            merged=detector.merged,
            background=detector.background,
            background_estimated=self._known is None and self._looks,
            scale=scale,
            first_scale=pulses,
            weight=weight,
            mended_pattern=hot.pattern,
            mended_pixel=hot.pixel,
            mended_value=hot.value,
            profile_q=profile.q,
            profile_mean=profile.mean,
            profile_variance=profile.variance,
            q_min=self._q_min,
            q_max=self._q_max,
            diameter_angstrom=diameter,
            photons=photons,
            said="\n".join(notes),
            hot_pixels=int((self._given.merged & ~detector.merged).sum()),
            mean=np.zeros(0),
            shown=np.zeros(0, np.int64),
            examples=np.zeros((0, len(self._q_length)), np.float32),
            filled_pattern=gaps.pattern,
            filled_pixel=gaps.pixel,
            filled_value=gaps.value,
            amplitude=np.zeros(0) if shade is None else shade.amplitude,
        )
        return images, findings, sums if self.estimate else None

    def _shaded(self, of_all: Moments, detector: Detector, scale: Float64, weight: Float64) -> bool:
        """Tell whether the moments of patterns show a background that is no function of |q|."""
        if not self._looks:
            return False
        # Of few patterns, or where few make most of the mean, it is speckle that is uneven.
        strength = scale * weight
        response, count = detector.response, float(strength.sum() ** 2 / (strength**2).sum())
        if self._known is None and count < FEWEST_TO_AVERAGE:
            return False
        variance = (of_all.square - of_all.mean**2) * response**2
        mean = of_all.mean * response + (0.0 if self._known is None else self._known)
        if not shades.shows(mean, variance, detector, count, known=self._known):
            return False
        if self._known is not None:
            return True
        # What is as even about another centre has no background, but positions that are off.
        diameter = self._options.diameter_angstrom or longest(detector)
        found = centre(of_all.mean, detector, diameter, 1 / count if self._data.counts else None)
        if found is None:
            return True
        q = detector.q - np.array([*found.off, 0.0])
        return shades.shows(mean, variance, replace(detector, q=q), count, known=None)

    def _even(self, shade: Shade) -> None:
        """Go on with patterns whose background has one amplitude, which is known."""
        self._images = shades.evened(self._data.images, shade, len(self._q_length), workers=self._workers)
        self.estimate = False

    def _seen(self, images: Any, detector: Detector) -> tuple[Any, Zingers, Sums, Frames]:
        """Return patterns with what is expected where they lack values, what that is, and what they show then."""
        gaps, sums = Zingers.none(len(self._q_length)), self._sums(images, detector)
        if not len(self._data.missing_pattern):
            return images, gaps, sums, self._frames(sums, detector)
        there = detector
        # What is expected depends on the background, which is estimated with what is expected.
        for _ in range(2 if self.estimate else 1):
            gaps = missing.expected(self._data, sums, there)
            whole = self._filled(images, gaps)
            # What is expected is no whole number of photons of any unit.
            full = replace(self._sums(whole, detector), least=sums.least)
            frames = self._frames(full, detector)
            there = replace(detector, background=frames.background)
            if not frames.background.any():
                break
        return whole, gaps, full, frames

    def _filled(self, images: Any, gaps: Zingers) -> Any:
        return missing.filled(images, gaps, len(self._q_length), workers=self._workers)

    def _mended(self, found: Zingers) -> Any:
        return zingers.mended(self._images, found, len(self._q_length), workers=self._workers)

    def _sums(self, images: Any, detector: Detector) -> Sums:
        spacing = pixel_spacing(detector.q[detector.merged])
        beyond = zingers.innermost(detector, self._options.hot_beyond, spacing)
        found = shell_sums(images, shells(detector, spacing, q_max=self._q_max, beyond=beyond), workers=self._workers)
        # What is left of a count when a background is evened out is no photon.
        return found if self._least is None else replace(found, least=self._least)

    def _frames(self, sums: Sums, detector: Detector) -> Frames:
        """Return which patterns are used, their brightness and their background."""
        return sorted_out(
            sums, detector, self._wanted, outliers=self._outliers, estimate=self.estimate, counts=self._data.counts,
            source=self._data.source,
        )  # fmt: skip


def detector_of(dataset: Dataset, options: PrepareOptions) -> Detector:
    """Return the pixels of a data set: levels 0 for everything, 1 for merging only, 2 for nothing.

    Raises InputError for polarisation or solid angle where the detector's file has them already.
    """
    known = known_background(dataset, options)
    seen = response(dataset.q, polarisation=options.polarisation, solid_angle=options.solid_angle)
    if dataset.response is not None:
        if options.polarisation != "none" or options.solid_angle:
            raise InputError(
                f"{dataset.source}: its detector's file says what every pixel sees; found prepare.polarisation or "
                "prepare.solid_angle besides; leave them out"
            )
        seen = dataset.response
    elif dataset.area is not None:
        seen = seen * dataset.area
    return Detector(
        dataset.q,
        dataset.mask == 0,
        dataset.mask < 2,
        seen,
        np.zeros(len(dataset.q)) if known is None else known,
    )


def known_background(dataset: Dataset, options: PrepareOptions) -> Float64 | None:
    """Return the file's background (N_PIX,) [counts], None if there is none or it is not to be used.

    A file of its own comes before that beside the patterns. Raises InputError if it is none of these patterns.
    """
    if options.background_from is not None:
        return background_in(Path(options.background_from), dataset)
    return dataset.background if options.background in ("auto", "file") else None


def without(detector: Detector, pixels: Bool) -> Detector:
    """Return the detector without some of its pixels (N_PIX,)."""
    return replace(detector, matched=detector.matched & ~pixels, merged=detector.merged & ~pixels)
