"""How rows are spread over processors: plain arithmetic, which can be tried without any."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spilegate.kernels.blocks import block_rows


def processor_rows(count: int, n_pixel: int, processors: int) -> int:
    """Return how many of `count` patterns of `n_pixel` pixels a processor holds: whole blocks; the last may have less.

    It is a multiple of GROUP.
    """
    block = block_rows(count, n_pixel)
    return math.ceil(math.ceil(count / block) / processors) * block


@dataclass(frozen=True)
class Taking:
    """How the rows first, first + step, ... of `count` are taken by those who hold `rows` each.

    rows : a multiple of step
    """

    count: int
    first: int
    step: int
    rows: int

    @property
    def taken(self) -> int:
        """Return how many rows there will be."""
        return len(range(self.first, self.count, self.step))

    @property
    def taken_rows(self) -> int:
        """Return how many of them each will hold."""
        return self.rows // self.step

    @property
    def launches(self) -> int:
        """Return how many have rows to give: he who holds the last rows may have none that is taken."""
        return math.ceil(self.taken / self.taken_rows)
