"""Symmetric particles: copies of one particle about the axes of a point group."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from spilegate.geometry.symmetry import GENERIC_DIRECTION, rotations
from spilegate.records import Float64
from spilegate.simulation.particle import Particle

# No atoms of neighbouring copies nearer than this [angstrom]; copies are moved outwards by steps of this.
CONTACT_ANGSTROM = 3.0


def symmetric_particle(particle: Particle, name: str) -> Particle:
    """Return copies of a particle about the origin, one for each element of a point group of rotations.

    The particle is moved away from the axes just far enough that neighbouring copies touch, towards the middle of the
    group's asymmetric unit (across the axis for C_n), then turned by every element. C1 returns the particle itself.
    The axes are those of `geometry.symmetry.rotations`; the particle's frame has its origin on all of them.
    Raises InputError for a name that is not a group's.
    """
    elements = rotations(name)
    if len(elements) == 1:
        return particle
    direction = _outwards(elements)
    at = particle.positions
    shift = 0.0
    while _nearest(at + shift * direction, elements) < CONTACT_ANGSTROM:
        shift += CONTACT_ANGSTROM
    positions = np.einsum("gab,nb->gna", elements, at + shift * direction).reshape(-1, 3)
    count = len(elements)
    return Particle(
        positions,
        np.tile(particle.element, count),
        np.tile(particle.occupancy, count),
        particle.elements,
        f"{particle.name} ({name.upper()})",
    )


def _outwards(elements: Float64) -> Float64:
    """Return a unit vector (3,) that no element leaves where it is, far from its images."""
    # What is left of the direction after projecting out what all elements share: the axis of a cyclic group.
    vector = GENERIC_DIRECTION - elements.mean(axis=0) @ GENERIC_DIRECTION
    result: Float64 = vector / np.linalg.norm(vector)
    return result


def _nearest(positions: Float64, elements: Float64) -> float:
    """Return the least distance [angstrom] of an atom to an atom of another copy."""
    tree = cKDTree(positions)
    others = [element for element in elements if np.trace(element) < 3 - 1e-9]
    return min(float(tree.query(positions @ element.T)[0].min()) for element in others)
