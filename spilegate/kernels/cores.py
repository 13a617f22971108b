"""How many cores a process may use by the quotas that containers and schedulers set (Linux's control groups)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
ROOT = Path("/sys/fs/cgroup")
# Where the controller `cpu` of version 1 is mounted below ROOT; that of version 2 is ROOT itself, or a folder of it.
FIRST = ("cpu,cpuacct", "cpu", "cpuacct,cpu")
SECOND = ("", "unified")


def quota_cores(membership: Path = MEMBERSHIP, root: Path = ROOT) -> int | None:
    """Return the whole cores that the quotas of this process's control groups leave, at least 1; None without a quota.

    A quota of any group above counts too. In a container the groups above its own are not to be seen, and its own is
    mounted where the outermost one is elsewhere.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError):
        return None
    quotas = []
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        names = SECOND if controllers == "" else FIRST if "cpu" in controllers.split(",") else ()
        for folder in (root / name for name in names):
            quotas += [_quota(group) for group in _upwards(folder, path)]
    finite = [quota for quota in quotas if math.isfinite(quota)]
    return max(1, int(min(finite))) if finite else None


def _upwards(folder: Path, path: str) -> Iterator[Path]:
    """Yield a group's folder and those of all groups above it, up to where they are mounted."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        yield folder.joinpath(*parts[:length])


def _quota(group: Path) -> float:
    """Return the cores of one group's quota, infinity without one."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        microseconds = [int((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii")) for name in ("quota", "period")]
        return microseconds[0] / microseconds[1] if microseconds[0] > 0 else math.inf
    return math.inf
