"""What a flat detector counts of the light scattered into a direction: polarisation and solid angle."""

from __future__ import annotations

from typing import Literal

import numpy as np

from spilegate.geometry.detector import ewald_wavelength
from spilegate.records import Float64

Polarisation = Literal["none", "horizontal", "vertical"]


def response(q: Float64, *, polarisation: Polarisation, solid_angle: bool) -> Float64:
    """Return the part of |F|^2 that pixels of a flat detector count, (N_PIX,) float64, 1 at the beam.

    With s the unit outgoing wave vector, `s = wavelength q + z`, it is the product of the polarisation factor,
    `1 - (s.x)^2` for a beam polarised along x (horizontal) and `1 - (s.y)^2` along y (Thomson scattering; Jackson,
    Classical Electrodynamics, 3rd ed., 14.8), and of the solid angle of a pixel normal to the beam, `(s.z)^3`.

    q : (N_PIX, 3) float64 [1/angstrom], laboratory frame, pixels on one Ewald sphere
    polarisation : "none" leaves out the first factor, as for a detector that is corrected for it
    solid_angle : whether the second factor counts
    """
    outgoing = q * ewald_wavelength(q) + np.array([0.0, 0.0, 1.0])
    result = np.ones(len(q))
    if polarisation != "none":
        result -= outgoing[:, 0 if polarisation == "horizontal" else 1] ** 2
    if solid_angle:
        result *= outgoing[:, 2] ** 3
    return result
