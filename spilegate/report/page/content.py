"""What a page is made of: the checkpoint, the summary once there is one, and the progress records of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spilegate.errors import InputError
from spilegate.formats import summary as summaries
from spilegate.records import State
from spilegate.report.files import SUMMARY
from spilegate.report.material import Material, load
from spilegate.report.progress import Record, read_records


@dataclass(frozen=True)
class Content:
    """What a page is made of.

    summary : what `summary.json` says, None before the end of this run
    records : the stages that have ended
    """

    folder: Path
    material: Material
    summary: dict[str, Any] | None
    records: list[Record]

    @property
    def state(self) -> State:
        """Return the last checkpoint's state."""
        return self.material.state

    @property
    def generations(self) -> int:
        """Return how many generations there are, as far as is known."""
        known: list[int] = [record["generations"] for record in self.records[-1:]]
        return max([self.state.generation, *known])

    def of_state(self, k: int) -> str:
        """Return ", state k" where there are several."""
        return f", state {k}" if len(self.state.density) > 1 else ""


def read(folder: Path) -> Content:
    """Return what the page of a folder is made of.

    Raises InputError if the folder holds no checkpoint, or a file of another run or version.
    """
    material = load(folder, patterns=True)
    records = read_records(folder, material.state.generation)
    return Content(folder, material, _summary(folder, material.state), records)


def _summary(folder: Path, state: State) -> dict[str, Any] | None:
    """Return the summary if it is of this state: that of a run that goes on is of an earlier one."""
    path = folder / SUMMARY
    if not path.is_file():
        return None
    try:
        whole = summaries.read(path)[1]
    except InputError:
        return None
    return whole if whole.get("generations") == state.generation else None
