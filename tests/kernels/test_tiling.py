"""Rows spread over processors: whatever is launched finds its tile in every array."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import spread
from hypothesis import given
from hypothesis import strategies as st

from spilegate.backend import to_host
from spilegate.kernels.blocks import GROUP, tiles
from spilegate.kernels.tiling import Taking, processor_rows
from spilegate.kernels.workers import Workers


@given(
    st.integers(1, 20_000),
    st.integers(1, 10**6),
    st.integers(1, 64),
    st.sampled_from([1, 2, 4, 8, 16, 32, 64]),
    st.data(),
)
def test_taken_rows_are_where_they_came_from(
    count: int, n_pixel: int, processors: int, step: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, step - 1))
    taking = Taking(count, first, step, processor_rows(count, n_pixel, processors))
    sources, targets = list(tiles(0, count, taking.rows)), list(tiles(0, taking.taken, taking.taken_rows))
    assert taking.rows % GROUP == 0
    assert len(sources) <= processors
    # Every launch has a tile of both, and no tile is left out.
    assert len(targets) == taking.launches <= len(sources)
    for source, target in zip(sources, targets, strict=False):
        own = range(source.start + first, source.stop, step)
        assert list(own) == [first + step * row for row in range(target.start, target.stop)]
    for source in sources[len(targets) :]:
        assert not range(source.start + first, source.stop, step)


@pytest.mark.backend
@pytest.mark.parametrize("count", [1, 65, 129, 577])
def test_the_last_processor_may_have_no_row_to_give(workers: Workers, count: int) -> None:
    patterns = np.random.default_rng(0).random((count, 30), dtype=np.float32)
    for first in (0, 1):
        taken = workers.take(spread(patterns, workers), first, 2)
        np.testing.assert_array_equal(to_host(taken), patterns[first::2])
