"""Cores that a run takes: the fewest that the computer, its quotas, the scheduler and the user allow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import MAIN

from spilegate.kernels.cores import quota_cores


def groups(root: Path, membership: str, files: dict[str, str]) -> int | None:
    """Return the cores by control groups that lie below a folder."""
    for name, text in files.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (root / "membership").write_text(membership)
    return quota_cores(root / "membership", root / "cgroup")


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        # Version 2: the own group, one above it, the least of both, a container's own at the top, none.
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000"}, 4),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "250000 100000"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "600000 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/../elsewhere\n", {"cpu.max": "700000 100000"}, 7),
        ("0::/a\n", {"a/cpu.max": "max 100000"}, None),
        ("0::/a\n", {"b/cpu.max": "100000 100000"}, None),
        # Version 1, and both.
        ("2:cpuacct,cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "350000", "cpu/a/cpu.cfs_period_us": "100000"}, 3),
        ("1:cpu:/docker/x\n", {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("1:cpuset:/\n0::/a\n", {"unified/a/cpu.max": "200000 100000"}, 2),
        # What makes no sense.
        ("0::/a\n", {"a/cpu.max": "100000 0"}, None),
        ("0::/a\n", {"a/cpu.max": "many"}, None),
        ("nonsense\n", {}, None),
    ],
)  # fmt: skip
def test_quotas_of_the_whole_path_count(
    membership: str, files: dict[str, str], expected: int | None, tmp_path: Path
) -> None:
    assert groups(tmp_path, membership, files) == expected


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert quota_cores(tmp_path / "nowhere", tmp_path) is None


def cores(**variables: str) -> str:
    """Return what a process of its own finds."""
    code = "from spilegate.kernels.launch import cores_and_reason; print(*cores_and_reason(), sep='|')"
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK")
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=MAIN.parent.parent,
        env={**environment, **variables},
    )  # fmt: skip
    return done.stdout.strip()


def test_the_fewest_cores_count_and_their_reason_is_known() -> None:
    usual = int(cores().partition("|")[0])
    computer = os.cpu_count()
    assert cores(OMP_NUM_THREADS="1,4") == (f"1|of {computer}, by OMP_NUM_THREADS" if usual > 1 else cores())
    assert cores(SLURM_CPUS_PER_TASK="1") == (f"1|of {computer}, by SLURM_CPUS_PER_TASK" if usual > 1 else cores())
    for text in ("", "0", "-3", "many", "٣", str(10**6)):
        assert cores(OMP_NUM_THREADS=text) == cores()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_doctor_says_what_decided() -> None:
    one = min(os.sched_getaffinity(0))
    code = f"import os, runpy, sys; os.sched_setaffinity(0, {{{one}}}); sys.argv = ['spilegate', 'doctor']; " \
        f"runpy.run_path({str(MAIN)!r}, run_name='__main__')"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert "cores: 1 (of " in first or os.cpu_count() == 1
