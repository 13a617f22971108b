"""A flat detector across the beam: all that is known of where its pixels lie is where the beam goes through it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spilegate.formats import ewald
from spilegate.records import Float64

# In place of a row and a column: to be found in the patterns.
AUTO = "auto"


@dataclass(frozen=True)
class Flat:
    """A flat detector of one panel.

    shape : (1, y, x); distance_m : from the sample; pixel_m : height and width of a pixel
    centre : (row, column) where the beam goes through, pixel centres being whole numbers; wavelength : [angstrom]
    """

    shape: tuple[int, int, int]
    distance_m: float
    pixel_m: tuple[float, float]
    centre: tuple[float, float]
    wavelength: float = 0.0

    @property
    def positions(self) -> Float64:
        """Return positions (panels, y, x, 3) [m].

        Rows go down and columns to the right as the beam sees it (CXI 1.6): y and x get less.
        """
        _, row, column = np.indices(self.shape, np.float64)
        left, up = (self.centre[1] - column) * self.pixel_m[1], (self.centre[0] - row) * self.pixel_m[0]
        return np.stack([left, up, np.full(self.shape, self.distance_m)], axis=-1)

    @property
    def q(self) -> Float64:
        """Return positions (panels, y, x, 3) in reciprocal space [1/angstrom]."""
        return ewald.reciprocal(self.positions, self.wavelength)[0]

    def at(self, row: float, column: float) -> Flat:
        """Return it with the beam at another place."""
        return replace(self, centre=(row, column))
