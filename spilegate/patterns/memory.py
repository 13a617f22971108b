"""Whether those who work have the memory that a run takes, told before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spilegate.backend import array_module
from spilegate.patterns.checks import FEWEST_SPECKLES
from spilegate.patterns.experiment import SOFT_PHOTONS, Experiment
from spilegate.schedule import SEARCH_OUTWARDS, START_RING, schedule
from spilegate.settings import Settings
from spilegate.stages.matching import BLOCK_ORIENTATIONS

if TYPE_CHECKING:
    from spilegate.kernels.memory import Needs


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
            least=max(FEWEST_SPECKLES, experiment.q_first * diameter + START_RING) / diameter,
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
    # Of patterns that lie in that memory, half sets are copies, and those that are searched for.
    own, copies = experiment.workers.here.xp, 0.0
    if own is not np and array_module(experiment.images) is own:
        half_sets = settings.resolution.half_sets
        copies = experiment.images.nbytes * ((1.0 + 0.5 / SEARCH_OUTWARDS) if half_sets else 1.0 / SEARCH_OUTWARDS)
    found = []
    for plan in schedule(experiment.diameter_angstrom, q_max, experiment.q_first, soft=soft):
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
                copies=copies,
                soft=soft or plan.number == 1,
            )
        )
    return max(found, key=lambda each: each.total)
