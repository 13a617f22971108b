#!/usr/bin/env python3
"""How much memory one generation at full radius takes, stage by stage: the largest that the process has held [MiB].

    .venv/bin/python scripts/memory.py --diameter-angstrom 150 --resolution-angstrom 6
    .venv/bin/python scripts/memory.py --soft --threads 4

Of a few patterns, so that what is counted are views, grids and volumes. The patterns are noise about a smooth mean: how
much memory a stage takes does not depend on what it finds. On Linux only, which forgets the peak when it is asked to.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spilegate.generation import models, poses, soft
from spilegate.geometry import orientations
from spilegate.kernels.workers import Threads
from spilegate.patterns.prepare import Experiment, prepare
from spilegate.records import Dataset, State
from spilegate.settings import Settings
from spilegate.simulation.experiment import detector_q

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--diameter-angstrom", type=float, default=150.0)
    parser.add_argument("--resolution-angstrom", type=float, default=6.0)
    parser.add_argument("--pixels", type=int, default=128, help="along an edge of the detector")
    parser.add_argument("--patterns", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--soft", action="store_true", help="assign patterns by probability")
    arguments = parser.parse_args()
    experiment, settings = made(arguments)
    plan = experiment.plans[-1]
    print(f"M = {plan.size}, {plan.n_views} views, {plan.n_phi} angles, {arguments.threads} threads")
    print(f"{'prepared':10s} {peak_mib():8.0f} MiB")
    peaks = [measured(name, work) for name, work in stages(experiment, settings)]
    print(f"{'largest':10s} {max(peaks):8.0f} MiB")


def made(arguments: argparse.Namespace) -> tuple[Experiment, Settings]:
    """Return an experiment of random patterns, and its settings."""
    rng = np.random.default_rng(0)
    q = detector_q(arguments.pixels, arguments.resolution_angstrom, 1.0).reshape(-1, 3)
    mean = 100 / (1 + (8 * np.linalg.norm(q, axis=-1)) ** 4)
    images = rng.gamma(1.0, mean, (arguments.patterns, len(q))).astype(np.float32)
    dataset = Dataset(
        images=images,
        q=q,
        mask=np.zeros(len(q), np.uint8),
        panel_shape=(1, arguments.pixels, arguments.pixels),
        pixel_index_map=np.indices((arguments.pixels, arguments.pixels)).reshape(2, -1).T,
        digest="0" * 64,
        source="noise",
    )
    settings = Settings.model_validate(
        {
            "prepare": {"diameter_angstrom": arguments.diameter_angstrom, "hot_pixels": False},
            "matching": {"assignment": "soft" if arguments.soft else "hard", "outliers": False},
            "phasing": {"cycles": 1},
        }
    )
    return prepare(dataset, settings, Threads(arguments.threads)), settings


def stages(experiment: Experiment, settings: Settings) -> list[tuple[str, Callable[[], None]]]:
    """Return the stages of a generation, to be called in order."""
    plan, rng = experiment.plans[-1], np.random.default_rng(0)
    known: dict[str, Any] = {}

    def start() -> None:
        known["state"] = blank(experiment)

    def match() -> None:
        known["found"], _ = poses.match(experiment, plan, known["state"], settings.matching, rng)

    def refine() -> None:
        known["state"], _ = poses.refine(experiment, plan, known["state"], known["found"], settings.matching, rng)

    def assign() -> None:
        known["found"], _ = soft.assign(experiment, plan, known["state"], rng)
        known["state"], _ = soft.settle(experiment, plan, known["state"], known["found"], settings.matching)

    def merge() -> None:
        known["state"], _ = models.merge(experiment, plan, known["state"], settings.merging)

    def average() -> None:
        known["state"], _ = soft.average(experiment, plan, known["state"], known["found"], settings.merging)

    def phase() -> None:
        known["state"], _ = models.phase(experiment, plan, known["state"], settings.phasing, rng, last=True)

    hard = [("match", match), ("refine", refine), ("merge", merge)]
    return [("start", start), *([("match", assign), ("merge", average)] if experiment.soft else hard), ("phase", phase)]


def blank(experiment: Experiment) -> State:
    """Return a state at full radius whose model is a blob."""
    plan, count, rng = experiment.plans[-1], len(experiment.images), np.random.default_rng(1)
    axis = (np.arange(plan.size) - plan.size // 2) * plan.voxel_angstrom / experiment.diameter_angstrom
    radius = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    volume = (np.exp(-20 * radius) * (1 + 0.3 * np.cos(40 * radius))).astype(np.float32)[None]
    return State(
        generation=plan.number,
        voxel_angstrom=plan.voxel_angstrom,
        history=np.empty((0, 3)),
        quaternions=orientations.random_quaternions(count, rng),
        state=np.zeros(count, np.int64),
        scale=experiment.scale,
        background=experiment.detector.background,
        weight=experiment.weight,
        distance=np.ones(count),
        autocorrelation=volume,
        density=volume,
        support=volume > 0.1,
    )


def measured(name: str, work: Callable[[], None]) -> float:
    """Do some work; print and return the largest memory that the process held meanwhile [MiB]."""
    FORGET.write_text("5")
    begin = time.perf_counter()
    work()
    peak = peak_mib()
    print(f"{name:10s} {peak:8.0f} MiB {time.perf_counter() - begin:8.1f} s", flush=True)
    return peak


def peak_mib() -> float:
    """Return the largest memory this process has held since it was last told to forget [MiB]."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
