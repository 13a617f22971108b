"""Work on tiles of patterns, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

T = TypeVar("T")


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    """Return the BLAS libraries of this process; looking for them takes milliseconds."""
    return ThreadpoolController()


def over_tiles(work: Callable[[slice], T], count: int, tile: int, *, threads: int) -> Iterator[T]:
    """Yield `work(slice)` for every tile of `range(count)`, in order, `threads` tiles at a time.

    A tile's arrays fit into the cache of its core, so the tiles run in parallel and BLAS inside a tile does not.
    """
    parts = [slice(begin, min(begin + tile, count)) for begin in range(0, count, tile)]
    with _libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, parts)
