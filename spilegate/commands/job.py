"""A reconstruction asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spilegate.commands.choice import ALL, Choice
from spilegate.records import Dataset
from spilegate.report import saving
from spilegate.report.files import CHECKPOINT, FINDINGS
from spilegate.settings import Settings


@dataclass(frozen=True)
class Job:
    """A reconstruction asked for: where from, where to, and how; `again` is the command line that resumes it.

    choice : what `--select` named; the numbers themselves are in the settings
    """

    data: Path
    folder: Path
    settings: Settings
    again: str = "spilegate reconstruct ... --resume"
    choice: Choice = ALL

    @property
    def checkpoint(self) -> Path:
        """Return where the checkpoint lies."""
        return self.folder / CHECKPOINT

    @property
    def findings(self) -> Path:
        """Return where lies what was found out about the patterns."""
        return self.folder / FINDINGS

    def attributes(self, dataset: Dataset) -> dict[str, Any]:
        """Return what a checkpoint says about the run it belongs to."""
        return saving.attributes(self.settings, dataset)
