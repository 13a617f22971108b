"""The parts of `scripts/gpu_check` and what they are done with: the device, or NumPy in its place."""

from __future__ import annotations

import argparse
import cProfile
import io
import platform
import pstats
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from gpu_check_bodies import Bodies
from gpu_check_floors import floors
from gpu_check_legate import under_the_launcher
from gpu_check_report import Report
from gpu_check_runs import HostRun, Size, accuracy, speed

from spilegate import __version__
from spilegate.kernels.device import Device, first_device

SMALL, LARGE = Size(1000, 64, 8.0), Size(10_000, 128, 8.0)
DRY_SMALL, DRY_LARGE = Size(200, 28, 18.0), Size(300, 32, 18.0)
TIMED = [Size(1000, 64, 8.0), Size(10_000, 64, 8.0), Size(1000, 128, 8.0), Size(10_000, 128, 8.0)]


def check(options: argparse.Namespace, parts: list[str]) -> int:
    """Do the parts and return how the command ends: 1 if anything is wrong."""
    options.output.mkdir(parents=True, exist_ok=True)
    report = Report(options.output / "gpu_check.json")
    seed = np.random.SeedSequence().entropy if options.seed is None else options.seed
    small, large = (DRY_SMALL, DRY_LARGE) if options.dry else (SMALL, LARGE)
    device = pretended(options.threads) if options.dry else first_device(options.threads)
    host = HostRun(small, max(1, options.threads // 2)) if "runs" in parts else None
    try:
        return _parts(report, options, parts, device, host, int(seed), small, large)
    finally:
        if host is not None:
            host.end()


def _parts(
    report: Report,
    options: argparse.Namespace,
    parts: list[str],
    device: Device,
    host: HostRun | None,
    seed: int,
    small: Size,
    large: Size,
) -> int:
    """Do the parts one after the other."""
    report.note(**machine(device), seed=seed)
    if "bodies" in parts:
        bodies = Bodies(report, device, options.threads, seed % 2**63)
        bodies.kernels()
        bodies.stages()
    if "floors" in parts:
        sizes = [DRY_SMALL] if options.dry else TIMED
        report.attempt("floors", "stages against libraries", lambda: floors(report, device, sizes))
    if host is not None:
        report.attempt("runs", "blind run against NumPy's", lambda: accuracy(report, small, device, host))
        profile = profiled if options.profile else None
        report.attempt("runs", "timed runs", lambda: speed(report, small, device, 1 if options.dry else 2, profile))
        report.attempt(
            "runs", "timed runs, large", lambda: speed(report, large, device, 1, None, whole=not options.dry)
        )
    if "legate" in parts:
        work = partial(under_the_launcher, report, small, dry=options.dry, free_mib=int(device.free() / 2**20))
        report.attempt("legate", "under the launcher", work)
    return 1 if report.failures else 0


def pretended(threads: int) -> Device:
    """Return a device that is none: NumPy, with a device's tiles and little memory."""
    return Device(np, threads, lambda: 4e8, "none, dry")


def machine(device: Device) -> dict[str, Any]:
    """Return what the findings belong to."""
    facts: dict[str, Any] = {"spilegate": __version__, "python": platform.python_version(), "numpy": np.__version__}
    facts |= {"device": device.name, "free_gib": round(device.free() / 2**30, 1)}
    if device.xp is not np:
        runtime = device.xp.cuda.runtime
        facts |= {
            "cupy": device.xp.__version__,
            "cuda_driver": runtime.driverGetVersion(),
            "cuda_runtime": runtime.runtimeGetVersion(),
        }
    return facts


def profiled(work: Callable[[], Any]) -> Any:
    """Do it under the profiler, print where the time went, and return the result."""
    profiler = cProfile.Profile()
    result = profiler.runcall(work)
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(45)
    pstats.Stats(profiler, stream=text).sort_stats("cumulative").print_stats("spilegate", 60)
    print(text.getvalue())
    return result
