"""The memory of the host: how much of it tiles may take that are worked on side by side."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

SYSTEM, GROUP_OF_PROCESSES = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
# The rest is left to results, and to others.
PART = 0.5


def at_once(threads: int, tile_bytes: float) -> int:
    """Return how many tiles to work on side by side, at least one: what fits into a part of the memory that is free."""
    if threads == 1 or tile_bytes <= 0:
        return threads
    return int(min(threads, max(1.0, PART * available_bytes() / tile_bytes)))


def available_bytes() -> float:
    """Return the memory that this process may still take [bytes], infinite where the system does not say."""
    return min([*_of_system(), *_of_group()], default=math.inf)


def _of_system() -> Iterator[float]:
    """Yield what is left to the computer, if it says so."""
    if SYSTEM.is_file():
        for line in SYSTEM.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield 1024.0 * int(line.split()[1])


def _of_group() -> Iterator[float]:
    """Yield what is left to this group of processes, if there is a limit."""
    try:
        limit = (GROUP_OF_PROCESSES / "memory.max").read_text().strip()
        used = (GROUP_OF_PROCESSES / "memory.current").read_text().strip()
    except OSError:
        return
    if limit.isdigit():
        yield max(0.0, float(limit) - float(used))


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[slice], Any], parts: Sequence[slice], most: int
) -> Iterator[Any]:
    """Yield what a function returns for all parts, in order; at most so many are begun and not yet waited for."""
    waiting: deque[Future[Any]] = deque()
    try:
        for part in parts:
            if len(waiting) >= most:
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, part))
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
