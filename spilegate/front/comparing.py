"""`spilegate.evaluate`: a reconstruction against the truth in a program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spilegate.errors import InputError
from spilegate.evaluation import figures
from spilegate.evaluation.truth import Reference, load_reference
from spilegate.front.page import Picture, page
from spilegate.front.result import Reconstruction, load
from spilegate.kernels.launch import available_cores
from spilegate.records import Float64
from spilegate.simulation.experiment import Simulation


@dataclass(frozen=True, repr=False, eq=False)
class Evaluation:
    """How a reconstruction compares with the truth; None where the reference does not tell.

    correlation : Pearson's, of both densities after the best rotation, hand and shift, over a ball that holds the truth
    resolution_angstrom : where the Fourier shell correlation first falls below 0.5 [angstrom]
    hand : "same", or "inverted" where the mirror image fits, which intensities do not tell
    orientation_error_deg : "median", "mean" [degrees], "fraction_within_12" ... after the best global rotation
    figures : all of it by name, as `evaluation` in `summary.json`
    curve : (q [1/angstrom], Fourier shell correlation), (N_SHELL,) float64 each
    """

    figures: dict[str, Any]
    curve: tuple[Float64, Float64] | None
    q_max_inverse_angstrom: float

    @property
    def correlation(self) -> float | None:
        """Return the correlation of the densities."""
        found = self.figures["correlation"]
        return None if found is None else float(found)

    @property
    def resolution_angstrom(self) -> float | None:
        """Return where the Fourier shell correlation first falls below 0.5 [angstrom], None if it is nowhere above."""
        found = self.figures["resolution_angstrom"]
        return None if found is None else float(found)

    @property
    def hand(self) -> str | None:
        """Return "same" or "inverted"."""
        found = self.figures["hand"]
        return None if found is None else str(found)

    @property
    def orientation_error_deg(self) -> dict[str, float] | None:
        """Return errors of orientations by name [degrees]."""
        found: dict[str, float] | None = self.figures["orientation_error_deg"]
        return found

    def figure(self) -> Picture:
        """Return a picture of the Fourier shell correlation. Raises InputError where there is no true density."""
        from spilegate.report.curves import fsc_figure
        from spilegate.report.style import drawing

        if self.curve is None:
            raise InputError("figure: the reference has no density; expected one; there is no curve to draw")
        with drawing():
            picture = fsc_figure({"reference": self.curve}, self.q_max_inverse_angstrom, "Fourier shell correlation")
        return Picture(picture)

    def __repr__(self) -> str:
        """Say the figures in a line."""
        return f"<Evaluation: {figures.in_words(self.figures)}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        picture = None if self.curve is None else self.figure()
        return page(figures.in_words(self.figures), {}, picture, "Fourier shell correlation against the truth")


def evaluate(
    result: Reconstruction | str | Path,
    reference: str | Path | Simulation,
    *,
    assembly: str | None = None,
    threads: int | None = None,
) -> Evaluation:
    """Compare a reconstruction with the truth: density, orientations, conformations, junk, as far as it is known.

    The density is aligned by rotation, hand and shift first; orientations that a symmetry makes equal count as equal.
    Nothing is written: `spilegate evaluate` keeps the figures in the folder. Fourier shell correlation: M. van Heel,
    Ultramicroscopy 21:95 (1987).

    Parameters
    ----------
    result
        what `reconstruct` or `load` returned, or the folder of a finished run
    reference
        a map (.mrc), atoms (.pdb, .cif), simulated patterns (.h5), or what `simulate` returned
    assembly, threads
        which copies of a file's atoms make the particle; all cores if left out

    Returns
    -------
    Evaluation
        `.correlation`, `.resolution_angstrom` (FSC 0.5), `.orientation_error_deg`, `.curve` ...

    Raises
    ------
    InputError
        for a reference that cannot be read, or is of other patterns

    Examples
    --------
    >>> found = sg.evaluate(result, simulation)
    >>> sorted(found.orientation_error_deg)[:2], found.curve[0].shape == found.curve[1].shape
    (['fraction_within_12', 'half_turned'], True)
    """
    if not isinstance(result, Reconstruction):
        result = load(result)
    cores = threads or available_cores()
    if isinstance(reference, Simulation):
        name, truth = reference.particle, of_simulation(reference)
    else:
        name, path = str(reference), Path(reference)
        truth = load_reference(path, len(result.density), result.voxel_angstrom, assembly=assembly, threads=cores)
    state = result.state
    found = figures.Found(
        result.name,
        list(state.density),
        result.voxel_angstrom,
        lambda: (state.quaternions, state.state, state.weight > 0),
        lambda: (state.size, state.shift) if len(state.size) else None,
        result.q_max_inverse_angstrom,
        str(result.summary["settings"].get("symmetry", "C1")),
    )
    measured, matches = figures.measure(found, truth, name, threads=cores)
    curve = (matches[0].curve.q, matches[0].curve.correlation) if matches else None
    return Evaluation({**figures.NOT_EVALUATED, **measured}, curve, result.q_max_inverse_angstrom)


def of_simulation(simulation: Simulation) -> Reference:
    """Return the truth of simulated patterns."""
    hidden = simulation.hidden
    volumes = [simulation.volume] if hidden is None else list(hidden.volumes)
    state = None if hidden is None else hidden.state
    return Reference(volumes, simulation.voxel_angstrom, simulation.quaternions, state)
