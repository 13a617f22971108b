"""Before the first generation: choose pixels, measure the data, find the diameter, plan the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spilegate.errors import InputError
from spilegate.geometry.detector import rings
from spilegate.geometry.diameter import estimate_diameter, pixel_spacing
from spilegate.geometry.sampling import Profile, Sampling, on_pixels, on_rings, radial_profile
from spilegate.geometry.symmetry import Group, group
from spilegate.kernels.launch import workers_for
from spilegate.kernels.workers import Workers
from spilegate.schedule import Plan, schedule
from spilegate.settings import Settings
from spilegate.state import Bool, Dataset, Float64

# Rings finer than 1 / (2.2 diameter) add no information: the autocorrelation spans two diameters.
RINGS_PER_SPECKLE = 2.2
FEWEST_RINGS = 8
# Inside half a speckle every slice is the same.
FIRST_RING = 0.5


@dataclass(frozen=True)
class Experiment:
    """The data of a run and what was measured of them before it, the same in every generation.

    images : (N_IMG, N_PIX) float32, maybe spread over many processors; q : (N_PIX, 3) float64; usable : (N_PIX,) bool
    workers : those who hold the images
    q_min, q_max : radius of the first and last pixels used [1/angstrom]
    diameter_angstrom : largest diameter, `diameter_estimated` from the patterns or given
    symmetry : imposed on every autocorrelation merged
    """

    images: Any
    q: Float64
    usable: Bool
    profile: Profile
    q_min: float
    q_max: float
    diameter_angstrom: float
    diameter_estimated: bool
    plans: list[Plan]
    workers: Workers
    symmetry: Group

    def rings(self, plan: Plan) -> Sampling:
        """Return the rings a generation searches on."""
        spacing = min(1 / (RINGS_PER_SPECKLE * self.diameter_angstrom), plan.q_match / FEWEST_RINGS)
        first = max(self.q_min, FIRST_RING / self.diameter_angstrom)
        grid = rings(self.q, self.usable, q_first=first, q_last=plan.q_match, spacing=spacing, n_phi=plan.n_phi)
        return on_rings(grid, self.profile)

    def pixels(self, q_last: float) -> Sampling:
        """Return the detector's own pixels up to a radius."""
        return on_pixels(self.q, self.usable, self.profile, q_first=self.q_min, q_last=q_last)


def prepare(dataset: Dataset, settings: Settings, workers: Workers | None = None) -> Experiment:
    """Measure a data set and plan its reconstruction.

    workers : who do the work; whoever holds the patterns if left out

    Raises InputError if the detector shows too few speckles of the particle to start from.
    """
    workers = workers or workers_for(dataset.images, settings.compute.threads, settings.compute.split_voxels)
    usable = dataset.weight > 0
    q_length = np.linalg.norm(dataset.q, axis=-1)
    q_max = inscribed_radius(dataset)
    if settings.prepare.q_max is not None:
        q_max = min(settings.prepare.q_max, float(q_length[usable].max()))
    q_min = float(max(settings.prepare.q_min, 0.999 * q_length[usable].min()))
    profile = radial_profile(dataset.images, dataset.q, usable, pixel_spacing(dataset.q[usable]), workers=workers)
    diameter = settings.prepare.diameter_angstrom
    found = diameter
    if found is None:
        found = estimate_diameter(dataset.images, dataset.q, usable, profile, q_max=q_max, workers=workers)
        # Finer digits mean nothing, and would let rounding in the transforms change every grid of the run.
        found = round(found, 1)
    if q_max * found < 2:
        raise InputError(
            f"{dataset.source}: the detector ends at 1/q = {1 / q_max:.3g} angstrom, found a particle of "
            f"{found:.3g} angstrom; expected at least 2 speckles (q x diameter >= 2); check diameter_angstrom and q_max"
        )
    return Experiment(
        dataset.images,
        dataset.q,
        usable,
        profile,
        q_min,
        q_max,
        found,
        diameter is None,
        schedule(found, q_max),
        workers,
        group(settings.symmetry),
    )


def inscribed_radius(dataset: Dataset) -> float:
    """Return the largest |q| [1/angstrom] up to which usable pixels surround the beam.

    The directions about the beam are cut into sectors, each as wide as two pixels at the edge of a square detector; the
    sector that ends first decides. Sectors without pixels (a gap through the beam) do not count.
    """
    usable = dataset.weight > 0
    q_length = np.linalg.norm(dataset.q[usable], axis=-1)
    angle = np.arctan2(dataset.q[usable, 1], dataset.q[usable, 0])
    sectors = max(8, int(2 * np.sqrt(len(q_length))))
    sector = np.floor((angle + np.pi) / (2 * np.pi) * sectors).astype(int) % sectors
    furthest = np.zeros(sectors)
    np.maximum.at(furthest, sector, q_length)
    return float(furthest[furthest > 0].min())
