"""Where pixels lie in the picture of a detector, and where in it a point of reciprocal space lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spilegate.formats.looking import Looked
from spilegate.records import Dataset, Float64, Int64

# Near the beam q is proportional to rows and columns: so many pixels tell how.
NEAREST = 2000
# A picture whose rows and columns are further from that than this [pixels], on average, has its panels elsewhere.
LINEAR = 1.0


def nearest(q: Float64) -> Int64:
    """Return which points (N, 3) are nearest to the beam, NEAREST of them and those as near."""
    length = (q**2).sum(-1)
    if len(length) <= NEAREST:
        return np.arange(len(length))
    return np.flatnonzero(length <= np.partition(length, NEAREST)[NEAREST])


@dataclass(frozen=True)
class Places:
    """The picture of a detector.

    index_map, binning : as in `Dataset`; flat : whether the beam's row and column are an option's to say
    """

    index_map: Int64
    binning: int
    flat: bool

    @staticmethod
    def of(data: Dataset | Looked) -> Places:
        """Return those of patterns."""
        index_map = data.pixel_index_map if isinstance(data, Dataset) else data.index_map
        return Places(index_map, data.binning, (data.beam if isinstance(data, Dataset) else data.flat) is not None)

    def at(self, q: Float64, off: Float64) -> tuple[Float64, Float64] | None:
        """Return (row, column) of a point of reciprocal space, and by how many rows and columns it is off the beam.

        In pixels of the file, pixel centres being whole numbers; None where the picture does not show it.
        q : (N_PIX, 3), of the pixels; off : (2,), q_x and q_y of the point [1/angstrom]
        """
        near = nearest(q)
        known = np.column_stack([q[near, :2], np.ones(len(near))])
        place = self.index_map[near] * float(self.binning) + (self.binning - 1) / 2
        way = np.linalg.lstsq(known, place, rcond=None)[0]
        if float(np.sqrt(((known @ way - place) ** 2).mean())) > LINEAR * self.binning:
            return None
        moved: Float64 = off @ way[:2]
        return way[2] + moved, moved
