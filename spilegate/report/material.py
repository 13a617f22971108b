"""What pictures are drawn from: the checkpoint of an output folder and what was found out about the patterns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spilegate.errors import InputError
from spilegate.findings import Findings
from spilegate.formats import record, summary
from spilegate.records import NEVER, Float64, State
from spilegate.report.files import CHECKPOINT, FINDINGS, SUMMARY
from spilegate.settings import Settings


@dataclass(frozen=True)
class Material:
    """What pictures are drawn from: a folder, its last checkpoint and, where needed, the findings about the patterns.

    findings : None where no picture needs them, and before the run's end, when there are no patterns among them
    found : the same before the run's end as well
    """

    folder: Path
    state: State
    settings: Settings
    findings: Findings | None
    found: Findings | None = None

    @property
    def when(self) -> str:
        """Return which generation this is, for titles."""
        return f"generation {self.state.generation}"

    @property
    def q_range(self) -> tuple[float, float]:
        """Return the |q| between which there are pixels that were merged, as far as known [1/angstrom]."""
        if self.found is None:
            return 0.0, q_max(self.folder) or 0.5 / self.state.voxel_angstrom
        length = np.linalg.norm(self.found.q[self.found.mask < NEVER], axis=-1)
        return float(length.min()), min(self.found.q_max, float(length.max()))

    @property
    def q_length(self) -> Float64:
        """Return |q| of every pixel (N_PIX,) [1/angstrom]; none without findings."""
        length: Float64 = np.linalg.norm(np.zeros((0, 3)) if self.findings is None else self.findings.q, axis=-1)
        return length


def q_max(folder: Path) -> float | None:
    """Return the largest q merged [1/angstrom] from the summary, None before there is one."""
    path = folder / SUMMARY
    return summary.read(path)[0].q_max_inverse_angstrom if path.is_file() else None


def load(folder: Path, *, patterns: bool) -> Material:
    """Return what pictures of a folder are drawn from.

    patterns : whether some picture shows patterns
    Raises InputError if the folder holds no checkpoint.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise InputError(f"{path}: not found; expected a folder written by spilegate reconstruct")
    state, attributes = record.load_record(path, State)
    settings = Settings.model_validate(record.settings_of(attributes, path))
    found = None
    if patterns and (folder / FINDINGS).is_file():
        found, _ = record.load_record(folder / FINDINGS, Findings)
    return Material(folder, state, settings, found if found is not None and len(found.shown) else None, found)
