"""What `summary.json` says of a finished run; `scripts/REFERENCE.md` explains every field."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spilegate import __version__
from spilegate.geometry.detector import ewald_wavelength, pixel_spacing
from spilegate.patterns.background import alike
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import known_background
from spilegate.reconstruction import Reconstruction
from spilegate.records import Dataset
from spilegate.report.measured import background_figures, populations, scale_figures
from spilegate.report.progress import Record, seconds_by
from spilegate.resolution import verdict
from spilegate.settings import Settings


@dataclass(frozen=True)
class Run:
    """A finished reconstruction: what was asked for, what it started from and what came out.

    data : the file of patterns
    records : the stages of all generations, also of those before a resumption
    """

    data: Path
    settings: Settings
    dataset: Dataset
    experiment: Experiment
    result: Reconstruction
    records: list[Record]


class Clock:
    """The wall time of a run, lap by lap, from when it is made."""

    def __init__(self) -> None:
        self._begin = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """End a lap; the next one begins."""
        now = time.perf_counter()
        self._laps[name] = now - self._last
        self._last = now

    def go_on(self) -> None:
        """Begin the next lap now: what went by since the last one was none of the run's."""
        now = time.perf_counter()
        self._begin += now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        """Return the seconds of every lap, and their "total"."""
        return {**self._laps, "total": self._last - self._begin}


def summarise(run: Run, clock: Clock) -> dict[str, Any]:
    """Return the content of `summary.json`."""
    result, found = run.result, run.result.findings
    return {
        "version": __version__,
        "seed": run.settings.seed,
        "blind": True,
        "settings": run.settings.model_dump(mode="json"),
        "compute": run.experiment.workers.description(),
        "input": input_figures(run),
        "diameter_angstrom": result.diameter_angstrom,
        "diameter_estimated": result.diameter_estimated,
        "q_min_inverse_angstrom": found.q_min,
        "q_max_inverse_angstrom": result.q_max,
        "voxel_angstrom": result.state.voxel_angstrom,
        "size": result.state.density.shape[-1],
        "generations": result.state.generation,
        "converged": result.converged,
        "convergence": result.convergence,
        "statistics": run.experiment.statistics,
        "assignment": "soft" if run.experiment.soft else "hard",
        "hot_pixels": {"in_all_patterns": found.hot_pixels, "in_single_patterns": len(found.mended_value)},
        "notes": found.notes,
        "outliers": np.flatnonzero(result.state.weight == 0).tolist(),
        "left_out": left_out(run),
        "scale": scale_figures(result.state.scale, result.state.weight),
        "background": background_of(run),
        "differ": differences(run),
        "populations": populations(result.state.members),
        "figures_of_merit": {name: value for each in run.records for name, value in each["figures"].items()},
        "resolution": verdict.summarise(result.certainty, result.diameter_angstrom),
        "looks": [each and asdict(each) for each in result.certainty.looks],
        "seconds": time_figures(run.records, clock),
        "peak_memory_mib": round(max(result.peak_memory_mib), 1),
        "peak_memory_mib_by_processor": [round(value, 1) for value in result.peak_memory_mib],
    }


def input_figures(run: Run) -> dict[str, Any]:
    """Return which patterns were reconstructed, how they were read, and how many pixels of them were used."""
    photons = run.result.findings.photons
    return {
        "file": str(run.data),
        "digest": run.dataset.digest,
        "patterns": len(run.dataset.images),
        "pixels": int((run.dataset.mask == 0).sum()),
        "panel_shape": list(run.dataset.panel_shape),
        "wavelength_angstrom": ewald_wavelength(run.dataset.q),
        "photons_per_pattern": photons if math.isfinite(photons) else None,
        "taken_for": run.dataset.taken_for,
        "remarks": list(run.dataset.remarks),
    }


def left_out(run: Run) -> dict[str, int]:
    """Return how many patterns were left out before the first generation, and how many since, for they fit nothing."""
    known = run.result.findings.weight > 0
    return {"before": int((~known).sum()), "since": int((known & (run.result.state.weight == 0)).sum())}


def background_of(run: Run) -> dict[str, Any]:
    """Return where the background came from, and how much of the mean pattern it is."""
    detector, state = run.experiment.detector, run.result.state
    q_length = np.linalg.norm(detector.q, axis=-1)
    used = detector.merged & (q_length <= run.result.q_max)
    source = "none"
    if run.experiment.findings.background_estimated:
        # Patterns that are all alike tell no background: that is not the same as finding none.
        told = state.background.any() or not alike(state.scale, state.weight)
        source = "estimated" if told else "none"
    elif known_background(run.dataset, run.settings.prepare) is not None:
        source = "file"
    return {"source": source, **background_figures(run.result.findings.mean, state.background, q_length, used)}


def differences(run: Run) -> dict[str, float | None]:
    """Return by how much patterns differ in size, in where the beam is, and in their background's amplitude.

    Standard deviations: of the logarithm of size, in pixels, and relative; None for what they are taken to share.
    """
    state, amplitude, detector = run.result.state, run.result.findings.amplitude, run.experiment.detector
    kept = state.weight > 0
    pixel = pixel_spacing(detector.q[detector.merged]) if state.shift_spread else 1.0
    spread = float(amplitude[kept].std()) if len(amplitude) == len(kept) else 0.0
    found = {"size": state.size_spread, "centre_pixels": state.shift_spread / pixel, "background": spread}
    return {name: value or None for name, value in found.items()}


def time_figures(records: list[Record], clock: Clock) -> dict[str, Any]:
    """Return the wall seconds of the run's parts, and by stage and generation."""
    by_generation = seconds_by(records, "generation")
    return {
        **{name: round(value, 3) for name, value in clock.seconds().items()},
        "stages": {name: round(value, 3) for name, value in seconds_by(records, "stage").items()},
        "generations": [round(by_generation[number], 3) for number in sorted(by_generation)],
    }
