"""Which threads of several processes on one computer get its cores."""

from __future__ import annotations

import os
import time
from pathlib import Path

THREADS_OF_PROCESS = Path("/proc/self/task")
LOWEST_PRIORITY = 19


def share_cores() -> None:
    """Let the ranks of one computer share its cores.

    Every rank's runtime pins its processors as if it were alone, so that all ranks would work on the same cores: its
    threads may use all cores the process was given. And threads that never sleep, waiting for messages, get the lowest
    priority, or they would take half of the cores from the work; on spare cores that changes nothing.
    """
    if not THREADS_OF_PROCESS.is_dir():
        return
    before, cores = _ticks(), os.sched_getaffinity(0)
    for thread in before:
        os.sched_setaffinity(thread, cores)
    time.sleep(0.1)
    for thread, ticks in _ticks().items():
        if thread != os.getpid() and ticks > before.get(thread, ticks):
            os.setpriority(os.PRIO_PROCESS, thread, LOWEST_PRIORITY)


def _ticks() -> dict[int, int]:
    """Return the clock ticks that every thread of this process has been running."""
    ticks = {}
    for thread in THREADS_OF_PROCESS.iterdir():
        fields = (thread / "stat").read_text().rpartition(")")[2].split()
        ticks[int(thread.name)] = int(fields[11]) + int(fields[12])
    return ticks
