"""The memory of the host: how much of it tiles may take that are worked on side by side."""

from __future__ import annotations

import ctypes
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

SYSTEM, MEMBERSHIP, GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# The rest is left to results, and to others.
PART = 0.5
# From what size on glibc asks the system for each array by itself, as its malloc.h numbers it.
MMAP_THRESHOLD = -3


def at_once(threads: int, tile_bytes: float) -> int:
    """Return how many tiles to work on side by side, at least one: what fits into a part of the memory that is free."""
    if threads == 1 or tile_bytes <= 0:
        return threads
    return int(min(threads, max(1.0, PART * available_bytes() / tile_bytes)))


def available_bytes() -> float:
    """Return the memory that this process may still take [bytes], infinite where the system does not say.

    Of the computer, or of the control groups that the process is in, whichever has less.
    """
    free = math.inf
    for line in _lines(SYSTEM):
        if line.startswith("MemAvailable:"):
            free = 1024.0 * int(line.split()[1])
    own = next((line.partition("::")[2] for line in _lines(MEMBERSHIP) if line.startswith("0::")), "/")
    for folder in {GROUPS / own.lstrip("/"), GROUPS}:
        limit, used = (next(iter(_lines(folder / name)), "") for name in ("memory.max", "memory.current"))
        # Files that were read count as used until somebody else wants the memory.
        kept = (line.split()[1] for line in _lines(folder / "memory.stat") if line.startswith("inactive_file "))
        if limit.isdigit() and used.isdigit():
            free = min(free, max(0.0, float(limit) - float(used) + float(next(kept, 0))))
    return free


def lean() -> None:
    """Have arrays from a mebibyte on given back to the system as soon as they are freed, where it has glibc.

    Otherwise it keeps what it was given once, in pieces. It takes a little longer, as new memory is zeroed.
    """
    try:
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 1 << 20)
    except (OSError, AttributeError):
        return


def _lines(path: Path) -> list[str]:
    """Return the lines of a file that the system makes up, none where it does not."""
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


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
