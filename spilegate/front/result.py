"""A reconstruction as a notebook has it: what came out, how far it can be trusted, pictures, and saving."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from spilegate.errors import InputError
from spilegate.formats import files, record, results
from spilegate.formats import summary as summaries
from spilegate.formats.locks import Lock
from spilegate.front.page import Picture, page
from spilegate.records import Bool, Float32, Float64, State
from spilegate.report import saving
from spilegate.report.drawing import Drawing
from spilegate.report.files import CHECKPOINT, SUMMARY, read_curves
from spilegate.report.progress import FILE, Record, read_records
from spilegate.report.summary import Clock, Run

# Curves over shells of |q|: name to (q [1/angstrom], values), a dictionary for every conformation.
Curves = list[dict[str, tuple[Float64, Float64]]]
FIGURES = ("density", "intensity", "orientations", "convergence", "fsc")


@dataclass(frozen=True)
class Content:
    """What is large in a reconstruction: the last state, the curves of every conformation, the records of stages."""

    state: State
    curves: Curves
    records: list[Record]


@dataclass(frozen=True, repr=False, eq=False)
class Reconstruction:
    """What `reconstruct` returns and `load` reads: density, orientations, and how far they can be trusted.

    Capital letters: N_IMG patterns, K conformations, M voxels along an edge, N_SHELL shells of |q|.

    `verdict` : a sentence on the resolution, or why there is none; `resolution_angstrom` : None if there is none
    `density` : (M, M, M) float32 [arbitrary units], in (x, y, z) index order, centre at M // 2
    `densities` : (K, M, M, M), of all conformations
    `voxel_angstrom` : edge of a voxel; `diameter_angstrom` : of the particle; `q_max_inverse_angstrom` : used
    `orientations` : (N_IMG, 4) float64, unit quaternions (w, x, y, z), particle to laboratory
    `scales`, `weights`, `distances` : (N_IMG,) float64; a weight of 0 marks a pattern that was left out
    `curves` : "half_set", "half_set_plain", "prtf", each (q [1/angstrom], values), (N_SHELL,) both
    `figure(name)` : a picture; `save(folder)` : everything, as the command writes it
    summary : what `summary.json` says (`scripts/REFERENCE.md` explains it)
    name : where the patterns or the results came from
    content, finished : what `save` and the properties are made of; `finished` is None where it was loaded
    """

    summary: dict[str, Any]
    name: str
    content: Callable[[], Content]
    finished: tuple[Run, Clock] | None = field(default=None)

    def __repr__(self) -> str:
        """Say in a line what came out."""
        return f"<Reconstruction of {self.name}: {self.verdict}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the verdict, the density with its curves, a table."""
        from spilegate.front.pictures import density_picture

        told, left = self.summary, self.summary["left_out"]
        facts = {
            "diameter": f"{self.diameter_angstrom:.1f} Å, {'estimated' if told['diameter_estimated'] else 'given'}",
            "voxel": f"{self.voxel_angstrom:.2f} Å, {told['size']} along an edge",
            "data to": f"{1 / self.q_max_inverse_angstrom:.3g} Å",
            "patterns": f"{told['input']['patterns']}, {sum(left.values())} of them left out",
            "conformations": len(told["populations"]) if len(told["populations"]) > 1 else None,
            "generations": f"{told['generations']}, {'converged' if told['converged'] else told['convergence']}",
            "time": f"{told['seconds']['total']:.1f} s",
            "seed, version": f"{told['seed']}, {told['version']}",
        }
        curves = self.all_curves[0] if self.all_curves else None
        picture = Picture(density_picture(self.density, self.voxel_angstrom, curves))
        return page(self.verdict, facts, picture, "central slices of the density, curves of agreement over q")

    @cached_property
    def _content(self) -> Content:
        return self.content()

    @property
    def state(self) -> State:
        """Return the last state of the run, `spilegate.State`: all that a checkpoint holds."""
        return self._content.state

    @property
    def verdict(self) -> str:
        """Return the sentence on the resolution that a run ends with."""
        return str(self.summary["resolution"]["verdict"])

    @property
    def resolution_angstrom(self) -> float | None:
        """Return the resolution that can be stated [angstrom], None if none can."""
        found = self.summary["resolution"]["resolution_angstrom"]
        return None if found is None else float(found)

    @property
    def diameter_angstrom(self) -> float:
        """Return the largest diameter of the particle that was used [angstrom]."""
        return float(self.summary["diameter_angstrom"])

    @property
    def q_max_inverse_angstrom(self) -> float:
        """Return the largest |q| matched and merged [1/angstrom]."""
        return float(self.summary["q_max_inverse_angstrom"])

    @property
    def voxel_angstrom(self) -> float:
        """Return the edge of a voxel [angstrom]."""
        return float(self.summary["voxel_angstrom"])

    @property
    def densities(self) -> Float32:
        """Return the density of every conformation, (K, M, M, M) float32 [arbitrary units]."""
        return self.state.density

    @property
    def density(self) -> Float32:
        """Return the density of the first conformation, (M, M, M) float32 [arbitrary units]."""
        first: Float32 = self.state.density[0]
        return first

    @property
    def support(self) -> Bool:
        """Return where the density of the first conformation may be non-zero, (M, M, M) bool."""
        first: Bool = self.state.support[0]
        return first

    @property
    def orientations(self) -> Float64:
        """Return a unit quaternion (w, x, y, z) for every pattern, particle to laboratory, (N_IMG, 4) float64."""
        return self.state.quaternions

    @property
    def scales(self) -> Float64:
        """Return how bright every pattern is, (N_IMG,) float64 of mean 1."""
        return self.state.scale

    @property
    def weights(self) -> Float64:
        """Return the weight of every pattern, (N_IMG,) float64; 0 for what was left out."""
        return self.state.weight

    @property
    def distances(self) -> Float64:
        """Return the misfit of every pattern to its slice, (N_IMG,) float64: 0 is perfect, 1 as bad as the mean."""
        return self.state.distance

    @property
    def curves(self) -> dict[str, tuple[Float64, Float64]]:
        """Return the curves of the first conformation: name to (q [1/angstrom], values), (N_SHELL,) float64 each."""
        return dict(self.all_curves[0]) if self.all_curves else {}

    @property
    def records(self) -> list[Record]:
        """Return what every stage came to, as the lines of `progress.jsonl`."""
        return self._content.records

    @property
    def all_curves(self) -> Curves:
        """Return the curves of every conformation."""
        return self._content.curves

    def figure(self, name: str = "density") -> Picture:
        """Return a picture: "density", "intensity", "orientations", "convergence" or "fsc".

        Raises
        ------
        InputError
            for any other name, and for "fsc" where no curve was measured

        Examples
        --------
        >>> result.figure("fsc").save(folder / "fsc.png").name
        'fsc.png'
        """
        from spilegate.front.figures import figure

        if name not in FIGURES:
            raise InputError(f"figure {name!r}: not a picture; expected one of {', '.join(FIGURES)}")
        return Picture(figure(self, name))

    def save(self, folder: str | Path, *, force: bool = False, pictures: bool = True) -> Path:
        """Write everything into a folder, as `spilegate reconstruct` does, and return its path.

        Parameters
        ----------
        folder
            a new or empty one; made if it is not there
        force
            overwrite what an earlier run left there, and nothing else
        pictures
            draw them too, which takes a few seconds

        Raises
        ------
        InputError
            if the folder is in use, not empty, or cannot be written; or the reconstruction was itself loaded

        Examples
        --------
        >>> out = result.save(folder / "out", pictures=False)
        >>> sorted(path.name for path in out.glob("density*"))
        ['density.mrc']
        >>> sg.load(out).verdict == result.verdict
        True
        """
        folder, finished = Path(folder), self.finished
        if finished is None:
            raise InputError(f"{self.name}: loaded from a folder; expected a new run; copy the folder")
        run, clock = finished
        with Lock(folder, f"folder {folder}") as lock:
            results.claim_output(folder, lock=lock, force=force, resume=False)
            lines = "".join(json.dumps(each) + "\n" for each in run.records)
            files.replace(folder / FILE, lines.encode())
            clock.go_on()
            saving.write(folder, run, clock)
            if pictures:
                with Drawing(folder) as drawing:
                    problem = drawing.finish()
                if problem:
                    raise InputError(f"{folder}: the results are there, but not all pictures: {problem}")
        return folder


def load(folder: str | Path) -> Reconstruction:
    """Read a reconstruction from the folder that `spilegate reconstruct`, or `save`, wrote.

    Parameters
    ----------
    folder
        of a finished run; only its summary is read at once, the rest when it is asked for

    Returns
    -------
    Reconstruction
        as `reconstruct` returned it

    Raises
    ------
    InputError
        if the folder holds no finished reconstruction

    Examples
    --------
    >>> sg.load(folder / "saved").density.shape == result.density.shape
    True
    """
    folder = Path(folder)
    _, summary = summaries.held_against(folder / SUMMARY, summaries.Told)

    def content() -> Content:
        state, _ = record.load_record(folder / CHECKPOINT, State)
        curves: Curves = []
        while of_state := read_curves(folder, len(curves)):
            curves.append(of_state)
        return Content(state, curves, read_records(folder))

    return Reconstruction(summary, str(folder), content)
