"""All outputs of a launch in two arrays: every array that ranks exchange costs a round trip of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spilegate.backend import from_host, to_host
from spilegate.kernels.exact import Output, Total

ALIGNMENT = 8


@dataclass(frozen=True)
class Pack:
    """Where every output lies: rows as bytes of one row, sums one after the other; the last sum counts failures.

    places : for every output its slice of bytes or of sums, None for what stays where it was made
    """

    places: tuple[slice | None, ...]
    row_bytes: int
    sum_length: int

    @staticmethod
    def of(outputs: Sequence[Output]) -> Pack:
        """Lay out the outputs."""
        places: list[slice | None] = []
        row_bytes = sum_length = 0
        for output in outputs:
            size = math.prod(output.shape)
            if isinstance(output, Total):
                places.append(slice(sum_length, sum_length + size))
                sum_length += size
            elif output.split:
                places.append(None)
            else:
                begin = row_bytes
                row_bytes += size * np.dtype(output.dtype).itemsize
                places.append(slice(begin, row_bytes))
                row_bytes += -row_bytes % ALIGNMENT
        return Pack(tuple(places), row_bytes, sum_length + 1)

    def put(self, outputs: Sequence[Output], values: Sequence[Any], arrays: Sequence[Any], sums: Any) -> None:
        """Store what a body returned for a tile.

        arrays : the tile's rows of the outputs that stay, then, if there are others, of the bytes; sums : added to
        """
        stay = iter(arrays)
        for output, place, value in zip(outputs, self.places, values, strict=True):
            if isinstance(output, Total):
                sums[place] += from_host(output.rounded(value), sums).ravel()
            elif place is None:
                next(stay)[...] = from_host(value, sums)
            else:
                flat = np.ascontiguousarray(to_host(value), output.dtype).reshape(len(arrays[-1]), -1)
                arrays[-1][:, place] = from_host(flat.view(np.uint8), sums)

    def unpacked(self, outputs: Sequence[Output], rows: Any | None, sums: Any, stayed: Iterator[Any]) -> list[Any]:
        """Return the outputs from the bytes and sums of all tasks, and from what stayed, in order."""
        results: list[Any] = []
        for output, place in zip(outputs, self.places, strict=True):
            if isinstance(output, Total):
                results.append(sums[place].reshape(output.shape))
            elif place is None:
                results.append(next(stayed))
            else:
                values = np.ascontiguousarray(rows[:, place]).view(output.dtype)  # type: ignore[index] # there are some
                results.append(values.reshape(len(values), *output.shape))
        return results
