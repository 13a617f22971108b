"""What a reconstruction will be, as far as that decides its cost: its pixels, its plans, and how often they are run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from spilegate.forecast.counts import Load
from spilegate.formats.looking import Looked
from spilegate.generation.models import FIRST_STARTS, FURTHER_STARTS, MARCHING
from spilegate.generation.start import START_PATTERNS, START_PHOTONS, WARM, temperatures
from spilegate.geometry.symmetry import Group, group
from spilegate.kernels.blocks import GROUP
from spilegate.patterns.experiment import (
    BRIGHT_PHOTONS,
    FEWEST_RINGS,
    FIRST_RING,
    RINGS_PER_SPECKLE,
    SOFT_PHOTONS,
    Experiment,
)
from spilegate.patterns.outlook import reach
from spilegate.records import NEVER, USE, Float64
from spilegate.schedule import COLD_SPACING, WARM_SPACING, Plan, again, schedule
from spilegate.schedule import plan as plan_of
from spilegate.settings import Settings

# Where patterns show fewer speckles than these from the beam to the edge; and where more: particles are mostly
# complexes or long ones then, that look alike from several sides.
FEW_SPECKLES, MANY_SPECKLES = 5.0, 10.0
# How many candidates of a pattern are refined by a step to choose among them, and how many steps then: with few
# speckles, with more, and with many, where one that fits alike is refined as well. (Counted: 2 to 3.5 candidates and 3
# to 4 steps with few speckles, 0.1 to 0.9 and 2 to 3 in demo, 2 to 4 and 4 to 5 in complexes.)
REFINED = (2.0, 3.5), (0.5, 2.5), (3.0, 5.0)
# Conjugate gradients stop after about so many iterations; with many speckles after more.
ITERATIONS, ITERATIONS_OF_MANY = 25, 32
# Blind starts are repeated until two agree: mostly the first two do; a half compares its first with that of all.
STARTS = 2
# At the full radius it takes two generations to see that nothing changes; softly more until that is so.
FEWEST_GENERATIONS, SOFT_GENERATIONS = 2, 6


@dataclass(frozen=True)
class Outline:
    """A run that has not begun.

    patterns : how many; stored : values kept of each; n_pixel : pixels of each; counts : whether they are photons
    matched, merged : |q| of the pixels used, ascending [1/angstrom]; q_first, q_max : where matching begins and ends
    photons : of a pattern on the pixels used; soft : whether patterns are assigned to all orientations
    """

    patterns: int
    stored: int
    n_pixel: int
    matched: Float64
    merged: Float64
    q_first: float
    q_max: float
    diameter: float
    photons: float
    soft: bool
    settings: Settings
    starts: int = STARTS

    @property
    def group(self) -> Group:
        """Return the point group that is imposed."""
        return group(self.settings.symmetry)

    @property
    def poisson(self) -> bool:
        """Tell whether patterns are compared by photon statistics, which takes logarithms."""
        statistics = self.settings.matching.statistics
        return statistics == "poisson" or (statistics == "auto" and self.photons < BRIGHT_PHOTONS)

    @property
    def plans(self) -> list[Plan]:
        """Return the plans of all generations after the start, as many at the full radius as it usually takes."""
        plans = schedule(self.diameter, self.q_max, self.q_first, soft=self.soft)[1:]
        usual = SOFT_GENERATIONS if self.soft else FEWEST_GENERATIONS
        fewest = min(usual, self.settings.convergence.most_generations)
        while sum(plan.q_match >= self.q_max for plan in plans) < fewest:
            number = len(plans) + 2
            plans.append(replace(plans[-1], number=number) if self.soft else again(self.diameter, plans[-1], number))
        return plans

    @property
    def start_plans(self) -> list[Plan]:
        """Return the plans of all iterations of a start."""
        first = schedule(self.diameter, self.q_max, self.q_first)[0].q_match
        heat = temperatures(self.settings.start).tolist()
        spacings = [WARM_SPACING if each > WARM else COLD_SPACING for each in heat]
        return [plan_of(self.diameter, 1, first, first, soft=True, spacing=spacing) for spacing in spacings]

    @property
    def started(self) -> int:
        """Return of how many patterns a start is made."""
        least = self.settings.start.patterns or (
            self.settings.matching.states * max(START_PATTERNS, START_PHOTONS / self.photons)
        )
        step = 1
        while 2 * step <= GROUP and self.patterns >= 2 * step * least:
            step *= 2
        return -(-self.patterns // step)

    def half(self) -> Outline:
        """Return that of a half of the patterns, without halves and PRTF."""
        quiet = self.settings.resolution.model_copy(update={"half_sets": False, "phasings": 0})
        settings = self.settings.model_copy(update={"resolution": quiet})
        return replace(self, patterns=-(-self.patterns // 2), settings=settings, starts=1)

    def load(self, plan: Plan, *, last: bool = False) -> Load:
        """Return what a generation is made of, the run's last one or another."""
        speckles, options = plan.q_match * self.diameter, self.settings
        spacing = min(1 / (RINGS_PER_SPECKLE * self.diameter), plan.q_match / FEWEST_RINGS)
        first = max(self.q_first, FIRST_RING / self.diameter)
        views = max(1, plan.n_views // len(self.group.rotations))
        used = [int(np.searchsorted(pixels, q)) for pixels, q in
                ((self.matched, plan.q_match), (self.merged, plan.q_merge))]  # fmt: skip
        phasings = 1 + (0 if self.soft else FURTHER_STARTS)
        if last:
            phasings = options.phasing.starts if self.soft else min(options.phasing.starts, FIRST_STARTS)
        elif plan.number == 2:
            phasings = min(options.phasing.starts, FIRST_STARTS)
        marching = not last and plan.number > 2
        contested, steps = REFINED[int(speckles >= FEW_SPECKLES) + int(speckles > MANY_SPECKLES)]
        cg = ITERATIONS_OF_MANY if self.q_max * self.diameter > MANY_SPECKLES else ITERATIONS
        return Load(
            self.patterns, self.n_pixel, max(1, used[0]), max(1, used[1]), replace(plan, n_views=views),
            max(2, math.ceil((plan.q_match - first) / spacing) + 1),
            states=options.matching.states,
            candidates=options.matching.candidates,
            contested=contested / plan.search_every,
            gradients=steps,
            cg=min(cg, options.merging.iterations),
            cycles=math.ceil(MARCHING * options.phasing.cycles) if marching else options.phasing.cycles,
            phasings=phasings,
            split_voxels=options.compute.split_voxels,
        )  # fmt: skip


def of_experiment(experiment: Experiment, settings: Settings) -> Outline:
    """Return what a run that is prepared will be."""
    length = np.linalg.norm(experiment.detector.q, axis=-1)
    return Outline(
        patterns=len(experiment.images),
        stored=int(experiment.images.shape[1]),
        n_pixel=len(length),
        matched=np.sort(length[experiment.detector.matched]),
        merged=np.sort(length[experiment.detector.merged]),
        q_first=experiment.q_first,
        q_max=experiment.q_max,
        diameter=experiment.diameter_angstrom,
        photons=experiment.photons,
        soft=experiment.soft,
        settings=settings,
    )


def of_look(looked: Looked, diameter: float, settings: Settings) -> Outline:
    """Return what a run with these patterns and settings will be, the particle's diameter [angstrom] being known."""
    length = np.linalg.norm(looked.q, axis=-1)
    q_max = reach(looked, settings.prepare.q_max)
    matched, merged = (np.sort(length[pixels]) for pixels in (looked.mask == USE, looked.mask < NEVER))
    photons = float(looked.mean[(looked.mask == USE) & (length <= q_max)].sum()) if looked.counts else math.inf
    assignment = settings.matching.assignment
    return Outline(
        patterns=looked.patterns,
        stored=looked.stored,
        n_pixel=len(length),
        matched=matched,
        merged=merged,
        q_first=max(settings.prepare.q_min, 0.999 * float(matched[0])),
        q_max=q_max,
        diameter=diameter,
        photons=photons,
        soft=assignment == "soft" or (assignment == "auto" and photons < SOFT_PHOTONS),
        settings=settings,
    )
