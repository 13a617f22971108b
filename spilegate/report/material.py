"""What pictures are drawn from: the checkpoint of an output folder and, where needed, the patterns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from spilegate.errors import InputError
from spilegate.formats import record, spinifel, summary
from spilegate.geometry.calibration import DARKEST, brightness, pattern_sums
from spilegate.geometry.detector import Detector
from spilegate.geometry.zingers import Mended
from spilegate.kernels.workers import Threads, Workers
from spilegate.preparation import detector_of, without, without_hot_pixels, without_zingers
from spilegate.report.files import CHECKPOINT, SUMMARY
from spilegate.settings import Settings
from spilegate.state import NEVER, Bool, Dataset, Float64, State


@dataclass(frozen=True)
class Measured:
    """The patterns as the run read them, and what its last state says about the pixels.

    workers : who go through the patterns
    """

    dataset: Dataset
    settings: Settings
    state: State
    q_max: float
    workers: Workers

    @cached_property
    def mended(self) -> Mended:
        """Return the patterns as the run worked on them, without values that are hot in single ones."""
        options = self.settings.prepare
        return without_zingers(self.dataset, detector_of(self.dataset, options), options, self.workers)

    @cached_property
    def detector(self) -> Detector:
        """Return the pixels with the background found, without the hot ones."""
        state, mended = self.state, self.mended
        found = replace(detector_of(self.dataset, self.settings.prepare), background=state.background)
        scale, counts = np.maximum(state.scale, DARKEST), self.dataset.counts
        sound = without(found, mended.broken)
        return without_hot_pixels(mended.images, sound, scale, state.weight, self.workers, counts=counts)

    @cached_property
    def brightness(self) -> Float64:
        """Return the scales (N_IMG,) of the patterns by their counts alone."""
        used = self.used(self.detector.matched)
        sums = pattern_sums(self.mended.images, self.detector, used, workers=self.workers)
        dark = float(self.detector.background[used].sum())
        return brightness(sums, dark, self.state.weight, counts=self.dataset.counts)

    @property
    def q_length(self) -> Float64:
        """Return |q| of every pixel (N_PIX,) [1/angstrom]."""
        length: Float64 = np.linalg.norm(self.dataset.q, axis=-1)
        return length

    def used(self, pixels: Bool) -> Bool:
        """Return which of these pixels (N_PIX,) lie within the radius used."""
        return pixels & (self.q_length <= self.q_max)


@dataclass(frozen=True)
class Material:
    """What pictures are drawn from: the folder, the last checkpoint and, where needed, the patterns."""

    folder: Path
    state: State
    settings: Settings
    dataset: Dataset | None

    @property
    def when(self) -> str:
        """Return which generation this is, for titles."""
        return f"generation {self.state.generation}"

    @property
    def q_range(self) -> tuple[float, float]:
        """Return the |q| between which patterns were merged, as far as known [1/angstrom]."""
        q_last = q_max(self.folder) or 0.5 / self.state.voxel_angstrom
        if self.dataset is None:
            return 0.0, q_last
        q = np.linalg.norm(self.dataset.q[self.dataset.mask < NEVER], axis=-1)
        return float(q.min()), min(q_last, float(q.max()))

    @cached_property
    def measured(self) -> Measured | None:
        """Return the patterns as measured, None where they are not at hand."""
        if self.dataset is None:
            return None
        return Measured(self.dataset, self.settings, self.state, self.q_range[1], Threads(1))


def q_max(folder: Path) -> float | None:
    """Return the largest q merged [1/angstrom] from the summary, None before there is one."""
    path = folder / SUMMARY
    return summary.read(path)[0].q_max_inverse_angstrom if path.is_file() else None


def load(folder: Path, data: Path | None) -> Material:
    """Return what pictures of a folder are drawn from.

    data : the patterns, read as the run read them; None if no picture needs them
    Raises InputError if the folder holds no checkpoint or the patterns cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise InputError(f"{path}: not found; expected a folder written by spilegate reconstruct")
    state, attributes = record.load_record(path, State)
    settings = Settings.model_validate(record.settings_of(attributes, path))
    dataset = None
    if data is not None:
        limits = settings.prepare
        dataset = spinifel.read(data, binning=limits.binning, q_min=limits.q_min, q_max=limits.q_max)
    return Material(folder, state, settings, dataset)
