"""A run followed from a program: a function that is called once a generation with a small readable record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spilegate.front.page import Picture, page
from spilegate.records import Float32, Progress, State
from spilegate.report.display import LABELS, number
from spilegate.report.progress import Record, as_record


@dataclass(frozen=True, repr=False)
class Generation:
    """What `reconstruct` calls back with, once a generation.

    Attributes
    ----------
    number, generations : int
        which one, from 1, the blind start, of how many there will be as far as is known
    half : int
        0 for the reconstruction of all patterns; 1 and 2 for those of their halves, which follow it and serve the
        statement of a resolution
    last : bool
        whether it is the last one of these patterns
    seconds : float
        wall time that it took
    figures : dict[str, float]
        what tells whether the run converges, as in `progress.jsonl`: `mean_distance`, `moved`, `merge_residual`,
        `phasing_r` ...
    q_max_inverse_angstrom : float
        up to which |q| patterns were matched [1/angstrom]
    voxel_angstrom : float
        edge of a voxel of the density [angstrom]
    densities : (K, M, M, M) float32 [arbitrary units]
        of the K conformations, in (x, y, z) index order, the centre at M // 2; a view, read only: copy what is to be
        kept. Zeros before the first phasing.
    """

    number: int
    generations: int
    half: int
    last: bool
    seconds: float
    figures: dict[str, float]
    q_max_inverse_angstrom: float
    voxel_angstrom: float
    densities: Float32

    @property
    def density(self) -> Float32:
        """Return the density of the first conformation, (M, M, M) float32, read only."""
        first: Float32 = self.densities[0]
        return first

    def __repr__(self) -> str:
        """Say in a line how far the run is."""
        told = ", ".join(
            f"{LABELS[name]} {number(self.figures[name])}"
            for name in ("mean_distance", "moved", "merge_residual", "phasing_r")
            if name in self.figures
        )
        part = f"half {self.half} of 2, " if self.half else ""
        reach = f"to {1 / self.q_max_inverse_angstrom:.3g} Å"
        return f"{part}generation {self.number} of {self.generations}: {reach}, {told}, {self.seconds:.1f} s"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the density so far."""
        from spilegate.front.pictures import density_picture

        picture = Picture(density_picture(self.density, self.voxel_angstrom)) if self.density.any() else None
        return page(repr(self), {}, picture, "central slices of the density")


Callback = Callable[[Generation], object]


class Follower:
    """The `Watcher` of a run that was started by a program: it keeps the records and calls back."""

    def __init__(self, callback: Callback | None, half: int = 0) -> None:
        self.records: list[Record] = []
        self._callback, self._half = callback, half

    def begin(self, generation: int, generations: int, stage: str) -> None:
        """Do nothing: it is generations that are told of."""

    def stage(self, progress: Progress) -> None:
        """Keep what a stage came to."""
        self.records.append(as_record(progress))

    def generation(self, state: State, *, last: bool) -> None:
        """Call back with what a generation came to."""
        if self._callback is None:
            return
        own = [record for record in self.records if record["generation"] == state.generation]
        densities = state.density.view()
        densities.flags.writeable = False
        figures = {name: value for record in own for name, value in record["figures"].items()}
        reached = float(state.history[-1, 0]) if len(state.history) else figures.get("q_max")
        self._callback(
            Generation(
                number=state.generation,
                generations=max((record["generations"] for record in own), default=state.generation),
                half=self._half,
                last=last,
                seconds=sum(record["seconds"] for record in own),
                figures=figures,
                q_max_inverse_angstrom=reached or 0.5 / state.voxel_angstrom,
                voxel_angstrom=state.voxel_angstrom,
                densities=densities,
            )
        )

    def half(self, number: int) -> Follower:
        """Return who follows the reconstruction of a half."""
        return Follower(self._callback, number)
